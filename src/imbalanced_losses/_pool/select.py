"""Rows of a pool that matter to a statistic."""

from typing import NamedTuple

import torch
from torch import Tensor

from imbalanced_losses._ops.masks import row_counts
from imbalanced_losses._ops.runtime import readable
from imbalanced_losses._pool.pool import Pool


class Selection(NamedTuple):
    """K rows of each class of a pool, in which those that were asked for are inside."""

    pool: Pool
    scores: Tensor  # [C, K]
    inside: Tensor  # [C, K] bool
    cells: Tensor | None = None  # [C * K]: where they are in the flattened pool; None: K = M, all

    def mass(self) -> Tensor:
        """The rows' weight inside, 0 outside, `[C, K]`."""
        return self.inside * self.of_rows(self.pool.weight)

    def of_rows(self, values: Tensor) -> Tensor:
        """What these rows have of the pool's `values` `[M]`: `[C, K]`, or `[M]` where K = M."""
        if self.cells is None:
            return values
        rows = self.cells if len(self.inside) == 1 else self.cells % max(len(values), 1)
        return values.index_select(0, rows).view_as(self.inside)

    def slope(self, values: Tensor) -> Tensor:
        """A slope of `values` `[C, K]`, 0 outside, in the scores of these rows and 0 in others.

        From the pool's first live column on, as in `PerClass`.
        """
        if self.cells is None:
            return self.pool.from_first_live(values).contiguous()
        classes, columns = self.pool.scores.shape
        return self.add_to_(values.new_zeros(classes, columns - self.pool.first_live), values)

    def add_to_(self, slope: Tensor, values: Tensor) -> Tensor:
        """Add `values` `[C, K]`, 0 outside, to a slope in the scores of these rows."""
        if self.cells is None:
            return slope.add_(self.pool.from_first_live(values))
        if slope.numel() == 0:
            return slope
        cells, values = self.cells, values.reshape(-1)
        if self.pool.first_live > 0:
            columns = self.pool.scores.shape[1]
            row = cells % columns - self.pool.first_live
            values = values * (row >= 0)
            cells = cells.div(columns, rounding_mode="floor") * slope.shape[1] + row.clamp_(min=0)
        slope.view(-1).index_add_(0, cells, values)
        return slope


def select(pool: Pool, member: Tensor, *, above: int = 0) -> Selection:
    """Rows of the pool that hold all members `[C, M]` of each class.

    Where counts can be read, K is the number of members in the largest class. Elsewhere all rows
    are taken, for a shape may not depend on data. All are taken as well from a pool of no more
    than `above` cells, where what is done with them costs less than choosing.
    """
    if not readable(pool.scores) or member.numel() <= above:
        return Selection(pool, pool.scores, member)
    found = member.reshape(-1).nonzero().squeeze(1)  # class by class
    if len(member) == 1:  # without padding, which takes a dozen operations
        scores = pool.scores.index_select(1, found)
        return Selection(pool, scores, member.new_ones(scores.shape), found)
    count = row_counts(member)
    place = torch.arange(int(count.max()))
    inside = place < count
    # Padding repeats a class's own last member: the NaN of a nonfinite class stays with it.
    own = torch.minimum(place, count - 1).add_(count.cumsum(0).sub_(count))
    cells = found.index_select(0, own.view(-1).clamp_(0, max(len(found) - 1, 0)))
    scores = pool.scores.reshape(-1).index_select(0, cells).view_as(inside)
    return Selection(pool, scores, inside, cells)


def groups_of_like_size(member: Tensor, padding: int) -> list[Tensor]:
    """Classes with about as many members `[C, M]` each, where counts can be read.

    None where it is not, or where padding all classes to the largest adds at most `padding` cells.
    """
    if not readable(member) or member.numel() <= padding:
        return []
    count = row_counts(member).squeeze(1)
    if len(count) * int(count.max()) - int(count.sum()) <= padding:
        return []
    power_of_four = count.clamp(min=1).log2().div(2, rounding_mode="floor")
    return [(power_of_four == size).nonzero().squeeze(1) for size in torch.unique(power_of_four)]
