"""LDAM: cross-entropy with a margin that is larger for rarer classes.

Source: Cao, Wei, Gaidon, Arechiga and Ma, "Learning Imbalanced Datasets with
Label-Distribution-Aware Margin Loss", NeurIPS 2019, https://arxiv.org/abs/1906.07413.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from imbalanced_losses import _checks
from imbalanced_losses._ops.focal import log_one_minus
from imbalanced_losses.losses._cells import (
    class_scores,
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

__all__ = ["LDAMLoss", "ldam_loss"]


@dataclass(frozen=True, eq=False)
class LDAM(Criterion):
    """weight[y] CE(scale (z - margin[y] at y), y) of every position."""

    class_counts: Any
    max_margin: float = 0.5
    scale: float = 30.0
    weight: Any = None
    ignore_index: int = -100

    def __post_init__(self) -> None:
        counts = _checks.class_masses("class_counts", self.class_counts)
        weight = None if self.weight is None else _checks.class_vector("weight", self.weight)
        if weight is not None and weight.shape != counts.shape:
            raise ValueError(
                f"weight must hold one weight per class: it has {weight.numel()}, class_counts "
                f"has {counts.numel()}."
            )
        _checks.settle(
            self,
            class_counts=counts,
            max_margin=_checks.number("max_margin", self.max_margin, at_least=0),
            scale=_checks.number("scale", self.scale, above=0),
            weight=weight,
            ignore_index=_checks.integer("ignore_index", self.ignore_index),
        )

    def cells(self, logits: Tensor, targets: Tensor, *, total: bool) -> Cells:
        """Losses `[N, d1, ...]`."""
        classes, shape = _checks.class_logits(logits)
        _checks.one_per_class("class_counts", self.class_counts, logits)
        target, valid = class_targets(logits, targets, self.ignore_index)
        counts = per_class(self.class_counts, logits)
        margin = self.max_margin * (counts.amin() / counts) ** 0.25
        weight = None if self.weight is None else per_class(self.weight, logits)
        scores = class_scores(logits, valid)
        if target.is_floating_point():
            # CE of class y, for every y: its own term exp(scale (z_y - margin_y)) over all terms.
            log_p = (self.scale * scores).log_softmax(1)
            cost = softplus(self.scale * margin + log_one_minus(log_p) - log_p)
            value = target * (cost if weight is None else cost * weight)
            return Cells(value.sum(1), None, shape.numel(), classes)
        at_y = margin.view(-1)[target].unsqueeze(1)
        # scatter_add and not in place, as vmap over the targets demands.
        scores = scores.scatter_add(1, target.unsqueeze(1), -at_y)
        value = cross_entropy(self.scale * scores, target, reduction="none")
        if weight is not None:
            value = value * weight.view(-1)[target]
        value = value if valid is None else value.masked_fill(~valid, 0)
        return Cells(value, valid, shape.numel(), classes)

    def positive(self, logits: Tensor, targets: Tensor) -> Tensor:
        """How much of each target is not class 0."""
        return not_background(targets)


def ldam_loss(
    logits: Tensor,
    targets: Tensor,
    class_counts: Tensor | Sequence[float] | Any,
    max_margin: float = 0.5,
    scale: float = 30.0,
    weight: Tensor | Sequence[float] | Any | None = None,
    *,
    reduction: str = "mean",
    ignore_index: int = -100,
    sample_weight: Tensor | None = None,
    gather_distributed: bool | None = False,
) -> Tensor:
    """Cross-entropy with a label-distribution-aware margin.

    With n the class counts, a position of class y costs

        weight[y] * CE(scale * (logits - margin[y] * onehot(y)), y),
        margin[c] = max_margin * (min(n) / n[c])^(1/4),

    the loss and the defaults of Cao et al., "Learning Imbalanced Datasets with
    Label-Distribution-Aware Margin Loss", NeurIPS 2019, https://arxiv.org/abs/1906.07413. Class
    probabilities cost the mean of this over y drawn from them. `max_margin=0, scale=1` is
    `torch.nn.functional.cross_entropy`.

    The defaults are meant for logits that are cosine similarities in [-1, 1]: a last layer without
    bias, with both its inputs and its class weights normalised to length 1. For the logits of an
    ordinary linear layer set `scale=1`, and `max_margin` in units of their spread; with `scale=30`
    they saturate at once.

    It helps the accuracy of rare classes in long-tailed recognition with many classes and a
    cosine head, above all with deferred re-weighting: this loss first, then the same loss with
    class weights (see `LDAMLoss`). It is no help for average precision, and its softmax is no
    probability. `adjust_logits` on a plainly trained model is the cheaper thing to try first.

    Args:
        logits: `[N, C]` or `[N, C, d1, ...]`, any floating dtype; computed in float32 or better.
        targets: Class indices `[N]` or `[N, d1, ...]` of an integer dtype, or class probabilities
            of the logits' shape and a floating dtype. A constant: no gradient.
        class_counts: How many training rows each class has, or any positive numbers in that ratio,
            as a list, array or tensor of length C.
        max_margin: Margin of the rarest class, >= 0, in units of the logits.
        scale: What the logits are multiplied by, > 0, once the margin is taken off.
        weight: One weight >= 0 per class, as a list, array or tensor; None: no weights.
        reduction: `"none"`, `"sum"`, `"mean"` over valid positions (their count, not the sum of
            their class weights), or `"mean_positive"`: the sum over all valid positions divided by
            the number of those that are not class 0, at least 1.
        ignore_index: Positions of this class index add no loss, no gradient and nothing to a mean.
        sample_weight: Finite weights >= 0, one per position (shape of class indices) or one per
            sample (`[N]` or, of dense targets, `[N, 1, ...]`). A mean divides by the weights of the
            positions that it counts. A constant.
        gather_distributed: Sum over the ranks of the process group before dividing. True needs a
            group, None uses one if there is one, False stays local.

    Returns:
        A scalar, or the shape of the positions for `"none"`; float32, or float64 for float64
        logits. Nothing valid: zero, attached to the graph.

    Raises:
        TypeError: For logits that are not floating point or arguments of a wrong type.
        ValueError: For mismatched shapes, a class without a count, numbers out of range and, on a
            CPU in eager mode, targets that are no classes or probabilities.
        RuntimeError: If `gather_distributed=True` and there is no process group.

    Examples:
        >>> import torch
        >>> from imbalanced_losses.functional import ldam_loss
        >>> cosines = torch.tensor([[0.9, 0.1], [0.3, 0.7]])
        >>> ldam_loss(cosines, torch.tensor([0, 1]), class_counts=[160, 10])
        tensor(1.5243)
    """
    return pointwise_loss(
        LDAM(class_counts, max_margin, scale, weight, ignore_index),
        PointwiseSettings(reduction, gather_distributed),
        logits,
        targets,
        sample_weight,
    )


class LDAMLoss(PointwiseLoss):
    """`ldam_loss` with its settings: cross-entropy with larger margins for rarer classes.

    Deferred re-weighting, which the paper trains with, is two of these in a `LossWarmupWrapper`:
    the second one takes over with class weights when the learning rate is first lowered.

    Args:
        class_counts: One count above 0 per class, or any numbers in that ratio, as a list, array or
            tensor. Moves with the module and, being a setting, stays out of `state_dict`.
        max_margin: Margin of the rarest class, >= 0, in units of the logits.
        scale: What the logits are multiplied by, > 0: 30 for cosine similarities, 1 for the logits
            of an ordinary linear layer.
        weight: One weight >= 0 per class, as a list, array or tensor; None: no weights.
        reduction: `"none"`, `"sum"`, `"mean"` or `"mean_positive"`.
        ignore_index: Positions of this class index do not count.
        gather_distributed: None sums over the ranks whenever a process group of several is live
            at the call, True raises where there is none, False stays local.

    Raises:
        TypeError: For a setting of a wrong type.
        ValueError: For a setting out of range.

    Examples:
        >>> import torch
        >>> from imbalanced_losses import LDAMLoss, LossWarmupWrapper, class_weights
        >>> counts = [160, 10]
        >>> loss_fn = LDAMLoss(counts)
        >>> loss_fn(torch.tensor([[0.9, 0.1], [0.3, 0.7]]), torch.tensor([0, 1]))
        tensor(1.5243)

        The paper's schedule on CIFAR, 200 epochs of which the last 40 are re-weighted:

        >>> weight = class_weights(
        ...     counts=counts, method="effective_number", beta=0.9999, normalize="mean"
        ... )
        >>> loss_fn = LossWarmupWrapper(
        ...     LDAMLoss(counts), LDAMLoss(counts, weight=weight), warmup_epochs=160
        ... )
    """

    class_counts = Setting[Tensor]("criterion")
    max_margin = Setting[float]("criterion")
    scale = Setting[float]("criterion")
    weight = Setting["Tensor | None"]("criterion")
    ignore_index = Setting[int]("criterion")

    def __init__(
        self,
        class_counts: Tensor | Sequence[float] | Any,
        max_margin: float = 0.5,
        scale: float = 30.0,
        weight: Tensor | Sequence[float] | Any | None = None,
        *,
        reduction: str = "mean",
        ignore_index: int = -100,
        gather_distributed: bool | None = None,
    ) -> None:
        super().__init__(
            LDAM(class_counts, max_margin, scale, weight, ignore_index),
            reduction=reduction,
            gather_distributed=gather_distributed,
        )
