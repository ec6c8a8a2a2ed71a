"""The results file: a CSV to which each measured case appends its rows."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import records


@dataclass(frozen=True)
class Row:
    """One implementation in one case; times in ms, memory in MiB, None where there is no number.

    `steps` is how many steps the quantiles are of, `top` the operators that took most time,
    `value_error` and `gradient_error` are against `reference`, and `error` says why a row is empty.
    """

    case: str
    implementation: str
    version: str
    torch: str
    python: str
    machine: str
    threads: int
    date: str
    dtype: str
    device: str
    mode: str
    forward_p20: float | None = None
    forward_p50: float | None = None
    forward_p80: float | None = None
    backward_p20: float | None = None
    backward_p50: float | None = None
    backward_p80: float | None = None
    both_p20: float | None = None
    both_p50: float | None = None
    both_p80: float | None = None
    steps: int | None = None
    extra_mib: float | None = None
    kernels: int | None = None
    syncs: int | None = None
    top: str = ""
    value_error: float | None = None
    gradient_error: float | None = None
    reference: str = ""
    error: str = ""

    @property
    def identity(self) -> tuple[str, ...]:
        """What a later run compares, to tell whether this was measured already."""
        return (
            self.case,
            self.implementation,
            self.version,
            self.torch,
            self.python,
            self.machine,
            str(self.threads),
        )


class Results:
    """The rows of a CSV file, in the order in which they were measured."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = records.read(path, Row)

    def append(self, rows: Iterable[Row]) -> None:
        """Add the rows of one case, so that an interrupted run keeps them."""
        rows = list(rows)
        self.rows += rows
        records.append(self.path, rows)

    def latest(self) -> dict[tuple[str, int], dict[str, Row]]:
        """The newest rows of each case and number of threads, by implementation.

        Only rows that were measured together stand together, so that their ratios mean something.
        """
        newest: dict[tuple[str, int], dict[str, Row]] = {}
        for row in self.rows:
            group = newest.setdefault((row.case, row.threads), {})
            if any(other.date != row.date for other in group.values()):
                group.clear()
            group[row.implementation] = row
        return newest
