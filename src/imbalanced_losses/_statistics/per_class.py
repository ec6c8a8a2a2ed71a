"""What every ranking statistic returns, and how it is formed class by class."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from imbalanced_losses._eager import readable
from imbalanced_losses._kernel.counts import row_counts
from imbalanced_losses._pool import Pool

# Up to so many cells, a few operations on each cost less than choosing the positives.
POINTWISE = 2**13
# Up to so many cells of padding, they cost less than a part of the classes more.
PADDING = 2**14


class PerClass(NamedTuple):
    """One loss per class; where not `valid`, the value is finite and means nothing."""

    value: Tensor  # [C]
    valid: Tensor  # [C] bool


def loss_of(pool: Pool, terms: Tensor, mass: Tensor, usable: Tensor | bool = True) -> PerClass:
    """1 - the mean of `terms` `[C, K]` under `mass` `[C, K]`.

    A class is valid if it is `usable` and has mass. A valid class with a score that is not finite
    is NaN, in its gradient as well, so that a diverging step is seen by whoever watches either.
    """
    total = mass.sum(1)
    valid = (total > 0) & usable
    mean = (mass * terms).sum(1) / total.masked_fill(~valid, 1.0)
    if pool.poisoned is not None:
        mean = mean * torch.where(valid & pool.poisoned, torch.nan, 1.0)
    return PerClass(1 - mean, valid)


def by_size(
    pool: Pool, statistic: Callable[[Pool], tuple[Tensor, ...]], *, padding: int
) -> tuple[Tensor, ...]:
    """The `[C]` tensors of a statistic, formed apart for classes of unlike numbers of positives.

    The positives of each class are padded to those of the largest, which does many times the work
    where one class has most of the rows. Where reading counts is free, more than `padding` cells
    of padding part the classes into groups.
    """
    groups = _groups(pool.positive, padding)
    if len(groups) < 2:
        return statistic(pool)
    parts = [statistic(pool.of_classes(group)) for group in groups]
    order = torch.cat(groups).argsort()
    return tuple(torch.cat(columns)[order] for columns in zip(*parts, strict=True))


def _groups(positive: Tensor, padding: int) -> list[Tensor]:
    if not readable(positive) or positive.numel() <= padding:
        return []
    count = row_counts(positive).squeeze(1)
    if len(count) * int(count.max()) - int(count.sum()) <= padding:
        return []
    power_of_four = count.clamp(min=1).log2().div(2, rounding_mode="floor")
    return [(power_of_four == size).nonzero().squeeze(1) for size in torch.unique(power_of_four)]
