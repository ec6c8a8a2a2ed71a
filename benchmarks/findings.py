"""What an output folder holds, read back and judged."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import ceilings, floors, records, tradeoff
from benchmarks.cases import Case
from benchmarks.goals import Evidence, Verdict, judge
from benchmarks.results import Results, Row

RESULTS = "results.csv"
CEILINGS = "ceilings.csv"


class Findings:
    """The newest rows of every case, the ceilings and the trade-off of one folder.

    Attributes:
        cases: Those with rows, in the order of the list.
        ceilings: By device; empty where they were not measured.
        points: Of the trade-off; empty where it was not measured.
    """

    def __init__(self, folder: Path, cases: Sequence[Case]) -> None:
        self._latest = Results(folder / RESULTS).latest()
        measured = {key for key, _ in self._latest}
        self.cases = [case for case in cases if case.key in measured]
        self.ceilings = ceilings.read(folder / CEILINGS)
        self.points = records.read(folder / tradeoff.FILE, tradeoff.Point)

    def rows(self, case: Case, threads: int = 1) -> Mapping[str, Row]:
        """Rows that were measured together, by implementation."""
        return self._latest.get((case.key, threads), {})

    def all_rows(self) -> list[Row]:
        """Every newest row."""
        return [row for rows in self._latest.values() for row in rows.values()]

    def verdicts(self) -> list[tuple[Case, Verdict]]:
        """Every goal beside what was measured on one thread."""
        return [
            (case, judge(goal, Evidence(self.rows(case), self._pass(case))))
            for case in self.cases
            for goal in case.goals
        ]

    def floor(self, case: Case) -> float | None:
        """Milliseconds that the case's mathematics needs on this machine."""
        at_best = self.ceilings.get(case.device)
        return floors.floor_of(case, at_best) if at_best else None

    def _pass(self, case: Case) -> float | None:
        at_best = self.ceilings.get(case.device)
        return floors.pass_of(case, at_best) if at_best else None
