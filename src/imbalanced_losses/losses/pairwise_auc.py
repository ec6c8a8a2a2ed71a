"""The area under the ROC curve, from all pairs of a positive and a negative."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from imbalanced_losses import _checks
from imbalanced_losses._ops.scans import running_sum
from imbalanced_losses._ops.soft_counts import soft_counts
from imbalanced_losses._pool.pool import Pool
from imbalanced_losses._pool.select import select
from imbalanced_losses.losses._module import Setting
from imbalanced_losses.losses._per_class import PADDING, PerClass, Statistic, by_size, shares_of
from imbalanced_losses.losses._ranking import RankingLoss, ranking_loss

__all__ = ["PairwiseAUCLoss", "pairwise_auc_loss"]


@dataclass(frozen=True)
class PairwiseAUC(Statistic):
    """Mean over the pairs of a positive and a negative of a surrogate of their difference.

    A class is valid with at least one positive and one negative.
    """

    surrogate: str = "squared_hinge"
    margin: float = 1.0
    forms_slope: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _checks.one_of("surrogate", self.surrogate, ("squared_hinge", "logistic"))
        _checks.settle(self, margin=_checks.number("margin", self.margin, above=0))

    def __call__(self, pool: Pool, temperature: Tensor) -> PerClass:
        """The mean of every class."""
        if self.surrogate == "squared_hinge":
            return _squared_hinge(pool, temperature, self.margin)
        return by_size(pool, partial(_logistic, temperature=temperature), padding=PADDING)


def _squared_hinge(pool: Pool, temperature: Tensor, margin: float) -> PerClass:
    """In O(M log M), by integrals along the sorted scores.

    Let N(x) be the number of negatives with s_j + margin above x. Its integral from x upwards is
    the sum of their hinges max(0, s_j + margin - x), and twice the integral of that is the sum of
    the squares. N is constant between sorted scores, so both are running sums of terms that are
    not negative: nothing cancels, as it does in the prefix sums of squares.
    """
    tau = temperature.double()
    negative = pool.negative
    scores = pool.scores.double() / tau
    keys = torch.where(negative, scores + margin, scores)
    # An invalid row counts nowhere; 0 keeps what it holds out of the differences.
    keys = keys.where(pool.valid, 0.0)
    keys, order = keys.sort(1, descending=True)
    gaps = keys[:, :-1] - keys[:, 1:]
    negatives = negative.gather(1, order).double()
    hinges = _integral(running_sum(negatives[:, :-1]), gaps)
    squares = _integral(hinges[:, 1:] + hinges[:, :-1], gaps)

    count = negatives.sum(1)
    mass = (pool.positive * pool.weight).double().gather(1, order)
    shares, valid = shares_of(mass, partners=count)
    loss = (shares * squares).sum(1).to(pool.scores.dtype)
    if not pool.wants_slope:
        return PerClass(loss, valid)
    # What positives are to a negative, seen from below, negatives are to a positive from above.
    from_below = _integral(running_sum(shares.flip(1)[:, :-1]), gaps.flip(1)).flip(1)
    slopes = (negatives * from_below - shares * hinges) * (2 / tau)
    by_row = torch.empty_like(slopes).scatter_(1, order, slopes)
    return PerClass(loss, valid, pool.from_first_live(by_row).to(pool.scores.dtype))


def _integral(heights: Tensor, gaps: Tensor) -> Tensor:
    """Integrals of steps of these heights and widths `[C, M - 1]`, up to each edge `[C, M]`."""
    areas = running_sum(heights * gaps)
    return torch.cat((areas.new_zeros(len(areas), 1), areas), 1)


def _logistic(pool: Pool, temperature: Tensor) -> PerClass:
    positives = select(pool, pool.positive)
    negative = pool.negative.to(pool.scores.dtype)
    count = negative.sum(1)
    shares, valid = shares_of(positives.mass(), partners=count)
    counts, pull = soft_counts(
        positives.scores,
        pool.scores,
        negative.unsqueeze(1),
        temperature,
        movable=pool.first_live,
    )
    loss = (shares * counts.squeeze(1)).sum(1)
    if not pool.wants_slope:
        return PerClass(loss, valid)
    by_positive, by_row = pull(shares.unsqueeze(1))
    return PerClass(loss, valid, positives.add_to_(by_row, by_positive))


def pairwise_auc_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    surrogate: str = "squared_hinge",
    margin: float = 1.0,
    temperature: float = 1.0,
    reduction: str = "mean",
    ignore_index: int = -100,
    scores: str = "logits",
    sample_weight: Tensor | None = None,
) -> Tensor:
    r"""A smooth 1 - AUC of the batch, one-vs-rest for every class.

    For one class let d_ij = (s_i - s_j) / tau for the positives i and the negatives j. The loss is
    the mean over all pairs of

        squared_hinge: max(0, margin - d_ij)^2, which is at least margin^2 for every pair in the
            wrong order, and grows with how wrong it is. Convex in the scores. Exact in O(M log M)
            (Rust and Hocking, "A Log-linear Gradient Descent Algorithm for Unbalanced Binary
            Classification using the All Pairs Squared Hinge Loss", 2023,
            https://arxiv.org/abs/2302.11062);
        logistic: sigma(-d_ij), sigma the logistic function, that is 1 - a soft AUC, which tends to
            1 - AUC as tau -> 0. In [0, 1], so that a single row cannot dominate. (Not the
            logarithm log(1 + exp(-d_ij)), which some call the logistic loss.) To rounding in
            O(M log M).

    Both see differences alone: a common shift of the scores changes nothing, and the gradient sums
    to zero.

    Args:
        logits: `[N, C]` or `[N, C, d1, ...]`, or `[N]` for a binary problem; any floating dtype.
            Computed in float32 or float64.
        targets: Class indices `[N]`, `[N, 1]` or `[N, d1, ...]`, 0/1 where C = 1, or multi-hot of
            the logits' shape.
        surrogate: `"squared_hinge"` or `"logistic"`.
        margin: By how much a positive should outscore a negative, in units of tau, > 0; for the
            squared hinge alone.
        temperature: tau > 0, in units of the score.
        reduction: `"mean"` or `"sum"` over the valid classes, or `"none"`.
        ignore_index: Rows, or cells of multi-hot targets, with this target do not count.
        scores: `"logits"` or `"log_odds"`, as in `smooth_ap_loss`.
        sample_weight: `[N]` or one for each position, non-negative, weighs the positives' terms.

    Returns:
        A non-negative scalar for `"mean"`, or `[C]` for `"none"` with NaN for classes without a
        positive or without a negative. No valid class: zero, attached to the graph.

    Raises:
        TypeError: For a wrong dtype or setting.
        ValueError: For a wrong shape, a setting out of range or, on CPU, a target out of range.

    Examples:
        >>> import torch
        >>> from imbalanced_losses.functional import pairwise_auc_loss
        >>> pairwise_auc_loss(torch.tensor([2.0, 1.5, 0.0]), torch.tensor([1, 0, 0]))
        tensor(0.1250)
    """
    return ranking_loss(
        PairwiseAUC(surrogate, margin),
        logits,
        targets,
        None,
        sample_weight,
        temperature=temperature,
        reduction=reduction,
        ignore_index=ignore_index,
        scores=scores,
    )


class PairwiseAUCLoss(RankingLoss):
    """A smooth 1 - AUC over the live batch and a memory queue, one-vs-rest for every class.

    The loss of `imbalanced_losses.functional.pairwise_auc_loss` on a larger pool: the last
    `queue_size` rows take part in the pairs, without gradient. Cost O(M log M) in time and O(M) in
    memory for a pool of M rows.

    It helps where the whole ranking matters: every pair counts alike, wherever in the list it
    stands. It does not where few rows can be looked at, for of a thousand negatives it is content
    to see ten above a positive; there take `PAUCAtBudgetLoss` or `SmoothAPLoss`. A loss of
    differences leaves the level of the scores open: mix it with a pointwise loss where
    probabilities or a fixed threshold are wanted.

    Args:
        num_classes: C; 1 for binary problems.
        surrogate: `"squared_hinge"`, or `"logistic"` for the bounded soft AUC.
        margin: By how much, above 0, a positive should outscore a negative, in units of the
            temperature; for the squared hinge alone.
        queue_size: Rows of earlier batches in the pool; 0 for none.
        temperature: tau > 0, the unit in which differences of scores are measured. At its default,
            1, a difference of one logit is what counts. Also a property.
        reduction: `"mean"` or `"sum"` over the valid classes, or `"none"`.
        ignore_index: Rows, or cells of multi-hot targets, with this target do not count.
        update_queue_in_eval: Whether `eval()` mode writes to the queue; it is frozen otherwise.
        gather_distributed: As in `SmoothAPLoss`.
        max_pool_size: As in `SmoothAPLoss`.
        scores: `"logits"` or `"log_odds"`, as in `SmoothAPLoss`.

    Raises:
        TypeError: For a setting of a wrong type.
        ValueError: For a setting out of range.

    Examples:
        >>> import torch
        >>> from imbalanced_losses import PairwiseAUCLoss
        >>> loss_fn = PairwiseAUCLoss(num_classes=1, queue_size=4)
        >>> loss_fn(torch.tensor([2.0, 1.5, 0.0]), torch.tensor([1, 0, 0]))
        tensor(0.1250)
    """

    surrogate = Setting[str]("statistic")
    margin = Setting[float]("statistic")

    def __init__(
        self,
        num_classes: int,
        surrogate: str = "squared_hinge",
        margin: float = 1.0,
        queue_size: int = 1024,
        temperature: float = 1.0,
        reduction: str = "mean",
        ignore_index: int = -100,
        update_queue_in_eval: bool = False,
        gather_distributed: bool | None = None,
        max_pool_size: int | None = None,
        *,
        scores: str = "logits",
    ) -> None:
        super().__init__(
            PairwiseAUC(surrogate, margin),
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
