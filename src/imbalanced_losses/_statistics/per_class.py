"""What every ranking statistic returns, and how it is formed class by class."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from imbalanced_losses._ops.masks import row_counts
from imbalanced_losses._ops.runtime import readable
from imbalanced_losses._pool import Pool, Selection

# Up to so many cells, a few operations on each cost less than choosing the positives.
POINTWISE = 2**13
# Up to so many cells of padding, they cost less than a part of the classes more.
PADDING = 2**14


class PerClass(NamedTuple):
    """One loss per class; where not `valid`, the value is finite, means nothing and has slope 0."""

    value: Tensor  # [C]
    valid: Tensor  # [C] bool
    slope: Tensor  # derivative of the value in the pool's scores from `first_live` on, or [C, 0]
    diagnostics: tuple[Tensor, ...] = ()  # [C] each


def shares_of(mass: Tensor, usable: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mass `[C, K]` as shares of its class's total, and the classes that are valid `[C]`.

    A class is valid if it is `usable` and has mass. The shares of the others are 0.
    """
    total = mass.sum(1)
    valid = total > 0 if usable is None else (total > 0) & usable
    return mass / total.where(valid, torch.inf).unsqueeze(1), valid


def mean_of(
    rows: Selection, terms: Tensor, slopes: Tensor, usable: Tensor | None = None
) -> PerClass:
    """1 - the weighted mean over `rows` of `terms` `[C, K]`, each a function of its own score.

    `slopes` `[C, K]` are the derivatives of the terms; `[C, 0]` where they are not wanted.
    """
    shares, valid = shares_of(rows.mass(), usable)
    if rows.pool.wants_slope:
        slopes = rows.slope((shares * slopes).neg_())
    return PerClass(1 - (shares * terms).sum(1), valid, slopes)


def by_size(pool: Pool, statistic: Callable[[Pool], PerClass], *, padding: int) -> PerClass:
    """A statistic, formed apart for classes of unlike numbers of positives.

    The positives of each class are padded to those of the largest, which does many times the work
    where one class has most of the rows. Where reading counts is free, more than `padding` cells
    of padding part the classes into groups.
    """
    groups = _groups(pool.positive, padding)
    if len(groups) < 2:
        return statistic(pool)
    parts = [statistic(pool.of_classes(group)) for group in groups]
    order = torch.cat(groups).argsort()
    *tensors, diagnostics = zip(*parts, strict=True)
    tensors += zip(*diagnostics, strict=True)
    value, valid, slope, *rest = (torch.cat(of_groups)[order] for of_groups in tensors)
    return PerClass(value, valid, slope, tuple(rest))


def _groups(positive: Tensor, padding: int) -> list[Tensor]:
    if not readable(positive) or positive.numel() <= padding:
        return []
    count = row_counts(positive).squeeze(1)
    if len(count) * int(count.max()) - int(count.sum()) <= padding:
        return []
    power_of_four = count.clamp(min=1).log2().div(2, rounding_mode="floor")
    return [(power_of_four == size).nonzero().squeeze(1) for size in torch.unique(power_of_four)]
