"""Logit adjustment for class priors: of a trained model's decision, or inside the loss.

Source: Menon, Jayasumana, Rawat, Jain, Veit and Kumar, "Long-tail learning via logit adjustment",
ICLR 2021, https://arxiv.org/abs/2007.07314.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from imbalanced_losses import _checks
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

__all__ = ["LogitAdjustedLoss", "adjust_logits", "choose_tau", "logit_adjusted_loss"]

# What `choose_tau` tries for a metric that it knows nothing of: 0 to 2 in steps of 0.05.
_GRID = [step / 20 for step in range(41)]


def adjust_logits(
    logits: Tensor, class_counts: Tensor | Sequence[float] | Any, tau: float = 1.0
) -> Tensor:
    """Logits shifted against the class priors: logits - tau log(prior).

    The largest of them is the decision for balanced accuracy of a model that was trained with plain
    cross-entropy; `tau=0` is its own decision. This is the post-hoc form of Menon et al.,
    "Long-tail learning via logit adjustment", ICLR 2021, https://arxiv.org/abs/2007.07314. A
    negative `tau` shifts towards the priors: -1 undoes what training with
    `LogitAdjustedLoss(tau=1)` left out, so that the softmax gives probabilities again.

    It helps where recall in every class counts alike. On six small problems it gained as much
    balanced accuracy as class weights in training, and unlike them it costs no average precision
    and no calibration, for the model and its probabilities stay what they were. It does not help a
    goal that looks at one class's ranking, and it lowers plain accuracy.

    Args:
        logits: `[N, C]` or `[N, C, d1, ...]`, any floating dtype.
        class_counts: How many rows of each class were trained on, or any positive numbers in that
            ratio, as a list, array or tensor of length C.
        tau: Strength of the shift, any finite number. `choose_tau` finds one on validation rows.

    Returns:
        The shape of the logits, in float32, or float64 for float64 logits. Differentiable.

    Raises:
        TypeError: For logits that are not floating point or arguments of a wrong type.
        ValueError: For a class without a count, a wrong number of counts or a bad shape.

    Examples:
        >>> import torch
        >>> from imbalanced_losses import adjust_logits
        >>> logits = torch.tensor([[2.0, 0.5], [3.0, -1.0]])
        >>> adjust_logits(logits, class_counts=[90, 10]).argmax(1)
        tensor([1, 0])
    """
    _checks.class_logits(logits)
    counts = _checks.class_masses("class_counts", class_counts)
    _checks.one_per_class("class_counts", counts, logits)
    return class_scores(logits, None) - _checks.number("tau", tau) * _log_prior(counts, logits)


def choose_tau(
    logits: Tensor,
    targets: Tensor,
    class_counts: Tensor | Sequence[float] | Any,
    metric: str | Callable[[Tensor, Tensor], float] = "balanced_accuracy",
    *,
    ignore_index: int = -100,
) -> float:
    """The `tau` of `adjust_logits` that does best on validation rows.

    For `"balanced_accuracy"`, the mean over the classes of the share of their rows that is decided
    right, the maximum over all `tau >= 0` is exact: along `tau` each row is right in one interval,
    and the sum of these intervals is searched. Of the intervals that reach the maximum the one
    nearest to 1, the value of the theory, is taken: 1 itself if it lies inside, else the middle. A
    callable is tried at `tau` = 0, 0.05, ..., 2; of the best the one nearest to 1 is taken. Among
    equally near ones the smaller wins.

    Choose on rows that the model was not trained on; on training rows `tau` comes out too small.
    There is no choice by the accuracy of rare classes alone: it only grows with `tau`, until
    nothing else is ever predicted.

    Args:
        logits: `[N, C]` or `[N, C, d1, ...]`, of a model trained with plain cross-entropy; finite.
        targets: Class indices `[N]` or `[N, d1, ...]`.
        class_counts: The counts of `adjust_logits`: of the rows that the model was trained on.
        metric: `"balanced_accuracy"`, or a function of the adjusted logits and the targets, both
            whole and in the shapes given, that returns a number to be large.
        ignore_index: Positions of this class index do not count in balanced accuracy.

    Returns:
        A number >= 0.

    Raises:
        TypeError: For arguments of a wrong type.
        ValueError: For mismatched shapes, targets that are no classes, no valid row, logits that
            are not finite, or a metric that returns NaN.

    Examples:
        >>> import torch
        >>> from imbalanced_losses import choose_tau
        >>> logits = torch.tensor([[2.0, 0.0], [4.0, 0.0], [3.0, 0.0], [2.5, 0.0]])
        >>> targets = torch.tensor([0, 0, 0, 1])
        >>> round(choose_tau(logits, targets, class_counts=[90, 10]), 3)
        1.252
    """
    _, shape = _checks.class_logits(logits)
    _checks.tensor("targets", targets)
    _checks.class_indices(targets, shape, logits.shape)
    counts = _checks.class_masses("class_counts", class_counts)
    _checks.one_per_class("class_counts", counts, logits)
    if callable(metric):
        scores = {tau: float(metric(adjust_logits(logits, counts, tau), targets)) for tau in _GRID}
        for tau, score in scores.items():
            if score != score:
                raise ValueError(f"metric must return a number; got NaN at tau={tau:g}.")
        best = max(scores.values())
        return min((tau for tau in _GRID if scores[tau] == best), key=_from_one)
    _checks.one_of("metric", metric, ("balanced_accuracy",))
    index = _checks.integer("ignore_index", ignore_index)
    target, valid = class_targets(logits.detach().cpu(), targets.cpu(), index)
    rows = logits.detach().cpu().double().movedim(1, -1).flatten(0, -2)
    target = target.flatten()
    if valid is not None:
        rows, target = rows[valid.flatten()], target[valid.flatten()]
    if len(target) == 0:
        raise ValueError("targets must hold at least one row that is not ignored; got none.")
    _checks.holds(rows.isfinite(), rows, "logits must be finite to choose tau")
    return _best_for_balanced_accuracy(rows, target, _log_prior(counts.cpu(), rows))


def _best_for_balanced_accuracy(scores: Tensor, target: Tensor, log_prior: Tensor) -> float:
    """The tau of `choose_tau` for scores `[R, C]` and classes `[R]`, all in float64 on the CPU."""
    # A row is right where its class y wins: tau (log_prior_c - log_prior_y) >= z_c - z_y for all c.
    own = target.unsqueeze(1)
    slope, gap = log_prior - log_prior[own], scores - scores.gather(1, own)
    before = torch.arange(scores.shape[1]) < own  # of equal scores argmax takes the first
    never = ((slope == 0) & ((gap > 0) | ((gap == 0) & before))).any(1)
    low = (gap / slope).where(slope > 0, -torch.inf).amax(1).clamp(min=0)
    high = (gap / slope).where(slope < 0, torch.inf).amin(1)
    share = 1 / torch.bincount(target)[target].double()
    won = (low < high) & ~never
    low, high, share = low[won], high[won], share[won]
    ends = high.isfinite()
    # On each interval between two edges the sum of the shares of the rows that are right there.
    points = torch.cat([low.new_zeros(1), low, high[ends]])
    edges, place = torch.unique(points, return_inverse=True)
    steps = torch.cat([share.new_zeros(1), share, -share[ends]])
    value = torch.zeros_like(edges).index_add_(0, place, steps).cumsum(0)
    is_best = (value >= value.max() - 1e-9).int()  # sums in another order differ by rounding
    edges = torch.cat([edges, edges[-1:].clamp(min=1) + 1])  # beyond the last nothing changes
    change = torch.diff(is_best, prepend=is_best.new_zeros(1), append=is_best.new_zeros(1))
    starts, stops = edges[change == 1].tolist(), edges[change == -1].tolist()
    best = [
        1.0 if start < 1 < stop else (start + stop) / 2
        for start, stop in zip(starts, stops, strict=True)
    ]
    distances = [max(a - 1, 1 - b, 0.0) for a, b in zip(starts, stops, strict=True)]
    return best[distances.index(min(distances))]


def _from_one(tau: float) -> tuple[float, float]:
    return round(abs(tau - 1), 9), tau


def _log_prior(counts: Tensor, logits: Tensor) -> Tensor:
    """Log of each class's share, along dimension 1 of the logits."""
    return per_class(counts, logits).log().log_softmax(0)


