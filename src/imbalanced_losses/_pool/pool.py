"""The pool a ranking statistic reads: live and queued rows, perhaps a subsample of them."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from imbalanced_losses._ops.columns import columns_from
from imbalanced_losses._ops.runtime import readable
from imbalanced_losses._pool.rows import Rows


class Pool(NamedTuple):
    """M rows of C one-vs-rest problems: all queued and live rows, or a subsample of them."""

    scores: Tensor  # [C, M] float32 or float64; finite, also where not valid
    positive: Tensor  # [C, M] bool
    negative: Tensor  # [C, M] bool
    weight: Tensor  # [M]
    iid: Tensor  # [M] bool
    rows: int  # queued and live rows; the last ones are live
    live_rows: int
    nonfinite: Tensor | None = None  # [C] bool: a valid score was not finite; None: in no class
    drawn: Tensor | None = None  # [M]: which of the rows a subsample took; None: all
    # Whether a statistic is to form its derivative. Then nothing else follows the scores.
    wants_slope: bool = True

    @property
    def fixed_scores(self) -> Tensor:
        """The scores without a gradient, `[C, M]`."""
        return self.scores if self.wants_slope else self.scores.detach()

    @property
    def valid(self) -> Tensor:
        """`[C, M]` bool: positive or negative."""
        return self.positive | self.negative

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
        valid = self.valid
        return int(valid.any(0).sum()) if readable(valid) else valid.shape[1]

    def of_classes(self, index: Tensor) -> "Pool":
        """The same rows of some classes `[c]` alone."""
        return self._replace(
            scores=self.scores.index_select(0, index),
            positive=self.positive.index_select(0, index),
            negative=self.negative.index_select(0, index),
            nonfinite=None if self.nonfinite is None else self.nonfinite.index_select(0, index),
        )

    def from_first_live(self, values: Tensor) -> Tensor:
        """The columns of `values` `[..., M]` from the first live one on."""
        return columns_from(values, self.first_live)

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
        # Labels are -1, 0 and 1; on a CPU comparisons take twenty times as long.
        positive=rows.label.clamp(min=0).bool(),
        negative=rows.label.logical_not(),
        weight=rows.weight,
        iid=rows.iid,
        rows=rows.label.shape[1],
        live_rows=live_rows,
        nonfinite=None if nonfinite is None else nonfinite.any(1),
    )
