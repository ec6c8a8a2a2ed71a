"""One way of measuring a training step: time, peak memory, operators and synchronisations."""

import ctypes
import gc
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.steps import TrainingStep

WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


class Times(NamedTuple):
    """Milliseconds of each step."""

    forward: list[float]
    backward: list[float]
    both: list[float]


class Launches(NamedTuple):
    """What a step launches, None where that cannot be told."""

    kernels: int | None
    syncs: int | None
    top: str


def times(step: TrainingStep, count: int) -> Times:
    """Time `count` steps; forward and backward are two parts of the same step."""
    between = _cuda_times if step.case.device == "cuda" else _cpu_times
    gc.collect()
    gc.disable()
    try:
        marks = between(step, count)
    finally:
        gc.enable()
    return Times(
        [forward for forward, _ in marks],
        [backward for _, backward in marks],
        [forward + backward for forward, backward in marks],
    )


def _cpu_times(step: TrainingStep, count: int) -> list[tuple[float, float]]:
    pairs = []
    for _ in range(count):
        batch = step.batch()
        start = time.perf_counter()
        value = step.forward(batch)
        middle = time.perf_counter()
        step.backward(value)
        end = time.perf_counter()
        pairs.append(((middle - start) * 1e3, (end - middle) * 1e3))
    return pairs


def _cuda_times(step: TrainingStep, count: int) -> list[tuple[float, float]]:
    """The stream's own clock: nothing waits until all steps are in it."""
    marks = []
    for _ in range(count):
        batch = step.batch()
        start, middle, end = (_event() for _ in range(3))
        start.record()
        value = step.forward(batch)
        middle.record()
        step.backward(value)
        end.record()
        marks.append((start, middle, end))
    torch.cuda.synchronize()
    return [(start.elapsed_time(middle), middle.elapsed_time(end)) for start, middle, end in marks]


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def memory(step: TrainingStep) -> float | None:
    """Peak MiB of a step, its gradient included, above what was in use before."""
    step.release()
    return extra_memory(step, step.case.device)


def extra_memory(action: Callable[[], object], device: str = "cpu") -> float | None:
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


def launches(step: TrainingStep) -> Launches:
    """Count what one step launches, and name the three operators that take most of its time.

    On a CPU these are the operators that call no other operator; of a compiled step the profiler
    does not see the kernels. On a device they are its kernels, and the calls that wait for it.
    """
    on_device = step.case.device == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_device else [])]
    with profile(activities=activities, acc_events=True) as profiler:
        with record_function("step"):
            step()
        if on_device:
            torch.cuda.synchronize()
    events = list(profiler.events())
    operators = [event for event in events if event.name.startswith("aten::")]
    spent: Counter[str] = Counter()
    if not on_device:
        for event in operators:
            spent[event.name] += event.self_cpu_time_total
        leaves = sum(not event.cpu_children for event in operators)
        return Launches(leaves if step.case.mode == "eager" else None, None, _largest(spent))
    span = next(event.time_range for event in events if event.name == "step")
    kernels = [
        event
        for event in events
        if event.device_type.name == "CUDA"
        and event.name != "step"
        and not getattr(event, "is_user_annotation", False)
    ]
    for event in kernels:
        spent[event.name.split("<")[0]] += event.self_device_time_total
    waits = [
        event
        for event in events
        if event.name in WAITS and span.start <= event.time_range.start <= span.end
    ]
    return Launches(len(kernels), len(waits), _largest(spent))


def _largest(spent: "Counter[str]", count: int = 3) -> str:
    total = sum(spent.values()) or 1
    return ", ".join(
        f"{name.removeprefix('aten::')} {100 * time / total:.0f} %"
        for name, time in spent.most_common(count)
    )