@dataclass(frozen=True, eq=False)
class LogitAdjusted(Criterion):
    """Cross-entropy of the logits plus tau times the log prior."""

    class_counts: Any
    tau: float = 1.0
    label_smoothing: float = 0.0
    ignore_index: int = -100

    def __post_init__(self) -> None:
        number = _checks.number
        _checks.settle(
            self,
            class_counts=_checks.class_masses("class_counts", self.class_counts),
            tau=number("tau", self.tau, at_least=0),
            label_smoothing=number("label_smoothing", self.label_smoothing, at_least=0, at_most=1),
            ignore_index=_checks.integer("ignore_index", self.ignore_index),
        )

    def cells(self, logits: Tensor, targets: Tensor, *, total: bool) -> Cells:
        """Losses `[N, d1, ...]`."""
        classes, shape = _checks.class_logits(logits)
        _checks.one_per_class("class_counts", self.class_counts, logits)
        target, valid = class_targets(logits, targets, self.ignore_index)
        scores = class_scores(logits, valid) + self.tau * _log_prior(self.class_counts, logits)
        value = cross_entropy(
            scores, target, reduction="none", label_smoothing=self.label_smoothing
        )
        value = value if valid is None else value.masked_fill(~valid, 0)
        return Cells(value, valid, shape.numel(), classes)

    def positive(self, logits: Tensor, targets: Tensor) -> Tensor:
        """How much of each target is not class 0."""
        return not_background(targets)


