"""The way from a batch to a statistic as one operator, which a compiler calls and does not enter.

On a CPU, where looking at a count costs nothing, that way chooses the rows that matter and takes
the fastest operations for so many. A graph, whose shapes are fixed, takes two to nine times as
long. The results have fixed shapes, whatever is read on the way. An accelerator would wait for what
is read, so its graphs hold the operations.
"""

import ast
from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from imbalanced_losses._ops.runtime import below_autograd
from imbalanced_losses._pool.memory import Memory
from imbalanced_losses._pool.queue import MemoryQueue
from imbalanced_losses._pool.rows import Batch, Rows, finite_rows, slope_of_rows

# What makes a statistic of its settings, by the name of its class: an operator takes tensors,
# numbers and text. What it makes is called with the pool and the temperature.
KINDS: dict[str, Callable[..., Any]] = {}


def name_of(kind: type) -> str:
    """The name of a class of statistics."""
    return f"{kind.__module__}.{kind.__qualname__}"


def arguments(
    statistic: Any,
    batch: Batch,
    memory: Memory,
    temperature: Tensor,
    *,
    wants_slope: bool,
) -> tuple[Any, ...]:
    """What `measure` takes, for a statistic that is a dataclass of numbers and text."""
    values = ((field.name, getattr(statistic, field.name)) for field in fields(statistic))
    settings = ", ".join(f"{name!r}: {value!r}" for name, value in values)
    return (
        name_of(type(statistic)),
        f"{{{settings}}}",
        temperature,
        batch.logits.detach(),
        *batch[1:],
        *memory.queue.rows,
        memory.max_pool_size,
        memory.draws,
        memory.writes,
        wants_slope,
    )


@lru_cache
def _statistic(kind: str, settings: str) -> Any:
    return KINDS[kind](**ast.literal_eval(settings))


def _measure(
    kind: str,
    settings: str,
    temperature: Tensor,
    logits: Tensor,
    targets: Tensor,
    iid_mask: Tensor | None,
    sample_weight: Tensor | None,
    ignore_index: int,
    queued_scores: Tensor,
    queued_label: Tensor,
    queued_weight: Tensor,
    queued_iid: Tensor,
    max_pool_size: int | None,
    draws: Tensor,
    writes: bool,
    wants_slope: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss, valid, slope (of no columns where it is not wanted) and diagnostics `[D, C]`, float64.

    Of the batch's rows and of those in the queue, which then takes the batch's if it `writes`. The
    slope is that in the rows of the batch, `[C, N]`.
    """
    with below_autograd():
        classes, size = queued_label.shape
        queue = MemoryQueue(
            classes, size, Rows(queued_scores, queued_label, queued_weight, queued_iid)
        )
        rows = Batch(logits, targets, iid_mask, sample_weight, ignore_index).rows(classes)
        live, nonfinite = finite_rows(rows)
        pool = Memory(queue, max_pool_size, draws, writes).pooled(live, nonfinite)
        found = _statistic(kind, settings).measured(
            pool._replace(wants_slope=wants_slope), temperature
        )
        if found.slope is None:
            slope = live.scores.new_empty(classes, 0)
        else:
            slope = slope_of_rows(pool.of_live(found.slope), rows, nonfinite).contiguous()
        if found.diagnostics:
            diagnostics = torch.stack([values.double() for values in found.diagnostics])
        else:
            diagnostics = torch.empty(0, classes, dtype=torch.float64)
    return found.loss, found.valid, slope, diagnostics


def _shapes(kind: str, settings: str, temperature: Tensor, logits: Tensor, *others: Any) -> Any:
    queued_scores, wants_slope = others[4], others[-1]
    classes = queued_scores.shape[0]
    diagnostics = len(_statistic(kind, settings).diagnostic_dtypes)
    return (
        temperature.new_empty(classes),
        temperature.new_empty(classes, dtype=torch.bool),
        temperature.new_empty(classes, logits.numel() // classes if wants_slope else 0),
        temperature.new_empty(diagnostics, classes, dtype=torch.float64),
    )


# Not by `torch.library.custom_op`, whose layers of Python cost as much as a small pool.
_LIBRARY: Any = torch.library.Library("imbalanced_losses", "FRAGMENT")  # type: ignore[no-untyped-call]
_QUEUED = ("queued_scores", "queued_label", "queued_weight", "queued_iid")
_LIBRARY.define(f"measure{torch.library.infer_schema(_measure, mutates_args=_QUEUED)}")
_LIBRARY.impl("measure", _measure, "CPU")
torch.library.register_fake("imbalanced_losses::measure", _shapes, lib=_LIBRARY)
measure = torch.ops.imbalanced_losses.measure.default
