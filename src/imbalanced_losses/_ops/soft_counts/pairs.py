"""Soft counts from all pairs of two lists: the way for lists that are short."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from imbalanced_losses._ops.columns import columns_from
from imbalanced_losses._ops.precision import bmm
from imbalanced_losses._ops.soft_step import soft_steps_


class SoftCounts(NamedTuple):
    """Soft counts, and what takes their gradient to those of the two lists.

    To be called at most once, for it works in the memory of what it keeps.
    """

    counts: Tensor  # [C, W, Q]
    pull: Callable[[Tensor], tuple[Tensor, Tensor]]  # [C, W, Q] to [C, Q] and [C, S - movable]


def pair_counts(
    queries: Tensor, sources: Tensor, weights: Tensor, temperature: Tensor, movable: int
) -> SoftCounts:
    """What `blocks.soft_counts` returns, in O(Q S) time and memory.

    Args:
        queries: `[C, Q]`.
        sources: `[C, S]`.
        weights: `[C, W, S]`.
        temperature: tau > 0, `[C]`.
        movable: The first column of the sources for which a gradient is wanted.
    """
    rate = temperature.reciprocal().view(-1, 1, 1)
    steps = soft_steps_((sources.unsqueeze(1) - queries.unsqueeze(2)).mul_(rate))

    def pull(grad: Tensor) -> tuple[Tensor, Tensor]:
        slopes, grad = slopes_(steps), grad * rate
        by_query = _joined(bmm(weights, slopes.mT) * grad).neg_()
        pulls = bmm(grad, columns_from(slopes, movable))
        return by_query, _joined(pulls * columns_from(weights, movable))

    return SoftCounts(bmm(weights, steps.mT), pull)


def _joined(by_weight: Tensor) -> Tensor:
    """The sum over dimension 1, in the memory of the only term where there is but one."""
    return by_weight.squeeze(1) if by_weight.shape[1] == 1 else by_weight.sum(1)


def slopes_(steps: Tensor) -> Tensor:
    """Turn sigma into sigma', in its place."""
    return steps.addcmul_(steps, steps, value=-1)
