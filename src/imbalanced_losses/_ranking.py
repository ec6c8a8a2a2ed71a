"""What the ranking losses share: their settings, and the way from a batch to a pool and back."""

import warnings
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from imbalanced_losses import _checks
from imbalanced_losses._buffers import PreciseBuffers
from imbalanced_losses._ops.runtime import readable
from imbalanced_losses._outcome import Outcome, outcome
from imbalanced_losses._pool import Pool, finite_rows, gather_rows, pool_of, subsample
from imbalanced_losses._queue import MemoryQueue
from imbalanced_losses._statistics.per_class import PerClass
from imbalanced_losses._targets import one_vs_rest
from imbalanced_losses.distributed import describe, failing_together, resolve_gather

REDUCTIONS = ("mean", "sum", "none")
SCORES = ("logits", "log_odds")


class PooledLoss(PreciseBuffers):
    """Settings, temperature and queue of a loss on a pool of rows; it does not know which loss."""

    tau: Tensor
    draws: Tensor

    def __init__(
        self,
        num_classes: int,
        queue_size: int,
        temperature: float,
        reduction: str,
        ignore_index: int,
        update_queue_in_eval: bool,
        gather_distributed: bool | None,
        max_pool_size: int | None,
        scores: str,
    ) -> None:
        super().__init__()
        _checks.integer("num_classes", num_classes, at_least=1)
        _checks.integer("queue_size", queue_size, at_least=0)
        _checks.one_of("reduction", reduction, REDUCTIONS)
        _checks.integer("ignore_index", ignore_index)
        _checks.flag("update_queue_in_eval", update_queue_in_eval)
        _checks.flag("gather_distributed", gather_distributed, optional=True)
        if max_pool_size is not None:
            _checks.integer("max_pool_size", max_pool_size, at_least=1)
        check_scores(scores, num_classes)
        self.num_classes = num_classes
        self.reduction = reduction
        self.ignore_index = ignore_index
        self.update_queue_in_eval = update_queue_in_eval
        self.gather_distributed = gather_distributed
        self.max_pool_size = max_pool_size
        self.scores = scores
        self.queue = MemoryQueue(num_classes, queue_size)
        # A tensor, so that a new temperature at every step does not recompile a compiled loss.
        self.register_buffer("tau", torch.zeros((), dtype=torch.float64))
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))
        self.temperature = temperature
        self._has_warned = False

    @property
    def queue_size(self) -> int:
        """Rows that the queue holds."""
        return self.queue.size

    @property
    def temperature(self) -> float:
        """tau, the width of the soft step in units of the score; may be assigned at any time."""
        return float(self.tau)

    @temperature.setter
    def temperature(self, value: float) -> None:
        _checks.number("temperature", value, above=0)
        self.tau.fill_(value)

    def reset_queue(self) -> None:
        """Forget the rows of all earlier batches."""
        self.queue.reset()

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return (
            f"num_classes={self.num_classes}, queue_size={self.queue_size}, "
            f"temperature={self.temperature:g}, reduction={self.reduction!r}"
        )

    def _outcome(
        self,
        statistic: Callable[[Pool, Tensor], PerClass],
        logits: Tensor,
        targets: Tensor,
        iid_mask: Tensor | None,
        sample_weight: Tensor | None,
    ) -> Outcome:
        """The statistic of this batch and the queue at this temperature; the batch then enters."""
        gathers = resolve_gather(self.gather_distributed)
        with failing_together(logits) if gathers else nullcontext():
            live = one_vs_rest(
                logits,
                targets,
                iid_mask,
                sample_weight,
                num_classes=self.num_classes,
                ignore_index=self.ignore_index,
                log_odds=self.scores == "log_odds",
            )
        if gathers:
            call = describe(
                type(self).__name__,
                logits.dtype,
                [self.num_classes],
                sample_weight=sample_weight,
                iid_mask=iid_mask,
            )
            live = gather_rows(live, call)
        live, broken = finite_rows(live)
        joined, live_rows = self.queue.join(live), live.weight.shape[0]
        pool = pool_of(joined, live_rows, broken)
        if self.max_pool_size is not None and self.max_pool_size < joined.weight.shape[0]:
            self._warn_of_subsample(pool)
            pool = subsample(pool, self.max_pool_size, self.draws)
            self.draws.add_(1)
        if self.training or self.update_queue_in_eval:
            # The pool is a copy: writing now is writing after the loss is computed.
            self.queue.push(joined, live_rows, broken)
        # A copy too: the temperature may be assigned between forward and backward.
        temperature = self.tau.to(pool.scores.dtype, copy=True)
        return outcome(statistic, pool, temperature, live.scores, self.reduction)

    def _warn_of_subsample(self, pool: Pool) -> None:
        if self._has_warned or torch.compiler.is_compiling():
            return
        # Where the count is out of sight, the shape decides.
        if readable(pool.valid) and int(pool.valid.any(0).sum()) <= (self.max_pool_size or 0):
            return
        self._has_warned = True
        warnings.warn(
            f"The pool of {pool.valid.shape[1]} rows is subsampled to max_pool_size="
            f"{self.max_pool_size}, with a quota for each class; the loss is now a random estimate "
            "that over-represents rare classes. This is said once.",
            UserWarning,
            stacklevel=6,  # the caller of the module
        )


def check_scores(scores: str, num_classes: int) -> None:
    """Raise unless these scores exist for this many classes."""
    _checks.one_of("scores", scores, SCORES)
    if scores == "log_odds" and num_classes == 1:
        raise ValueError(
            'scores="log_odds" needs mutually exclusive classes, num_classes >= 2; got '
            'num_classes=1, where the logit is the log-odds already. Use scores="logits".'
        )