def logit_adjusted_loss(
    logits: Tensor,
    targets: Tensor,
    class_counts: Tensor | Sequence[float] | Any,
    tau: float = 1.0,
    *,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    ignore_index: int = -100,
    sample_weight: Tensor | None = None,
    gather_distributed: bool | None = False,
) -> Tensor:
    """Cross-entropy with the class priors added to the logits.

    With pi the share of each class in `class_counts`, a position of class y costs

        CE(logits + tau log(pi), y; label_smoothing),

    the training form of Menon et al., "Long-tail learning via logit adjustment", ICLR 2021,
    https://arxiv.org/abs/2007.07314, whose default is `tau=1`: the balanced softmax of Ren et al.,
    "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020,
    https://arxiv.org/abs/2007.10740. `tau=0` is `torch.nn.functional.cross_entropy`. Class
    probabilities as targets cost the cross-entropy with them.

    The priors belong to training: at test time the largest of the plain logits is the decision for
    balanced accuracy. The softmax of these logits is not a probability; that of
    `adjust_logits(logits, class_counts, -tau)` is.

    It helps balanced accuracy on long-tailed classes. So does `adjust_logits` on a model trained
    with plain cross-entropy, which needs no training and kept average precision and calibration:
    try that first. It is no help for the ranking within one class, and a class that is rare in
    training but as rare in use needs none of it.

    Args:
        logits: `[N, C]` or `[N, C, d1, ...]`, any floating dtype; computed in float32 or better.
        targets: Class indices `[N]` or `[N, d1, ...]` of an integer dtype, or class probabilities
            of the logits' shape and a floating dtype. A constant: no gradient.
        class_counts: How many training rows each class has, or any positive numbers in that ratio,
            as a list, array or tensor of length C.
        tau: Strength of the shift, >= 0.
        label_smoothing: Share of the target spread evenly over all classes, in [0, 1].
        reduction: `"none"`, `"sum"`, `"mean"` over valid positions, or `"mean_positive"`: the sum
            over all valid positions divided by the number of those that are not class 0, at
            least 1.
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
        >>> from imbalanced_losses.functional import logit_adjusted_loss
        >>> logits = torch.tensor([[2.0, 0.0], [1.0, 1.0]])
        >>> logit_adjusted_loss(logits, torch.tensor([0, 1]), class_counts=[90, 10])
        tensor(1.1588)
    """
    return pointwise_loss(
        LogitAdjusted(class_counts, tau, label_smoothing, ignore_index),
        PointwiseSettings(reduction, gather_distributed),
        logits,
        targets,
        sample_weight,
    )


class LogitAdjustedLoss(PointwiseLoss):
    """`logit_adjusted_loss` with its settings: cross-entropy with the class priors added.

    Args:
        class_counts: One count above 0 per class, or any numbers in that ratio, as a list, array or
            tensor. Moves with the module and, being a setting, stays out of `state_dict`.
        tau: Strength of the shift, >= 0; 1 is the balanced softmax, 0 plain cross-entropy.
        label_smoothing: Share of the target spread evenly over all classes, in [0, 1].
        reduction: `"none"`, `"sum"`, `"mean"` or `"mean_positive"`.
        ignore_index: Positions of this class index do not count.
        gather_distributed: None sums over the ranks whenever a process group of several is live
            at the call, True raises where there is none, False stays local.

    Raises:
        TypeError: For a setting of a wrong type.
        ValueError: For a setting out of range.

    Examples:
        >>> import torch
        >>> from imbalanced_losses import LogitAdjustedLoss
        >>> loss_fn = LogitAdjustedLoss(class_counts=[90, 10])
        >>> loss_fn(torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.tensor([0, 1]))
        tensor(1.1588)
    """

    class_counts = Setting[Tensor]("criterion")
    tau = Setting[float]("criterion")
    label_smoothing = Setting[float]("criterion")
    ignore_index = Setting[int]("criterion")

    def __init__(
        self,
        class_counts: Tensor | Sequence[float] | Any,
        tau: float = 1.0,
        *,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        ignore_index: int = -100,
        gather_distributed: bool | None = None,
    ) -> None:
        super().__init__(
            LogitAdjusted(class_counts, tau, label_smoothing, ignore_index),
            reduction=reduction,
            gather_distributed=gather_distributed,
        )
