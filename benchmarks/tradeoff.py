"""The engine's two numbers, K terms and blocks of L rows: error against time.

Run in a process of its own, `python -m benchmarks.tradeoff`, for it sets the engine's numbers.
"""

import argparse
import itertools
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import accuracy, measure, records
from benchmarks.cases import Case, smooth_ap
from benchmarks.goals import OURS
from benchmarks.implementations import IMPLEMENTATIONS
from benchmarks.machine import machine
from benchmarks.steps import TrainingStep
from imbalanced_losses._ops.soft_counts import blocks as soft_rank

FILE = "tradeoff.csv"
POOL = smooth_ap((8192, 4), 0)
QUICK_POOL = smooth_ap((2048, 2), 0)


@dataclass(frozen=True)
class Point:
    """One choice of K and L: median milliseconds of a step, and its errors against float64."""

    case: str
    terms: int
    block: int
    milliseconds: float
    value_error: float
    gradient_error: float
    chosen: bool
    machine: str
    torch: str


def study(case: Case, terms: Sequence[int], blocks: Sequence[int], rounds: int) -> list[Point]:
    """Measure every pair of the numbers, taking turns."""
    step = TrainingStep(case, IMPLEMENTATIONS[OURS].make)
    expected = accuracy.reference(step)
    chosen = soft_rank.TERMS[torch.float32], soft_rank.BLOCK
    choices = sorted({*itertools.product(terms, blocks), chosen})
    times: dict[tuple[int, int], list[float]] = {choice: [] for choice in choices}
    errors = {}
    for turn in range(rounds + 1):
        for choice in choices:
            with _engine(*choice):
                if turn == 0:
                    errors[choice] = accuracy.against(expected, step)
                else:
                    times[choice] += measure.times(step, 1).both
    return [
        Point(
            case.key,
            *choice,
            statistics.median(times[choice]),
            errors[choice].value_error,
            errors[choice].gradient_error,
            choice == chosen,
            machine(),
            torch.__version__,
        )
        for choice in choices
    ]


@contextmanager
def _engine(terms: int, block: int) -> Iterator[None]:
    """The engine with these numbers."""
    before = soft_rank.TERMS[torch.float32], soft_rank.BLOCK
    soft_rank.TERMS[torch.float32], soft_rank.BLOCK = terms, block
    try:
        yield
    finally:
        soft_rank.TERMS[torch.float32], soft_rank.BLOCK = before


def main(argv: Sequence[str] | None = None) -> None:
    """Run the study and write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tradeoff", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    parser.add_argument("--quick", action="store_true", help="two values of each, a small pool")
    parser.add_argument("--rounds", type=int, default=9, help="steps of each choice")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    if options.quick:
        points = study(QUICK_POOL, (6, 10), (16, 32), 2)
    else:
        points = study(POOL, range(5, 14), (8, 16, 32, 64), options.rounds)
    records.write(options.output / FILE, points)


if __name__ == "__main__":
    main()
