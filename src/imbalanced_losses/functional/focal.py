"""The focal losses of one batch.

Source of the loss: Lin, Goyal, Girshick, He and Dollár, "Focal Loss for Dense Object Detection",
ICCV 2017.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from imbalanced_losses import _checks
from imbalanced_losses._reduce import reduce_cells
from imbalanced_losses._statistics.focal import (
    cell_weights,
    class_weight_vector,
    positive_share,
    sigmoid_focal_cells,
    softmax_focal_cells,
)
from imbalanced_losses.distributed import describe, failing_together, resolve_gather

_REDUCTIONS = ("none", "mean", "sum", "mean_positive")
_LEAST_INDEX = torch.iinfo(torch.int64).min


def sigmoid_focal_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    reduction: str = "mean",
    ignore_index: int | None = None,
    sample_weight: Tensor | None = None,
    gather_distributed: bool | None = False,
) -> Tensor:
    """Focal loss of independent binary decisions.

    With p = sigmoid(logit) and target t, every cell costs

        alpha_t * |t - p|^gamma * BCE(p, t),    alpha_t = alpha * t + (1 - alpha) * (1 - t),

    which for hard targets is the loss of Lin et al., "Focal Loss for Dense Object Detection",
    ICCV 2017; soft ones weigh by |t - p| as in Li et al., "Generalized Focal Loss", NeurIPS 2020.
    (With gamma < 1 the slope at a soft target is unbounded; at p = t exactly it is taken as 0.)
    `gamma=0, alpha=None` is `torch.nn.functional.binary_cross_entropy_with_logits`.

    Args:
        logits: Any shape, any floating dtype; computed in float32 or better.
        targets: The shape of the logits; float, int or bool in [0, 1]. A constant: no gradient.
        alpha: Weight of positives in [0, 1], with 1 - alpha for negatives; None or -1: no weights.
        gamma: Focus on cells that are still wrong, >= 0.
        reduction: `"none"`, `"sum"`, `"mean"` over valid cells, or `"mean_positive"`: the sum over
            all valid cells divided by the sum of their targets, at least 1.
        ignore_index: Cells with this target add no loss, no gradient and nothing to a mean.
        sample_weight: Finite weights >= 0, one per cell (shape of the targets) or one per row
            (`[N]`). A mean divides by the weights of the cells that it counts. A constant.
        gather_distributed: Sum over the ranks of the process group before dividing. True needs a
            group, None uses one if there is one, False stays local.

    Returns:
        A scalar, or the shape of the logits for `"none"`; float32, or float64 for float64 logits.
        Nothing valid: zero, attached to the graph.

    Raises:
        TypeError: For logits that are not floating point or arguments of a wrong type.
        ValueError: For mismatched shapes, numbers out of range and, on a CPU in eager mode,
            targets outside [0, 1]; on CUDA those fail in an asynchronous device assert.
        RuntimeError: If `gather_distributed=True` and there is no process group.

    Example:
        >>> import torch
        >>> from imbalanced_losses.functional import sigmoid_focal_loss
        >>> sigmoid_focal_loss(torch.tensor([2.0, -1.0]), torch.tensor([1, 0]), gamma=0.0)
        tensor(0.1333)
    """
    check_sigmoid_settings(alpha, gamma, reduction, ignore_index, gather_distributed)
    weigh = None if alpha is None or alpha == -1 else alpha
    gathers = resolve_gather(gather_distributed) and reduction != "none"
    with failing_together(logits) if gathers else nullcontext():
        cells, valid = sigmoid_focal_cells(
            logits,
            targets,
            alpha=weigh,
            gamma=gamma,
            ignore_index=ignore_index,
            total=reduction != "none" and sample_weight is None,
        )
        weight = None if sample_weight is None else cell_weights(sample_weight, cells)
    call = None
    if gathers:
        call = describe("sigmoid_focal_loss", logits.dtype, ["..."], sample_weight=weight)
    return reduce_cells(
        cells,
        reduction,
        logits.numel(),
        valid=valid,
        weight=weight,
        positive=targets.detach() if reduction == "mean_positive" else None,
        call=call,
    )


def softmax_focal_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    alpha: Tensor | Sequence[float] | Any | None = None,
    gamma: float = 2.0,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    background_class: int = 0,
    sample_weight: Tensor | None = None,
    gather_distributed: bool | None = False,
) -> Tensor:
    """Focal loss of mutually exclusive classes.

    With p = softmax(logits) over dimension 1, a position of class y costs

        alpha[y] * (1 - p_y)^gamma * CE(logits, y; label_smoothing),

    after Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017. p_y and the cross-entropy
    are unweighted. Class probabilities cost the mean of this over y drawn from them, so mixed
    labels cost the mix of the losses. `gamma=0, alpha=None` is
    `torch.nn.functional.cross_entropy`.

    Args:
        logits: `[N, C]` or `[N, C, d1, ...]`, any floating dtype; computed in float32 or better.
        targets: Class indices `[N]` or `[N, d1, ...]` of an integer dtype, or class probabilities
            of the logits' shape and a floating dtype. A constant: no gradient.
        alpha: One weight >= 0 per class, as a list, array or tensor; None: no weights.
        gamma: Focus on positions that are still wrong, >= 0.
        reduction: `"none"`, `"sum"`, `"mean"` over valid positions (their count, not the sum of
            their class weights), or `"mean_positive"`: the sum over all valid positions divided by
            the number of those that are not background, at least 1.
        label_smoothing: Share of the target spread evenly over all classes, in [0, 1].
        ignore_index: Positions of this class index add no loss, no gradient and nothing to a mean.
        background_class: The class that `"mean_positive"` does not count. Class probabilities
            count with what they leave to the other classes.
        sample_weight: Finite weights >= 0, one per position (shape of class indices) or one per
            sample (`[N]`, for all its positions). A mean divides by the weights of the positions
            that it counts. A constant.
        gather_distributed: Sum over the ranks of the process group before dividing. True needs a
            group, None uses one if there is one, False stays local.

    Returns:
        A scalar, or `[N, d1, ...]` for `"none"`; float32, or float64 for float64 logits.
        Nothing valid: zero, attached to the graph.

    Raises:
        TypeError: For logits that are not floating point or arguments of a wrong type.
        ValueError: For mismatched shapes, numbers out of range and, on a CPU in eager mode, class
            indices outside [0, C) or probabilities that are none; on CUDA those fail in an
            asynchronous device assert.
        RuntimeError: If `gather_distributed=True` and there is no process group.

    Example:
        >>> import torch
        >>> from imbalanced_losses.functional import softmax_focal_loss
        >>> logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        >>> softmax_focal_loss(logits, torch.tensor([0, 2]), alpha=[0.5, 1.0, 2.0])
        tensor(0.9662)
    """
    check_softmax_settings(
        gamma, reduction, label_smoothing, ignore_index, background_class, gather_distributed
    )
    gathers = resolve_gather(gather_distributed) and reduction != "none"
    with failing_together(logits) if gathers else nullcontext():
        cells, valid = softmax_focal_cells(
            logits,
            targets,
            alpha=None if alpha is None else class_weight_vector(alpha),
            gamma=gamma,
            label_smoothing=label_smoothing,
            ignore_index=ignore_index,
            total=reduction != "none" and sample_weight is None,
        )
        weight = None if sample_weight is None else cell_weights(sample_weight, cells)
        positive = None
        if reduction == "mean_positive":
            positive = positive_share(targets, background_class, logits.shape[1])
    call = None
    if gathers:
        classes = logits.shape[1]
        call = describe("softmax_focal_loss", logits.dtype, [classes], sample_weight=weight)
    return reduce_cells(
        cells,
        reduction,
        logits.numel() // logits.shape[1],
        valid=valid,
        weight=weight,
        positive=positive,
        call=call,
    )


def _check_settings(gamma: float, reduction: str, gather_distributed: bool | None) -> None:
    _checks.number("gamma", gamma, at_least=0)
    _checks.one_of("reduction", reduction, _REDUCTIONS)
    _checks.flag("gather_distributed", gather_distributed, optional=True)


def check_sigmoid_settings(
    alpha: float | None,
    gamma: float,
    reduction: str,
    ignore_index: int | None,
    gather_distributed: bool | None,
) -> None:
    """Raise unless these are settings of `sigmoid_focal_loss`."""
    _check_settings(gamma, reduction, gather_distributed)
    if alpha is not None and alpha != -1:
        _checks.number("alpha", alpha, at_least=0, at_most=1)
    if ignore_index is not None:
        _checks.integer("ignore_index", ignore_index, at_least=_LEAST_INDEX)


def check_softmax_settings(
    gamma: float,
    reduction: str,
    label_smoothing: float,
    ignore_index: int,
    background_class: int,
    gather_distributed: bool | None,
) -> None:
    """Raise unless these are settings of `softmax_focal_loss`."""
    _check_settings(gamma, reduction, gather_distributed)
    _checks.number("label_smoothing", label_smoothing, at_least=0, at_most=1)
    _checks.integer("ignore_index", ignore_index, at_least=_LEAST_INDEX)
    _checks.integer("background_class", background_class, at_least=0)
