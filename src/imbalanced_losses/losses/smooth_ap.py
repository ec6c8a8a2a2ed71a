"""Smooth average precision."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from imbalanced_losses import _checks
from imbalanced_losses._ops.soft_counts import soft_counts
from imbalanced_losses._pool.pool import Pool
from imbalanced_losses._pool.select import select
from imbalanced_losses.losses._module import Setting
from imbalanced_losses.losses._per_class import PerClass, Statistic, by_size, shares_of
from imbalanced_losses.losses._ranking import RankingLoss, ranking_loss
from imbalanced_losses.losses._spread import TAU_SCALES, scaled

__all__ = ["SmoothAPLoss", "smooth_ap_loss"]

# Cells of padding cost more here than in other losses, for each is a query.
_PADDING = 2**11


@dataclass(frozen=True)
class SmoothAP(Statistic):
    """Mean over the positives of soft rank among positives / soft rank among all.

    A class is valid with at least one positive and one negative.
    """

    tau_scale: str = "none"
    forms_slope: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _checks.one_of("tau_scale", self.tau_scale, TAU_SCALES)

    def __call__(self, pool: Pool, temperature: Tensor) -> PerClass:
        """1 - AP of every class."""
        group = partial(_smooth_ap, temperature=temperature, tau_scale=self.tau_scale)
        return by_size(pool, group, padding=_PADDING)


def _smooth_ap(pool: Pool, temperature: Tensor, tau_scale: str) -> PerClass:
    positives = select(pool, pool.positive)
    tau = scaled(temperature, pool, tau_scale)
    members = torch.stack((pool.valid, pool.positive), 1).to(pool.scores.dtype)
    counts, pull = soft_counts(positives.scores, pool.scores, members, tau, movable=pool.first_live)
    # A row counts itself as sigma(0) = 1/2 where its own rank is 1.
    rank, rank_among_positives = (counts + 0.5).unbind(1)
    rows, positive_rows = members.sum(2).unbind(1)
    shares, valid = shares_of(positives.mass(), positive_rows < rows)
    shares = shares / rank
    terms = shares * rank_among_positives
    loss = 1 - terms.sum(1)
    if not pool.wants_slope:
        return PerClass(loss, valid)
    by_positive, by_row = pull(torch.stack((terms / rank, -shares), 1))
    return PerClass(loss, valid, positives.add_to_(by_row, by_positive))


def smooth_ap_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    temperature: float = 0.01,
    reduction: str = "mean",
    ignore_index: int = -100,
    scores: str = "logits",
    tau_scale: str = "none",
    sample_weight: Tensor | None = None,
) -> Tensor:
    r"""1 - Smooth-AP of the batch, one-vs-rest for every class.

    For one class with scores s, positives P and sigma the logistic function,

        R_all(i) = 1 + sum over j != i of sigma((s_j - s_i) / tau),
        R_pos(i) the same over the positives j,
        AP = mean over i in P of R_pos(i) / R_all(i),

    which tends to the average precision as tau -> 0 (Brown, Xie, Kalogeiton and Zisserman,
    "Smooth-AP: Smoothing the Path Towards Large-Scale Image Retrieval", ECCV 2020, https://arxiv.org/abs/2007.12163).
    Computed to rounding in O(M log M).

    It helps models that cannot express the posterior, linear ones and very small ones, and there
    mixed with cross-entropy; it takes the place of a trained cross-entropy nowhere.

    Args:
        logits: `[N, C]`, or `[N]` for a binary problem; any floating dtype. Computed in float32 or
            float64.
        targets: Class indices `[N]` or `[N, 1]`, 0/1 where C = 1, or multi-hot `[N, C]`.
        temperature: tau > 0, in units of the score or of `tau_scale`.
        reduction: `"mean"` or `"sum"` over the valid classes, or `"none"`.
        ignore_index: Rows, or cells of multi-hot targets, with this target do not count.
        scores: `"logits"`, or `"log_odds"` to rank z_c - logsumexp of the other logits, the
            log-odds of the softmax probability.
        tau_scale: What the temperature is a share of: nothing (`"none"`), or the standard deviation
            (`"std"`) or inter-quartile range (`"iqr"`) of the pool's valid scores in each class,
            without gradient, so that the scale of the scores changes nothing; 0.2 of `"std"` is a
            good start. Where all scores are equal the temperature is taken as it is.
        sample_weight: `[N]`, non-negative, weighs the positives' terms; ranks do not see it.

    Returns:
        A scalar in [0, 1] for `"mean"`, or `[C]` for `"none"` with NaN for classes without a
        positive or without a negative. No valid class: zero, attached to the graph.

    Raises:
        TypeError: For a wrong dtype or setting.
        ValueError: For a wrong shape, a setting out of range or, on CPU, a target out of range.

    Examples:
        >>> import torch
        >>> from imbalanced_losses.functional import smooth_ap_loss
        >>> smooth_ap_loss(torch.tensor([0.9, 0.8, 0.1]), torch.tensor([1, 0, 1]))
        tensor(0.1667)
    """
    return ranking_loss(
        SmoothAP(tau_scale),
        logits,
        targets,
        None,
        sample_weight,
        temperature=temperature,
        reduction=reduction,
        ignore_index=ignore_index,
        scores=scores,
    )


class SmoothAPLoss(RankingLoss):
    """1 - Smooth-AP over the live batch and a memory queue, one-vs-rest for every class.

    The loss of `imbalanced_losses.functional.smooth_ap_loss` on a larger pool: the last
    `queue_size` rows take part in the ranks, without gradient. Cost O(M log M) in time and O(M) in
    memory for a pool of M rows.

    For linear and very small models, mixed with cross-entropy: it takes the place of a trained
    cross-entropy nowhere. `temperature=0.2, tau_scale="std"` suits the logits of any model; the
    default temperature has no gradient to speak of where logits spread over tens.

    Args:
        num_classes: C; 1 for binary problems.
        queue_size: Rows of earlier batches in the pool; 0 for none.
        temperature: tau > 0, the width of the soft step in units of the score or of `tau_scale`.
            Also a property.
        reduction: `"mean"` or `"sum"` over the valid classes, or `"none"`.
        ignore_index: Rows, or cells of multi-hot targets, with this target do not count.
        update_queue_in_eval: Whether `eval()` mode writes to the queue; it is frozen otherwise.
        gather_distributed: None pools the rows of all ranks whenever a process group of several
            is live at the call, True raises where there is none, False stays local.
        max_pool_size: Subsample larger pools to this many rows, first a quota of
            `max_pool_size // (2 * observed classes)` for each class, then uniformly. The queue is
            not touched. Warns the first time.
        scores: `"logits"`, or `"log_odds"` to rank the log-odds of the softmax probability,
            z_c - logsumexp of the other logits.
        tau_scale: What the temperature is a share of: nothing (`"none"`), or the standard deviation
            (`"std"`) or inter-quartile range (`"iqr"`) of the pool's valid scores in each class,
            without gradient, so that the scale of the scores changes nothing. Where all scores are
            equal, as at some initialisations, the temperature is taken as it is.

    Raises:
        TypeError: For a setting of a wrong type.
        ValueError: For a setting out of range.

    Examples:
        >>> import torch
        >>> from imbalanced_losses import SmoothAPLoss
        >>> loss_fn = SmoothAPLoss(num_classes=1, queue_size=4)
        >>> loss_fn(torch.tensor([0.9, 0.8, 0.1]), torch.tensor([1, 0, 1]))
        tensor(0.1667)
    """

    tau_scale = Setting[str]("statistic")

    def __init__(
        self,
        num_classes: int,
        queue_size: int = 1024,
        temperature: float = 0.01,
        reduction: str = "mean",
        ignore_index: int = -100,
        update_queue_in_eval: bool = False,
        gather_distributed: bool | None = None,
        max_pool_size: int | None = None,
        *,
        scores: str = "logits",
        tau_scale: str = "none",
    ) -> None:
        super().__init__(
            SmoothAP(tau_scale),
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
