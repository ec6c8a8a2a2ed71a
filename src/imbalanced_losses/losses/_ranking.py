"""The road of every ranking loss, batch -> pool -> statistic -> loss, and its module."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from imbalanced_losses import _checks
from imbalanced_losses._ops.runtime import is_compiling, is_in_backward, readable
from imbalanced_losses._pool.memory import Memory
from imbalanced_losses._pool.pool import Pool
from imbalanced_losses._pool.queue import MemoryQueue, packed_bytes
from imbalanced_losses._pool.rows import Batch, Rows, gather_rows
from imbalanced_losses._warn import warn
from imbalanced_losses.distributed import describe, failing_together, resolve_gather
from imbalanced_losses.losses._module import Loss, Setting
from imbalanced_losses.losses._per_class import Outcome, Statistic, outcome_of
from imbalanced_losses.losses._watch import GradientWatch

# Form of the state in a checkpoint; the numbers at its head, all float64.
_VERSION = 1
_HEAD = ("version", "num_classes", "queue_size", "itemsize", "draws", "temperature")
_DTYPES = {4.0: torch.float32, 8.0: torch.float64}


@dataclass(frozen=True)
class RankingSettings:
    """What every ranking loss can be told, its function and its module alike."""

    num_classes: int
    reduction: str = "mean"
    ignore_index: int = -100
    scores: str = "logits"
    update_queue_in_eval: bool = False
    gather_distributed: bool | None = None
    max_pool_size: int | None = None

    def __post_init__(self) -> None:
        _checks.settle(
            self,
            num_classes=_checks.integer("num_classes", self.num_classes, at_least=1),
            ignore_index=_checks.integer("ignore_index", self.ignore_index),
        )
        _checks.one_of("reduction", self.reduction, ("mean", "sum", "none"))
        _checks.flag("update_queue_in_eval", self.update_queue_in_eval)
        _checks.flag("gather_distributed", self.gather_distributed, optional=True)
        if self.max_pool_size is not None:
            size = _checks.integer("max_pool_size", self.max_pool_size, at_least=1)
            _checks.settle(self, max_pool_size=size)
        _checks.one_of("scores", self.scores, ("logits", "log_odds"))
        if self.scores == "log_odds" and self.num_classes == 1:
            raise ValueError(
                'scores="log_odds" needs mutually exclusive classes, num_classes >= 2; got '
                'num_classes=1, where the logit is the log-odds already. Use scores="logits".'
            )

    def read(
        self,
        logits: Tensor,
        targets: Tensor,
        iid_mask: Tensor | None,
        sample_weight: Tensor | None,
    ) -> tuple[Rows, Batch]:
        """The checked rows of a call, and the batch whose logits are their scores."""
        batch = Batch(logits, targets, iid_mask, sample_weight, self.ignore_index)
        if self.scores == "log_odds":
            rows = batch.rows(self.num_classes, log_odds=True)
            return rows, Batch.of(rows)
        return batch.rows(self.num_classes), batch


def ranking_loss(
    statistic: Statistic,
    logits: Tensor,
    targets: Tensor,
    iid_mask: Tensor | None,
    sample_weight: Tensor | None,
    *,
    temperature: float,
    reduction: str,
    ignore_index: int,
    scores: str,
) -> Tensor:
    """The loss of one batch: no queue and no state, the batch alone is the pool."""
    _checks.tensor("logits", logits)
    settings = RankingSettings(
        num_classes=logits.shape[1] if logits.dim() >= 2 else 1,
        reduction=reduction,
        ignore_index=ignore_index,
        scores=scores,
    )
    temperature = _checks.number("temperature", temperature, above=0)
    rows, batch = settings.read(logits, targets, iid_mask, sample_weight)
    tau = torch.full((), temperature, dtype=rows.scores.dtype, device=rows.scores.device)
    none = Memory(MemoryQueue(settings.num_classes, 0), None, tau, False)
    return outcome_of(statistic, rows, batch, none, tau, reduction)[0].loss


class RankingLoss(Loss):
    """The module of a statistic: its settings, its temperature, and the queue that it remembers.

    A subclass has a constructor that names the settings, and inherits the rest.

    Args:
        statistic: What is read off the pool.
        num_classes: C; 1 for binary problems.
        queue_size: Rows of earlier batches in the pool, which take part without gradient; 0 for
            none.
        temperature: tau > 0, the width of the soft step. May be assigned at any time.
        reduction: `"mean"` or `"sum"` over the valid classes, or `"none"`.
        ignore_index: Rows, or cells of multi-hot targets, with this target do not count.
        update_queue_in_eval: Whether `eval()` mode writes to the queue; it is frozen otherwise.
        gather_distributed: None pools the rows of all ranks whenever a process group of several
            is live at the call, True raises where there is none, False stays local.
        max_pool_size: Subsample larger pools to this many rows, first a quota of
            `max_pool_size // (2 * observed classes)` for each class, then uniformly. The queue is
            not touched. Warns the first time.
        scores: `"logits"`, or `"log_odds"` to rank the log-odds of the softmax probability,
            z_c - logsumexp of the other logits.

    Raises:
        TypeError: For a setting of a wrong type.
        ValueError: For a setting out of range.
    """

    num_classes = Setting[int]("settings")
    reduction = Setting[str]("settings")
    ignore_index = Setting[int]("settings")
    scores = Setting[str]("settings")
    update_queue_in_eval = Setting[bool]("settings")
    gather_distributed = Setting["bool | None"]("settings")
    max_pool_size = Setting["int | None"]("settings")

    def __init__(
        self,
        statistic: Statistic,
        num_classes: int,
        *,
        queue_size: int = 1024,
        temperature: float = 0.01,
        reduction: str = "mean",
        ignore_index: int = -100,
        update_queue_in_eval: bool = False,
        gather_distributed: bool | None = None,
        max_pool_size: int | None = None,
        scores: str = "logits",
    ) -> None:
        super().__init__()
        self.statistic = statistic
        self.settings = RankingSettings(
            num_classes=num_classes,
            reduction=reduction,
            ignore_index=ignore_index,
            scores=scores,
            update_queue_in_eval=update_queue_in_eval,
            gather_distributed=gather_distributed,
            max_pool_size=max_pool_size,
        )
        queue_size = _checks.integer("queue_size", queue_size, at_least=0)
        self.queue = MemoryQueue(self.settings.num_classes, queue_size)
        # Tensors, so that a new temperature or draw at every step does not recompile a loss.
        self.tau = torch.zeros((), dtype=torch.float64, device="cpu")
        self.draws = torch.zeros((), dtype=torch.int64, device="cpu")
        # What a subclass learns beside the queue, in float64 and of a fixed shape.
        self.own = torch.zeros(0, dtype=torch.float64, device="cpu")
        self.temperature = temperature
        self._freezes = 0
        self._has_warned = False
        self._watch = GradientWatch()

    @property
    def queue_size(self) -> int:
        """Rows that the queue holds."""
        return self.queue.size

    @property
    def temperature(self) -> float:
        """tau, the width of the soft step; may be assigned at any time."""
        return self._temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        self._temperature = float(_checks.number("temperature", value, above=0))
        self.tau.fill_(self._temperature)

    def forward(
        self,
        logits: Tensor,
        targets: Tensor,
        iid_mask: Tensor | None = None,
        return_per_class: bool = False,
        *,
        sample_weight: Tensor | None = None,
    ) -> Any:
        """Loss of a batch and the queue. Then pushes the batch to the queue.

        Args:
            logits: `[N, C]` or `[N, C, d1, ...]`, or `[N]` where C = 1; any floating dtype.
            targets: Class indices `[N]`, `[N, 1]` or `[N, d1, ...]`, 0/1 where C = 1, or multi-hot
                of the logits' shape.
            iid_mask: bool, `[N]` or one for each position; rows drawn as the population is, which
                alone set thresholds. Kept in the queue. None means all.
            return_per_class: Whether to return the classes' losses as well.
            sample_weight: Non-negative, `[N]` or one for each position, weighs the positives'
                terms.

        Returns:
            The loss, or `(loss, per_class [C], valid [C])` with NaN where a class is not valid.

        Raises:
            TypeError: For a wrong dtype.
            ValueError: For a wrong shape or, on CPU, a target out of range.
            RuntimeError: For a call from inside a backward pass, if it would write to the queue.
        """
        outcome = self._outcome(self.statistic, logits, targets, iid_mask, sample_weight)
        return outcome.returned(return_per_class=return_per_class)

    def reset_queue(self) -> None:
        """Forget the rows of all earlier batches."""
        self.queue.reset()

    @contextmanager
    def frozen_queue(self) -> Iterator[None]:
        """Within this block the loss is computed and nothing is written.

        For more than one evaluation in a step: a closure for LBFGS, both passes of SAM. All see the
        same pool; one call outside the block then pushes the batch.

        Examples:
            >>> from imbalanced_losses import SmoothAPLoss
            >>> loss_fn = SmoothAPLoss(num_classes=1, queue_size=4)
            >>> with loss_fn.frozen_queue():
            ...     value = loss_fn(torch.tensor([0.9, 0.8, 0.1]), torch.tensor([1, 0, 1]))
            >>> loss_fn.queue.label
            tensor([[-1, -1, -1, -1]], dtype=torch.int8)
        """
        self._freezes += 1
        try:
            yield
        finally:
            self._freezes -= 1

    def get_extra_state(self) -> Tensor:
        """All that is remembered as bytes, in one tensor that any checkpoint can hold."""
        rows = self.queue.rows
        head = (
            _VERSION,
            self.settings.num_classes,
            self.queue.size,
            rows.scores.itemsize,
            int(self.draws),
            self._temperature,
        )
        numbers = torch.tensor(head, dtype=torch.float64, device="cpu")
        numbers = torch.cat((numbers, self.own.cpu().view(-1)))
        return torch.cat((numbers.view(torch.uint8), self.queue.packed()))

    def set_extra_state(self, state: Tensor) -> None:
        """Restore what `get_extra_state` returned, of a queue of any size."""
        classes = self.settings.num_classes
        head = _head_of(state)
        dtype = _DTYPES.get(head.get("itemsize", 0))
        size = int(head.get("queue_size", 0))
        start = 8 * (len(_HEAD) + self.own.numel())
        if (
            dtype is None
            or head["version"] != _VERSION
            or head["num_classes"] != classes
            or len(state) != start + packed_bytes(classes, size, dtype)
        ):
            found = f"num_classes={head['num_classes']:g}" if head else "another object"
            raise ValueError(
                f"The checkpoint's state of a {type(self).__name__} does not fit num_classes="
                f"{classes}: it is of {found} or of another version. Build the loss as it was, or "
                "remove its key '_extra_state' and load with strict=False to start afresh."
            )
        self.queue.unpack(state[start:].cpu(), size, dtype)
        own = state[8 * len(_HEAD) : start].cpu().clone().view(torch.float64)
        self.own.copy_(own.view_as(self.own))
        self.draws.fill_(head["draws"])
        self.temperature = head["temperature"]

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        own = "".join(f", {f.name}={getattr(self.statistic, f.name)!r}" for f in _shown(self))
        return (
            f"num_classes={self.num_classes}, queue_size={self.queue_size}, "
            f"temperature={self.temperature:g}, reduction={self.reduction!r}{own}"
        )

    def _held(self) -> Tensor:
        return self.queue.label

    def _move(self, device: torch.device) -> None:
        self.queue.to(device)
        with torch.inference_mode(False):
            self.tau, self.draws = self.tau.to(device), self.draws.to(device)
            self.own = self.own.to(device)

    def _outcome(
        self,
        statistic: Statistic,
        logits: Tensor,
        targets: Tensor,
        iid_mask: Tensor | None,
        sample_weight: Tensor | None,
    ) -> Outcome:
        """The statistic of this batch and the queue. Then pushes the batch to the queue."""
        settings = self.settings
        writes = (self.training or settings.update_queue_in_eval) and not self._freezes
        gathers = resolve_gather(settings.gather_distributed)
        with failing_together(logits) if gathers else nullcontext():
            rows, batch = settings.read(logits, targets, iid_mask, sample_weight)
            if writes:
                self._refuse_recomputation(rows)
        if gathers:
            call = describe(
                type(self).__name__,
                logits.dtype,
                [settings.num_classes],
                sample_weight=sample_weight,
                iid_mask=iid_mask,
            )
            rows = gather_rows(rows, call)
            batch = Batch.of(rows)
        source = rows.scores
        if not (source.is_meta or source.device == self.draws.device):
            self._move(source.device)
        if writes:
            self.queue.widen_for(rows)
        memory = Memory(self.queue, settings.max_pool_size, self.draws, writes)
        # A copy, for the temperature may be assigned between forward and backward.
        temperature = self.tau.to(source, copy=True)
        outcome, seen = outcome_of(
            statistic,
            rows,
            batch,
            memory,
            temperature,
            settings.reduction,
            self._warn_of_subsample,
        )
        if memory.subsamples(rows) and not (self._freezes or source.is_meta):
            self.draws.add_(1)
        if seen is not None and self.training and readable(source):
            self._warn_of_dead_gradient()
            self._watch.look(*seen, outcome)
        return outcome

    def _refuse_recomputation(self, rows: Rows) -> None:
        """Raise inside a backward pass, where the pool of the first call is gone."""
        settings, queue, own = self.settings, self.queue, self.own
        remembers = queue.size or own.numel() or settings.max_pool_size is not None
        if remembers and is_in_backward(rows.scores):
            raise RuntimeError(
                f"{type(self).__name__} was called from inside a backward pass, as activation "
                "checkpointing does to compute a part again. Its state holds the batch by now, so "
                "the second loss would not be the first. Call the loss outside of "
                "torch.utils.checkpoint (it keeps little for its backward pass), or inside "
                "`with loss.frozen_queue():`."
            )

    def _warn_of_subsample(self, pool: Pool) -> None:
        size = self.max_pool_size
        if self._has_warned or is_compiling() or size is None or pool.observed_rows() <= size:
            return
        self._has_warned = True
        warn(
            f"The pool of {pool.scores.shape[1]} rows is subsampled to max_pool_size={size}, with "
            "a quota for each class; the loss is now a random estimate that over-represents rare "
            "classes. This is said once."
        )

    def _warn_of_dead_gradient(self) -> None:
        finding = self._watch.take_finding()
        if finding is not None:
            tau_scale = getattr(self.statistic, "tau_scale", None)
            message = finding.message(type(self).__name__, self.temperature, tau_scale)
            warn(message)


def _head_of(state: object) -> dict[str, float]:
    """The numbers at the head of a state; none where this is no state of a ranking loss."""
    length = 8 * len(_HEAD)
    if not isinstance(state, Tensor) or state.dtype != torch.uint8 or state.ndim != 1:
        return {}
    if len(state) < length:
        return {}
    # A copy, for a view in another dtype wants its memory aligned.
    numbers = state[:length].cpu().clone().view(torch.float64).tolist()
    return dict(zip(_HEAD, numbers, strict=True))


def _shown(loss: RankingLoss) -> list[Any]:
    statistic: Any = loss.statistic
    return [field for field in fields(statistic) if field.repr]
