"""One way of measuring a training step: warm, in turns with the baseline, in one process."""

import ctypes
import gc
import itertools
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from benchmarks.cases import NETWORKS, Batch, Case
from benchmarks.contenders import Loss


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        seconds: For all who take turns in a case, once they are warm.
        least: Steps of each at least, however slow.
        most: Steps of each at most.
        warmups: Steps of each that are not counted; one slower than a second takes one.
    """

    seconds: float = 2.0
    least: int = 5
    most: int = 1000
    warmups: int = 10


class Times(NamedTuple):
    """Milliseconds of each step."""

    forward: list[float]
    backward: list[float]
    both: list[float]


class TrainingStep:
    """A forward and a backward pass of a loss on the next of the batches that go round.

    The queue is full before the first step, and as many different batches go round as fill it, so
    that the pool is one of distinct rows. With a network the step is the network's: forward, loss,
    backward, update of its weights.

    Attributes:
        case: What is measured.
        loss: The loss as it was made.
        call: The same, compiled where the case says so.
    """

    def __init__(
        self, case: Case, make: Callable[[Case], Loss], batches: Sequence[Batch] | None = None
    ) -> None:
        self.case = case
        self.batches = list(case.batches()) if batches is None else batches
        self.loss = make(case)
        self.call = self.loss
        if case.mode == "compiled":
            self.call = torch.compile(self.loss, fullgraph=True, dynamic=False)
        if case.queue and isinstance(self.loss, nn.Module):
            with torch.no_grad():
                for batch in self.batches:
                    self.loss(*batch)
        self._turn = itertools.cycle(self.batches)
        self._network = _Network(case) if case.network else None

    def __call__(self, clock: Callable[[], None] = lambda: None) -> None:
        """One step; the clock is read before, between forward and backward, and after."""
        logits, targets = next(self._turn)
        # As an optimizer's zero_grad leaves it: the memory is free for the next gradient.
        self.release()
        clock()
        if self._network is not None:
            logits = self._network.module(self._network.inputs)
        value = self.call(logits, targets)
        clock()
        torch.autograd.backward(value)
        if self._network is not None:
            self._network.update()
        clock()

    def release(self) -> None:
        """Free the gradients of earlier steps."""
        for logits, _ in self.batches:
            logits.grad = None


class _Network:
    """A network, its inputs and its optimizer; the targets are the case's."""

    def __init__(self, case: Case) -> None:
        torch.manual_seed(0)
        self.module, shape = NETWORKS[case.network](case.classes)
        self.module.to(case.device)
        self.inputs = torch.randn(case.shape[0], *shape, device=case.device)
        self._optimizer = torch.optim.SGD(self.module.parameters(), lr=1e-3, momentum=0.9)

    def update(self) -> None:
        self._optimizer.step()
        self._optimizer.zero_grad()


def in_turns(steps: Sequence[TrainingStep], effort: Effort) -> list[Times]:
    """Time the steps call by call in turns, after each has warmed up.

    On one thread the time is the processor's, in which the work of other processes does not count;
    on a machine that does nothing else it is the time that passes.
    """
    for step in steps:
        for _ in range(effort.warmups):
            start = _seconds()
            step()
            if _seconds() - start > 1:
                break
    now = _now_of(steps[0].case.device)
    marks: list[list[list[Mark]]] = [[] for _ in steps]
    gc.collect()
    gc.disable()
    try:
        end = _seconds() + effort.seconds
        while len(marks[0]) < effort.most and (len(marks[0]) < effort.least or _seconds() < end):
            for step, seen in zip(steps, marks, strict=True):
                mine: list[Mark] = []
                step(lambda mine=mine: mine.append(now()))  # type: ignore[misc]
                seen.append(mine)
    finally:
        gc.enable()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return [_times(seen) for seen in marks]


Mark = float | torch.cuda.Event


def _seconds() -> float:
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def _now_of(device: str) -> Callable[[], Mark]:
    """Reads the time here, or on a stream's own clock, for which nothing waits."""
    return _event if device == "cuda" else _seconds


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def _times(marks: Sequence[Sequence[Mark]]) -> Times:
    forward = [_milliseconds(start, middle) for start, middle, _ in marks]
    backward = [_milliseconds(middle, end) for _, middle, end in marks]
    return Times(forward, backward, [sum(parts) for parts in zip(forward, backward, strict=True)])


def _milliseconds(start: Mark, end: Mark) -> float:
    if isinstance(start, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
        return float(start.elapsed_time(end))
    assert isinstance(start, float)
    assert isinstance(end, float)
    return (end - start) * 1e3


def quantiles(times: Sequence[float]) -> tuple[float, float, float]:
    """The 20th, 50th and 80th percentile."""
    if len(times) == 1:
        return times[0], times[0], times[0]
    tenths = statistics.quantiles(times, n=10, method="inclusive")
    return tenths[1], tenths[4], tenths[7]


def peak_mib(action: Callable[[], object], device: str = "cpu") -> float | None:
    """MiB by which an action raises the memory in use, None where the system does not tell.

    On a CPU free memory is given back first, else it could live in what an earlier one left.
    """
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        action()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        resident = _status_mib("VmRSS")
        action()
        return max(0.0, _status_mib("VmHWM") - resident)
    except (OSError, AttributeError):
        return None


def _status_mib(key: str) -> float:
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise OSError(f"/proc/self/status has no {key}")
    return int(found[1]) / 1024


def memory_settings(*, fresh: bool) -> Iterator[tuple[str, str]]:
    """Environment of a process that keeps its memory, or maps every large array anew.

    A training loop reuses its memory, as a device's caching allocator does. glibc gives large
    arrays back to the system in between, depending on their sizes and their order: these settings
    take the choice from it. Other allocators do not read them.
    """
    if fresh:
        yield "MALLOC_MMAP_THRESHOLD_", str(128 * 1024)
    else:
        yield "MALLOC_MMAP_MAX_", "0"
        yield "MALLOC_TRIM_THRESHOLD_", str(2**40)
