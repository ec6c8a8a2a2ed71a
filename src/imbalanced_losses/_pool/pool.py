"""The pool a ranking statistic reads: live and queued rows, perhaps a subsample of them."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from imbalanced_losses._ops.runtime import is_compiling, readable
from imbalanced_losses._pool.rows import Rows


class Pool(NamedTuple):
    """M rows of C one-vs-rest problems: all queued and live rows, or a subsample of them."""

    scores: Tensor  # [C, M] float32 or float64; finite, also where not valid
    positive: Tensor  # [C, M] bool, within valid
    valid: Tensor  # [C, M] bool
    weight: Tensor  # [M]
    iid: Tensor  # [M] bool
    rows: int  # queued and live rows; the last ones are live
    live_rows: int
    nonfinite: Tensor | None = None  # [C] bool: a valid score was not finite; None: in no class
    drawn: Tensor | None = None  # [M]: which of the rows a subsample took; None: all
    wants_slope: bool = True  # whether a statistic is to form its derivative

    @property
    def negative(self) -> Tensor:
        """`[C, M]` bool, within valid."""
        return self.valid ^ self.positive

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

    def observed_rows(self) -> int:
        """Rows that count for some class; all rows where counts cannot be read."""
        return int(self.valid.any(0).sum()) if readable(self.valid) else self.valid.shape[1]

    def of_classes(self, index: Tensor) -> "Pool":
        """The same rows of some classes `[c]` alone."""
        return self._replace(
            scores=self.scores.index_select(0, index),
            positive=self.positive.index_select(0, index),
            valid=self.valid.index_select(0, index),
            nonfinite=None if self.nonfinite is None else self.nonfinite.index_select(0, index),
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


def build_pool(rows: Rows, live_rows: int, nonfinite: Tensor | None) -> Pool:
    """The pool of `rows`; the last ones are live, and `nonfinite` `[C, N]` tells of these."""
    return Pool(
        scores=rows.scores.detach().contiguous(),
        # Labels are -1, 0 and 1; on a CPU comparisons take ten times as long.
        positive=_as_mask(rows.label.clamp(min=0)),
        valid=_as_mask((rows.label + 1).clamp_(max=1)),
        weight=rows.weight,
        iid=rows.iid,
        rows=rows.label.shape[1],
        live_rows=live_rows,
        nonfinite=None if nonfinite is None else nonfinite.any(1),
    )


def _as_mask(zeros_and_ones: Tensor) -> Tensor:
    """A bool view of int8, for a conversion takes ten times as long; compilers only convert."""
    if is_compiling():
        return zeros_and_ones.bool()
    return zeros_and_ones.view(torch.bool)
