"""Focal losses: independent decisions through the sigmoid, exclusive classes through the softmax.

Source of the loss: Lin, Goyal, Girshick, He and Dollár, "Focal Loss for Dense Object Detection",
ICCV 2017, https://arxiv.org/abs/1708.02002.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from imbalanced_losses import _checks
from imbalanced_losses._ops.focal import (
    sigmoid_focal,
    softmax_focal,
    softmax_focal_expected,
)
from imbalanced_losses.losses._cells import (
    binary_cells,
    class_targets,
    not_background,
    per_class,
)
from imbalanced_losses.losses._module import Setting
from imbalanced_losses.losses._pointwise import (
    Cells,
    Criterion,
    PointwiseLoss,
    PointwiseSettings,
    pointwise_loss,
)

__all__ = ["SigmoidFocalLoss", "SoftmaxFocalLoss", "sigmoid_focal_loss", "softmax_focal_loss"]

_LEAST_INDEX = torch.iinfo(torch.int64).min


@dataclass(frozen=True, eq=False)
class SigmoidFocal(Criterion):
    """alpha_t |t - p|^gamma BCE of every cell."""

    alpha: Any = 0.25  # from any number or vector to a float, a tensor or None
    gamma: float = 2.0
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        if _is_vector(self.alpha):
            weights = _checks.class_vector("alpha", self.alpha, per="label", at_most=1)
            _checks.settle(self, alpha=weights)
        elif self.alpha is not None:
            alpha = _checks.number("alpha", self.alpha)
            if alpha != -1:
                _checks.number("alpha", alpha, at_least=0, at_most=1)
            _checks.settle(self, alpha=alpha)
        _checks.settle(self, gamma=_checks.number("gamma", self.gamma, at_least=0))
        if self.ignore_index is not None:
            index = _checks.integer("ignore_index", self.ignore_index, at_least=_LEAST_INDEX)
            _checks.settle(self, ignore_index=index)

    def cells(self, logits: Tensor, targets: Tensor, *, total: bool) -> Cells:
        """Losses of the targets' shape, or their sum."""
        logits, targets, valid = binary_cells(logits, targets, self.ignore_index)
        count = logits.numel()
        alpha = self.alpha
        if isinstance(alpha, Tensor):
            _checks.one_per_class("alpha", alpha, logits)
            alpha = per_class(alpha, logits)
        elif alpha == -1:
            alpha = None
        if valid is None:
            value = sigmoid_focal(logits, targets, alpha, self.gamma, total=total)
            return Cells(value, None, count)
        value = sigmoid_focal(logits, targets, alpha, self.gamma)
        return Cells(value.masked_fill(~valid, 0), valid, count)

    def positive(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The targets themselves."""
        return targets.detach()


def _is_vector(alpha: object) -> bool:
    return isinstance(alpha, list | tuple) or getattr(alpha, "ndim", 0) > 0


@dataclass(frozen=True, eq=False)
class SoftmaxFocal(Criterion):
    """alpha[y] (1 - p_y)^gamma CE of every position."""

    alpha: Any = None  # from any vector to a tensor or None
    gamma: float = 2.0
    label_smoothing: float = 0.0
    ignore_index: int = -100
    background_class: int = 0

    def __post_init__(self) -> None:
        number, integer = _checks.number, _checks.integer
        _checks.settle(
            self,
            alpha=None if self.alpha is None else _checks.class_vector("alpha", self.alpha),
            gamma=number("gamma", self.gamma, at_least=0),
            label_smoothing=number("label_smoothing", self.label_smoothing, at_least=0, at_most=1),
            ignore_index=integer("ignore_index", self.ignore_index, at_least=_LEAST_INDEX),
            background_class=integer("background_class", self.background_class, at_least=0),
        )

    def cells(self, logits: Tensor, targets: Tensor, *, total: bool) -> Cells:
        """Losses `[N, d1, ...]`, or their sum."""
        classes, shape = _checks.class_logits(logits)
        alpha = self.alpha
        if alpha is not None:
            _checks.one_per_class("alpha", alpha, logits)
            alpha = per_class(alpha, logits)
        target, valid = class_targets(logits, targets, self.ignore_index)
        if target.is_floating_point():
            value = softmax_focal_expected(logits, target, alpha, self.gamma, self.label_smoothing)
            return Cells(value, None, shape.numel(), classes)
        if self.label_smoothing == 0:
            total = total and alpha is None
            value = softmax_focal(logits, target, valid, self.gamma, total=total)
        else:
            if valid is not None:
                logits = logits.masked_fill(~valid.unsqueeze(1), 0)
            one_hot = torch.zeros_like(logits).scatter(1, target.unsqueeze(1), 1)
            value = softmax_focal_expected(logits, one_hot, None, self.gamma, self.label_smoothing)
            if valid is not None:
                value = value.masked_fill(~valid, 0)
        if alpha is not None:
            value = value * alpha.view(-1)[target]
        return Cells(value, valid, shape.numel(), classes)

    def positive(self, logits: Tensor, targets: Tensor) -> Tensor:
        """How much of each target is not background: 0 or 1 for class indices."""
        classes = logits.shape[1]
        if self.background_class >= classes:
            raise ValueError(
                f"background_class must be below the number of classes, {classes}; "
                f"got {self.background_class}."
            )
        return not_background(targets, self.background_class)


def sigmoid_focal_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    alpha: float | Tensor | Sequence[float] | Any | None = 0.25,
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
        alpha: Weight of positives in [0, 1], with 1 - alpha for negatives; or a list, array or
            tensor of one such weight per label, for logits `[N, L, ...]`. None or -1: no weights.
        gamma: Focus on cells that are still wrong, >= 0.
        reduction: `"none"`, `"sum"`, `"mean"` over valid cells, or `"mean_positive"`: the sum over
            all valid cells divided by the sum of their targets, at least 1.
        ignore_index: Cells with this target add no loss, no gradient and nothing to a mean.
        sample_weight: Finite weights >= 0, one per cell (shape of the targets) or one per row
            (`[N]` or `[N, 1, ...]`). Nothing else is broadcast. A mean divides by the weights of
            the cells that it counts. A constant.
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

    Examples:
        >>> import torch
        >>> from imbalanced_losses.functional import sigmoid_focal_loss
        >>> sigmoid_focal_loss(torch.tensor([2.0, -1.0]), torch.tensor([1, 0]), gamma=0.0)
        tensor(0.1333)
    """
    return pointwise_loss(
        SigmoidFocal(alpha, gamma, ignore_index),
        PointwiseSettings(reduction, gather_distributed),
        logits,
        targets,
        sample_weight,
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
            sample (`[N]` or, of dense targets, `[N, 1, ...]`: for all its positions). A mean
            divides by the weights of the positions that it counts. A constant.
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

    Examples:
        >>> import torch
        >>> from imbalanced_losses.functional import softmax_focal_loss
        >>> logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        >>> softmax_focal_loss(logits, torch.tensor([0, 2]), alpha=[0.5, 1.0, 2.0])
        tensor(0.9662)
    """
    return pointwise_loss(
        SoftmaxFocal(alpha, gamma, label_smoothing, ignore_index, background_class),
        PointwiseSettings(reduction, gather_distributed),
        logits,
        targets,
        sample_weight,
    )


class SigmoidFocalLoss(PointwiseLoss):
    """`sigmoid_focal_loss` with its settings: binary or multi-label focal loss.

    Args:
        alpha: Weight of positives in [0, 1], with 1 - alpha for negatives; or a list, array or
            tensor of one such weight per label, for logits `[N, L, ...]`. None or -1: no weights.
        gamma: Focus on cells that are still wrong, >= 0.
        reduction: `"none"`, `"sum"`, `"mean"` or `"mean_positive"`.
        gather_distributed: None sums over the ranks whenever a process group of several is live
            at the call, True raises where there is none, False stays local.
        ignore_index: Cells with this target do not count.

    Raises:
        TypeError: For a setting of a wrong type.
        ValueError: For a setting out of range.

    Examples:
        >>> import torch
        >>> from imbalanced_losses import SigmoidFocalLoss
        >>> loss_fn = SigmoidFocalLoss(alpha=0.75)
        >>> loss_fn(torch.tensor([[2.0, -1.0]]), torch.tensor([[1, 0]]))
        tensor(0.0035)
    """

    alpha = Setting["float | Tensor | None"]("criterion")
    gamma = Setting[float]("criterion")
    ignore_index = Setting["int | None"]("criterion")

    def __init__(
        self,
        alpha: float | Tensor | Sequence[float] | Any | None = 0.25,
        gamma: float = 2.0,
        reduction: str = "mean",
        gather_distributed: bool | None = None,
        *,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(
            SigmoidFocal(alpha, gamma, ignore_index),
            reduction=reduction,
            gather_distributed=gather_distributed,
        )


class SoftmaxFocalLoss(PointwiseLoss):
    """`softmax_focal_loss` with its settings: focal loss of mutually exclusive classes.

    Args:
        alpha: One weight >= 0 per class, as a list, array or tensor; None: no weights. Moves with
            the module and, being a setting, stays out of `state_dict`.
        gamma: Focus on positions that are still wrong, >= 0.
        reduction: `"none"`, `"sum"`, `"mean"` or `"mean_positive"`.
        label_smoothing: Share of the target spread evenly over all classes, in [0, 1].
        ignore_index: Positions of this class index do not count.
        background_class: The class that `"mean_positive"` does not count.
        gather_distributed: None sums over the ranks whenever a process group of several is live
            at the call, True raises where there is none, False stays local.

    Raises:
        TypeError: For a setting of a wrong type.
        ValueError: For a setting out of range.

    Examples:
        >>> import torch
        >>> from imbalanced_losses import SoftmaxFocalLoss
        >>> loss_fn = SoftmaxFocalLoss(alpha=[0.5, 1.0, 2.0])
        >>> loss_fn(torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), torch.tensor([0, 2]))
        tensor(0.9662)
    """

    alpha = Setting["Tensor | None"]("criterion")
    gamma = Setting[float]("criterion")
    label_smoothing = Setting[float]("criterion")
    ignore_index = Setting[int]("criterion")
    background_class = Setting[int]("criterion")

    def __init__(
        self,
        alpha: Tensor | Sequence[float] | Any | None = None,
        gamma: float = 2.0,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        ignore_index: int = -100,
        background_class: int = 0,
        gather_distributed: bool | None = None,
    ) -> None:
        super().__init__(
            SoftmaxFocal(alpha, gamma, label_smoothing, ignore_index, background_class),
            reduction=reduction,
            gather_distributed=gather_distributed,
        )
