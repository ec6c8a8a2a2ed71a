"""Measure cases: every implementation in its own process, taking turns round after round."""

import datetime
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks.cases import Case
from benchmarks.goals import OURS
from benchmarks.implementations import offering
from benchmarks.machine import machine
from benchmarks.processes import MeasurementError, Process
from benchmarks.results import Results, Row

# Steps of a turn, so that quick ones do not flood the quantiles.
MOST_STEPS = 200
# Steps after which a slow one has taken turns enough.
LEAST_STEPS = 3


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        rounds: Turns of each implementation.
        seconds: Time per case and implementation, and three steps at least.
        limit: Seconds after which an answer is given up.
    """

    rounds: int
    seconds: float
    limit: float


class Contender:
    """An implementation in one case: its process, and the row that it fills.

    One that fails keeps the reason in its row and is silent from then on.
    """

    def __init__(self, process: Process, row: Row) -> None:
        self.process, self.row = process, row
        self._samples: tuple[list[float], ...] = ([], [], [])
        self._seconds: float | None = None

    def start(self) -> None:
        """Begin to make the loss, and to compile it, beside the others."""
        self._attempt(lambda: self.process.send("prepare", key=self.row.case))

    def wait(self) -> None:
        """Be ready to take turns."""
        self._seconds = self._attempt(self.process.receive)

    def take_turn(self, effort: Effort) -> None:
        """Time steps for the round's share of the time, unless a slow one has had all of it."""
        *_, both = self._samples
        if len(both) >= LEAST_STEPS and sum(both) > effort.seconds * 1e3:
            return
        count = int(effort.seconds / effort.rounds / max(self._seconds or 0.0, 1e-6))
        times = self.ask("times", count=min(max(count, 1), MOST_STEPS))
        for kept, new in zip(self._samples, times or (), strict=False):
            kept += new

    def finish(self) -> None:
        """Measure what does not depend on turns."""
        if self.row.error:
            return
        self.row = replace(self.row, **_quantiles(self._samples), extra_mib=self.ask("memory"))
        kernels, syncs, top = self.ask("launches") or (None, None, "")
        self.row = replace(self.row, kernels=kernels, syncs=syncs, top=top)

    def compare(self) -> None:
        """Measure the errors against float64."""
        value, gradient, reference = self.ask("accuracy") or (None, None, "")
        self.row = replace(
            self.row, value_error=value, gradient_error=gradient, reference=reference
        )

    def ask(self, what: str, **options: object) -> Any:
        """The answer of the process, None after a failure."""
        return self._attempt(lambda: self.process.ask(what, **options))

    def _attempt(self, action: Callable[[], Any]) -> Any:
        if self.row.error:
            return None
        try:
            return action()
        except MeasurementError as reason:
            self.row = replace(self.row, error=str(reason))
            return None


class Runner:
    """The processes of one number of threads, and where their results go."""

    def __init__(
        self, results: Results, implementations: Sequence[str], threads: int, effort: Effort
    ) -> None:
        self._results, self._threads, self._effort = results, threads, effort
        self._processes = {name: Process(name, threads, effort.limit) for name in implementations}
        self._versions: dict[str, str] = {}

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.close()

    def run(self, case: Case, *, fresh: bool = False) -> bool:
        """Measure a case and append its rows, unless all are there; whether it was measured."""
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        contenders = [
            self._contender(case, name, now) for name in offering(case, list(self._processes))
        ]
        known = {row.identity for row in self._results.rows}
        if not fresh and all(contender.row.identity in known for contender in contenders):
            return False
        for contender in contenders:
            contender.start()
        for contender in contenders:
            contender.wait()
        for _ in range(self._effort.rounds):
            for contender in contenders:
                contender.take_turn(self._effort)
        for contender in contenders:
            contender.finish()
            # Errors do not depend on the number of threads.
            if contender.row.implementation == OURS and self._threads == 1:
                contender.compare()
        self._results.append(contender.row for contender in contenders)
        return True

    def _contender(self, case: Case, name: str, date: str) -> Contender:
        row = Row(
            case=case.key,
            implementation=name,
            version=self._versions.get(name, ""),
            torch=torch.__version__,
            python=platform.python_version(),
            machine=machine(case.device),
            threads=self._threads,
            date=date,
            dtype=case.dtype,
            device=case.device,
            mode=case.mode,
        )
        contender = Contender(self._processes[name], row)
        if name not in self._versions:
            version = contender.ask("version")
            if version is not None:
                self._versions[name] = version
                contender.row = replace(row, version=version)
        return contender


def _quantiles(samples: Sequence[list[float]]) -> dict[str, Any]:
    values: dict[str, Any] = {"steps": len(samples[0])}
    for part, times in zip(("forward", "backward", "both"), samples, strict=True):
        tenths = (
            [*times] * 9
            if len(times) == 1
            else statistics.quantiles(times, n=10, method="inclusive")
        )
        values |= {f"{part}_p{percent}": tenths[percent // 10 - 1] for percent in (20, 50, 80)}
    return values
