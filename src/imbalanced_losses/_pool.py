"""The pool a ranking statistic reads: live and queued rows, perhaps a subsample of them."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from imbalanced_losses._ops.masks import row_counts
from imbalanced_losses._ops.runtime import readable
from imbalanced_losses._targets import IGNORED, Rows
from imbalanced_losses.distributed import join_rows


class Pool(NamedTuple):
    """M rows of C one-vs-rest problems: all queued and live rows, or a subsample of them."""

    scores: Tensor  # [C, M] float32 or float64; finite, also where not valid
    positive: Tensor  # [C, M] bool, within valid
    valid: Tensor  # [C, M] bool
    weight: Tensor  # [M]
    iid: Tensor  # [M] bool
    rows: int  # queued and live rows; the last ones are live
    live_rows: int
    poisoned: Tensor | None = None  # [C] bool: a valid score was not finite; None: in no class
    drawn: Tensor | None = None  # [M]: which of the rows a subsample took; None: all
    wants_slope: bool = True  # whether a statistic is to form its derivative

    @property
    def live(self) -> Tensor:
        """`[M]` bool: rows of this batch, which carry gradient."""
        column = self.drawn
        if column is None:
            column = torch.arange(self.rows, device=self.scores.device)
        return column >= self.rows - self.live_rows

    @property
    def first_live(self) -> int:
        """No column before this one is a live row."""
        return self.rows - self.live_rows if self.drawn is None else 0

    def of_classes(self, index: Tensor) -> "Pool":
        """The same rows of some classes `[c]` alone."""
        return self._replace(
            scores=self.scores.index_select(0, index),
            positive=self.positive.index_select(0, index),
            valid=self.valid.index_select(0, index),
            poisoned=None if self.poisoned is None else self.poisoned.index_select(0, index),
        )

    def of_live(self, slope: Tensor) -> Tensor:
        """A slope from the first live column on as that of the live rows, `[C, live rows]`."""
        if self.drawn is None:
            return slope
        every = slope.new_zeros(len(slope), self.rows).index_copy_(1, self.drawn, slope)
        return every.narrow(1, self.rows - self.live_rows, self.live_rows)

    def with_live(self, scores: Tensor) -> "Pool":
        """This pool with the scores `[C, live rows]` in the place of those of the live rows."""
        columns = F.pad(scores, (self.rows - self.live_rows, 0))
        if self.drawn is not None:
            columns = columns.index_select(1, self.drawn)
        return self._replace(scores=torch.where(self.live, columns, self.scores))


def finite_rows(rows: Rows) -> tuple[Rows, Tensor | None]:
    """Rows with finite scores, 0 where there was none, and the cells `[C, N]` that broke.

    A broken cell is one that counts and is not finite; None where it is free to see that all scores
    are finite. The gradient of nan_to_num is a product: the NaN of a poisoned class reaches all its
    cells, while that of where is exactly 0 in ignored ones.
    """
    if readable(rows.scores) and math.isfinite(rows.scores.detach().sum()):
        return rows, None
    counted = rows.label != IGNORED
    scores = torch.where(counted, rows.scores, 0.0)
    broken = ~scores.isfinite()
    return rows._replace(scores=scores.nan_to_num(0.0, 0.0, 0.0)), broken


def pool_of(rows: Rows, live_rows: int, broken: Tensor | None) -> Pool:
    """The pool of `rows`, of which the last are the live ones that `broken` `[C, N]` tells of."""
    return Pool(
        scores=rows.scores.detach().contiguous(),
        # Labels are -1, 0 and 1; on a CPU comparisons take ten times as long.
        positive=_as_mask(rows.label.clamp(min=0)),
        valid=_as_mask((rows.label + 1).clamp_(max=1)),
        weight=rows.weight,
        iid=rows.iid,
        rows=rows.label.shape[1],
        live_rows=live_rows,
        poisoned=None if broken is None else broken.any(1),
    )


def _as_mask(zeros_and_ones: Tensor) -> Tensor:
    """A bool view of int8, for a conversion takes ten times as long; compilers only convert."""
    if torch.compiler.is_compiling():
        return zeros_and_ones.bool()
    return zeros_and_ones.view(torch.bool)


class Selection(NamedTuple):
    """K rows of each class of a pool, in which those that were asked for are inside."""

    pool: Pool
    scores: Tensor  # [C, K]
    inside: Tensor  # [C, K] bool
    cells: Tensor | None = None  # [C * K]: where they are in the flattened pool; None: K = M, all

    def mass(self) -> Tensor:
        """The rows' weight inside, 0 outside, `[C, K]`."""
        weight = self.pool.weight
        if self.cells is not None:
            weight = weight.index_select(0, self.cells % max(len(weight), 1)).view_as(self.inside)
        return self.inside * weight

    def slope(self, values: Tensor) -> Tensor:
        """A slope of `values` `[C, K]`, 0 outside, in the scores of these rows and 0 in others.

        From the pool's first live column on, as in `PerClass`.
        """
        if self.cells is None:
            return values[:, self.pool.first_live :].contiguous()
        classes, columns = self.pool.scores.shape
        return self.add_to_(values.new_zeros(classes, columns - self.pool.first_live), values)

    def add_to_(self, slope: Tensor, values: Tensor) -> Tensor:
        """Add `values` `[C, K]`, 0 outside, to a slope in the scores of these rows."""
        if self.cells is None:
            return slope.add_(values[:, self.pool.first_live :])
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

    Where reading counts is free, K is the number of members in the largest class; elsewhere all
    rows are taken, for a shape may not depend on data. All are taken as well from a pool of no more
    than `above` cells, where what is done with them costs less than choosing.
    """
    if not readable(pool.scores) or member.numel() <= above:
        return Selection(pool, pool.scores, member)
    found = member.reshape(-1).nonzero().squeeze(1)  # class by class
    count = row_counts(member)
    place = torch.arange(int(count.max()))
    inside = place < count
    # Padding repeats a class's own last member: the NaN of a poisoned class stays with it.
    own = torch.minimum(place, count - 1).add_(count.cumsum(0).sub_(count))
    cells = found.index_select(0, own.view(-1).clamp_(0, max(len(found) - 1, 0)))
    scores = pool.scores.reshape(-1).index_select(0, cells).view_as(inside)
    return Selection(pool, scores, inside, cells)


def gather_rows(rows: Rows, call: str) -> Rows:
    """The rows of all ranks that make the same `call`, in rank order; own scores keep gradient."""
    dtype = rows.scores.dtype
    packed = torch.cat(
        (
            rows.scores,
            rows.label.to(dtype),
            rows.weight.unsqueeze(0),
            rows.iid.to(dtype).unsqueeze(0),
        )
    )
    joined = join_rows(packed.t(), call).t()
    classes = len(rows.scores)
    scores, label, weight, iid = torch.split(joined, [classes, classes, 1, 1])
    return Rows(scores, label.detach().to(torch.int8), weight.detach()[0], iid.detach()[0] == 1)


def subsample(pool: Pool, size: int, draw: Tensor) -> Pool:
    """`size` rows of the pool: a quota for each observed class, then uniformly at random.

    The quota is size // (2 * number of observed classes), at least 1. Rows that are positive for no
    class count as one class more, so a binary pool has the two classes one expects.

    Args:
        pool: M > `size` rows.
        size: Rows to keep.
        draw: Number of the draw, int64 `[]`. The same draw from a pool of the same length takes the
            same random keys on every rank and after a restart.
    """
    # The quota takes the rows of lowest key in each class and leaves high ones, so that a uniform
    # fill needs keys of its own.
    quota_keys, fill_keys = _uniform(2 * pool.positive.shape[1], draw).chunk(2)
    order = quota_keys.argsort()
    observed = pool.valid.any(0)
    unlabelled = observed & ~pool.positive.any(0)
    members = torch.cat((pool.positive, unlabelled.unsqueeze(0)))[:, order]
    groups = members.any(1).sum()
    quota = (size // (2 * groups).clamp(min=1)).clamp(min=1)
    reserved = (members & (members.cumsum(1) <= quota)).any(0)
    # Keys are in [0, 1): reserved rows come first, then observed ones, then empty slots.
    priority = observed[order] + 1.0 * reserved + fill_keys
    chosen = order[priority.topk(size).indices]
    return pool._replace(
        scores=pool.scores[:, chosen],
        positive=pool.positive[:, chosen],
        valid=pool.valid[:, chosen],
        weight=pool.weight[chosen],
        iid=pool.iid[chosen],
        drawn=chosen,
    )


def _uniform(count: int, draw: Tensor) -> Tensor:
    """`count` numbers in [0, 1) from a 32-bit hash of their position and the number of the draw.

    A generator would need one seed on all ranks and its state in the checkpoint; a counter needs
    neither. The hash is `lowbias32` (Wellons, "Prospecting for Hash Functions", 2018).
    """
    position = torch.arange(count, device=draw.device)
    bits = _hash((position + _hash(draw + 1)) & 0xFFFFFFFF)
    return (bits >> 8).to(torch.float32) / 2**24


def _hash(bits: Tensor) -> Tensor:
    bits = bits ^ (bits >> 16)
    bits = (bits * 0x7FEB352D) & 0xFFFFFFFF
    bits = bits ^ (bits >> 15)
    bits = (bits * 0x846CA68B) & 0xFFFFFFFF
    return bits ^ (bits >> 16)
