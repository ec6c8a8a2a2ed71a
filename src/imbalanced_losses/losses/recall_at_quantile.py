"""Soft recall within an alert budget."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from imbalanced_losses import _checks
from imbalanced_losses._ops.quantile import INTERPOLATIONS, masked_quantiles
from imbalanced_losses._ops.soft_step import soft_step, step_slope
from imbalanced_losses._pool.pool import Pool
from imbalanced_losses._pool.select import select
from imbalanced_losses.losses._module import Setting
from imbalanced_losses.losses._per_class import (
    PADDING,
    POINTWISE,
    PerClass,
    Statistic,
    by_size,
    one_minus_mean,
)
from imbalanced_losses.losses._ranking import RankingLoss, ranking_loss
from imbalanced_losses.losses._spread import TAU_SCALES, scaled
from imbalanced_losses.losses._threshold import slope_through, thresholds_of

__all__ = ["RecallAtQuantileLoss", "recall_at_quantile_loss"]


@dataclass(frozen=True)
class RecallAtQuantile(Statistic):
    """Mean over the positives of sigma((s - theta) / tau), theta the 1 - quantile quantile.

    A class is valid with at least one positive.
    """

    quantile: float = 0.005
    quantile_interpolation: str = "higher"
    tau_scale: str = "none"
    threshold_gradient: bool = False
    forms_slope: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _checks.settle(self, quantile=_checks.number("quantile", self.quantile, above=0, below=1))
        _checks.one_of("quantile_interpolation", self.quantile_interpolation, INTERPOLATIONS)
        _checks.one_of("tau_scale", self.tau_scale, TAU_SCALES)
        _checks.flag("threshold_gradient", self.threshold_gradient)

    def __call__(self, pool: Pool, temperature: Tensor) -> PerClass:
        """1 - recall of every class."""
        return by_size(pool, partial(self._of_group, temperature=temperature), padding=PADDING)

    def _of_group(self, pool: Pool, temperature: Tensor) -> PerClass:
        positives = select(pool, pool.positive, above=POINTWISE)
        levels, valid = [1 - self.quantile], pool.valid
        theta = masked_quantiles(pool.fixed_scores, valid, levels, self.quantile_interpolation)
        theta = theta.nan_to_num(0.0)  # a class without rows
        tau = scaled(temperature, pool, self.tau_scale)
        seen = theta
        if self.threshold_gradient:
            seen = thresholds_of(positives, theta, tau, valid).squeeze(1)
        found = soft_step(positives.scores - seen, tau.view(-1, 1))
        if not pool.wants_slope:
            return one_minus_mean(positives, found, None)
        slopes = step_slope(found, tau.view(-1, 1))
        per_class = one_minus_mean(positives, found, slopes)
        if not self.threshold_gradient:
            return per_class
        pushed = slope_through(positives, slopes.unsqueeze(1), theta, tau, valid)
        return per_class.plus_slope(pushed)


def recall_at_quantile_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    quantile: float = 0.005,
    temperature: float = 0.01,
    reduction: str = "mean",
    ignore_index: int = -100,
    quantile_interpolation: str = "higher",
    scores: str = "logits",
    tau_scale: str = "none",
    threshold_gradient: bool = False,
    sample_weight: Tensor | None = None,
) -> Tensor:
    r"""1 - soft recall above the 1 - quantile quantile of all scores, one-vs-rest.

    For one class with scores s and positives P,

        theta = quantile(s, 1 - quantile),
        recall = mean over i in P of sigma((s_i - theta) / tau),

    a smooth form of recall at an alert budget (accuracy at the top: Boyd, Cortes, Mohri and
    Radovanovic, "Accuracy at the Top", NeurIPS 2012, https://papers.nips.cc/paper/4635-accuracy-at-the-top).

    By default theta carries no gradient, and so positives alone do. Raising every score then counts
    as progress: the mean predicted probability of a class of 0.5 % ran to .99, and on the training
    rows of four real data sets of five more weight on this loss lowered the very recall it is made
    to raise. Take `threshold_gradient=True`, or the pairwise surrogate of `pauc_at_budget_loss`.

    With `threshold_gradient=True` the value is the same to the last bit, and theta has the
    derivative w_j in the score of row j that a kernel estimate of the quantile has,

        w_j = K((s_j - theta) / tau) / sum over l of K((s_l - theta) / tau),    K = sigma',

    with l over the valid rows that carry gradient (Mackey, Luo and Eban, "Constrained
    Classification and Ranking via Quantiles", 2018, https://arxiv.org/abs/1803.00067). The gradient
    then sums to zero. A second derivative is that of this gradient, w and theta moving.

    Args:
        logits: `[N, C]`, or `[N]` for a binary problem; any floating dtype. Computed in float32 or
            float64.
        targets: Class indices `[N]` or `[N, 1]`, 0/1 where C = 1, or multi-hot `[N, C]`.
        quantile: Share of the rows that raises an alert, in (0, 1).
        temperature: tau > 0, in units of the score or of `tau_scale`.
        reduction: `"mean"` or `"sum"` over the valid classes, or `"none"`.
        ignore_index: Rows, or cells of multi-hot targets, with this target do not count.
        quantile_interpolation: `"higher"`, `"linear"`, `"lower"`, `"midpoint"` or `"nearest"`.
        scores: `"logits"` or `"log_odds"`, as in `smooth_ap_loss`.
        tau_scale: `"none"`, `"std"` or `"iqr"`, as in `smooth_ap_loss`.
        threshold_gradient: Whether theta carries gradient.
        sample_weight: `[N]`, non-negative, weighs the positives' terms; theta does not see it.

    Returns:
        A scalar in [0, 1] for `"mean"`, or `[C]` for `"none"` with NaN for classes without a
        positive. No valid class: zero, attached to the graph.

    Raises:
        TypeError: For a wrong dtype or setting.
        ValueError: For a wrong shape, a setting out of range or, on CPU, a target out of range.

    Examples:
        >>> import torch
        >>> from imbalanced_losses.functional import recall_at_quantile_loss
        >>> recall_at_quantile_loss(
        ...     torch.tensor([0.9, 0.5, 0.1]), torch.tensor([1, 0, 1]), quantile=0.5
        ... )
        tensor(0.5000)
    """
    return ranking_loss(
        RecallAtQuantile(quantile, quantile_interpolation, tau_scale, threshold_gradient),
        logits,
        targets,
        None,
        sample_weight,
        temperature=temperature,
        reduction=reduction,
        ignore_index=ignore_index,
        scores=scores,
    )


class RecallAtQuantileLoss(RankingLoss):
    """1 - soft recall above the 1 - quantile quantile of all scores in the pool.

    The loss of `imbalanced_losses.functional.recall_at_quantile_loss` on a larger pool: the last
    `queue_size` rows take part in the threshold and, without gradient, in the recall. The pool
    should hold a few times 1 / `quantile` rows.

    By default the gradient reaches positives only, which raising every score serves: more weight on
    this loss lowered its own goal on the training rows of four real data sets of five. Take
    `threshold_gradient=True`, or `PAUCAtBudgetLoss(surrogate="pairwise")`.

    Args:
        num_classes: C; 1 for binary problems.
        quantile: Share of the rows that raises an alert, in (0, 1).
        queue_size: Rows of earlier batches in the pool; 0 for none.
        temperature: tau > 0, the width of the soft step in units of the score or of `tau_scale`.
            Also a property.
        reduction: `"mean"` or `"sum"` over the valid classes, or `"none"`.
        ignore_index: Rows, or cells of multi-hot targets, with this target do not count.
        update_queue_in_eval: Whether `eval()` mode writes to the queue; it is frozen otherwise.
        gather_distributed: As in `SmoothAPLoss`.
        quantile_interpolation: `"higher"` (the threshold is never below the true one),
            `"linear"`, `"lower"`, `"midpoint"` or `"nearest"`, as in `torch.quantile`.
        max_pool_size: As in `SmoothAPLoss`. Mind that a subsample shifts the threshold.
        scores: `"logits"` or `"log_odds"`, as in `SmoothAPLoss`.
        tau_scale: `"none"`, `"std"` or `"iqr"`, as in `SmoothAPLoss`.
        threshold_gradient: Whether the threshold of the live positives moves with the live rows
            around it, so that the gradient sums to zero. The value is the same either way. Queued
            positives push no threshold, for their own scores do not move either; and where no live
            row of a class is valid, its threshold stands still.

    Raises:
        TypeError: For a setting of a wrong type.
        ValueError: For a setting out of range.

    Examples:
        >>> import torch
        >>> from imbalanced_losses import RecallAtQuantileLoss
        >>> loss_fn = RecallAtQuantileLoss(num_classes=1, quantile=0.5, queue_size=4)
        >>> loss_fn(torch.tensor([0.9, 0.5, 0.1]), torch.tensor([1, 0, 1]))
        tensor(0.5000)
    """

    quantile = Setting[float]("statistic")
    quantile_interpolation = Setting[str]("statistic")
    tau_scale = Setting[str]("statistic")
    threshold_gradient = Setting[bool]("statistic")

    def __init__(
        self,
        num_classes: int,
        quantile: float = 0.005,
        queue_size: int = 1024,
        temperature: float = 0.01,
        reduction: str = "mean",
        ignore_index: int = -100,
        update_queue_in_eval: bool = False,
        gather_distributed: bool | None = None,
        quantile_interpolation: str = "higher",
        max_pool_size: int | None = None,
        *,
        scores: str = "logits",
        tau_scale: str = "none",
        threshold_gradient: bool = False,
    ) -> None:
        super().__init__(
            RecallAtQuantile(quantile, quantile_interpolation, tau_scale, threshold_gradient),
            num_classes,
            queue_size=queue_size,
            temperature=temperature,
            reduction=reduction,
            ignore_index=ignore_index,
            update_queue_in_eval=update_queue_in_eval,
            gather_distributed=gather_distributed,
            max_pool_size=max_pool_size,
            scores=scores,
        )
