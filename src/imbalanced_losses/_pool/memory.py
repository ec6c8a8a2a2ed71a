"""What a loss remembers of earlier batches, and the pool that it makes of the next one."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from imbalanced_losses._pool.pool import Pool, build_pool
from imbalanced_losses._pool.queue import MemoryQueue
from imbalanced_losses._pool.rows import Rows
from imbalanced_losses._pool.subsample import subsample


class Memory(NamedTuple):
    """A queue, how large a pool may be, and whether this call writes."""

    queue: MemoryQueue
    max_pool_size: int | None
    draws: Tensor  # [] int64: how many subsamples there were
    writes: bool

    def subsamples(self, live: Rows) -> bool:
        """Whether the pool of these live rows is larger than it may be."""
        rows = self.queue.size + live.weight.shape[0]
        return self.max_pool_size is not None and self.max_pool_size < rows

    def pooled(
        self,
        live: Rows,
        nonfinite: Tensor | None,
        on_subsample: Callable[[Pool], None] | None = None,
    ) -> Pool:
        """The pool of the queue and the live rows of `finite_rows`, which the queue then takes.

        A pool that is too large is shown before its subsample is drawn.
        """
        joined, live_rows = self.queue.join(live), live.weight.shape[0]
        pool = build_pool(joined, live_rows, nonfinite)
        if self.max_pool_size is not None and self.subsamples(live):
            if on_subsample is not None:
                on_subsample(pool)
            pool = subsample(pool, self.max_pool_size, self.draws.to(pool.scores.device))
        if self.writes:
            # The pool is a copy: writing now is writing after the loss is computed.
            self.queue.push(joined, live_rows, nonfinite)
        return pool
