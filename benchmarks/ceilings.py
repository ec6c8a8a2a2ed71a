"""What this machine can do at best: copies, exponentials, sorts, selections and launches."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import records
from benchmarks.machine import machine


@dataclass(frozen=True)
class Ceiling:
    """The least time that one unit of work took, at one size.

    `copy` is per byte read or written and its size is the bytes of the source; `fresh` is per byte
    written to memory that was just allocated; `exp` and `sigmoid` are per element; `sort` and
    `top` (the highest 0.5 %) are per element of rows of the size; `forward` and `step` are per
    small operator, without and with its backward.
    """

    name: str
    size: int
    nanoseconds: float
    device: str
    machine: str
    torch: str


class Ceilings:
    """Ceilings of one device, looked up at the nearest size that was measured."""

    def __init__(self, measured: Sequence[Ceiling]) -> None:
        self.measured = measured

    def __call__(self, name: str, size: float = 1) -> float:
        """Nanoseconds per unit of work."""
        of_name = [ceiling for ceiling in self.measured if ceiling.name == name]
        nearest = min(of_name, key=lambda ceiling: abs(math.log(ceiling.size / max(size, 1))))
        return nearest.nanoseconds


def measure(seconds: float = 0.3, device: str = "cpu", *, largest: int = 2**27) -> list[Ceiling]:
    """Measure every ceiling on one thread; `largest` bounds the bytes of a tensor."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            found = [*_streams(seconds, device, largest), *_orders(seconds, device, largest)]
        found += _launches(seconds, device)
    finally:
        torch.set_num_threads(threads)
    where = (device, machine(device), torch.__version__)
    return [Ceiling(name, size, cost, *where) for name, size, cost in found]


def read(path: Path) -> dict[str, Ceilings]:
    """Ceilings that were written with `records`, by device; nothing where there is nothing."""
    by_device: dict[str, list[Ceiling]] = {}
    for ceiling in records.read(path, Ceiling):
        by_device.setdefault(ceiling.device, []).append(ceiling)
    return {device: Ceilings(found) for device, found in by_device.items()}


Found = tuple[str, int, float]


def _streams(seconds: float, device: str, largest: int) -> Iterator[Found]:
    for size in filter(largest.__ge__, (2**k for k in (14, 18, 22, 24, 25, 26, 27))):
        source = torch.randn(size // 4, device=device)
        target = torch.empty_like(source)
        yield "copy", size, _best(partial(target.copy_, source), seconds, device) / (2 * size)
        yield "fresh", size, _best(partial(torch.ones_like, source), seconds, device) / size
    for count in filter((largest // 4).__ge__, (2**12, 2**16, 2**22)):
        source = torch.randn(count, device=device)
        target = torch.empty_like(source)
        for name, function in (("exp", torch.exp), ("sigmoid", torch.sigmoid)):
            action = partial(function, source, out=target)
            yield name, count, _best(action, seconds, device) / count


def _orders(seconds: float, device: str, largest: int) -> Iterator[Found]:
    for length in filter((largest // 4).__ge__, (2**k for k in (8, 10, 13, 14, 17, 20))):
        scores = torch.randn(max(1, 2**17 // length), length, device=device)
        sort, top = partial(torch.sort, scores), partial(torch.topk, scores, max(1, length // 200))
        for name, action in (("sort", sort), ("top", top)):
            yield name, length, _best(action, seconds, device) / scores.numel()


def _launches(seconds: float, device: str, chain: int = 64) -> Iterator[Found]:
    start = torch.ones(16, device=device)
    leaf = start.clone().requires_grad_()

    def forward(value: Tensor) -> Tensor:
        for _ in range(chain):
            value = value.mul(1.0)
        return value

    def step() -> None:
        leaf.grad = None
        torch.autograd.backward(forward(leaf), start)

    with torch.no_grad():
        yield "forward", 1, _best(lambda: forward(start), seconds, device) / chain
    yield "step", 1, _best(step, seconds, device) / chain


def _best(action: Callable[[], object], seconds: float, device: str) -> float:
    """The least nanoseconds of an action, tried for so long and three times at least."""
    best, end = math.inf, time.perf_counter() + seconds
    tries = 0
    while tries < 3 or time.perf_counter() < end:
        start = time.perf_counter_ns()
        action()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter_ns() - start)
        tries += 1
    return best
