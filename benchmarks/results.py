"""The results file: a CSV to which each measured case appends its rows."""

import csv
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any


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


TYPES = {field.name: field.type for field in fields(Row)}


class Results:
    """The rows of a CSV file, in the order in which they were measured."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = self._read() if path.exists() else []

    def append(self, rows: Iterable[Row]) -> None:
        """Add the rows of one case, so that an interrupted run keeps them."""
        rows = list(rows)
        self.rows += rows
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(TYPES))
            if fresh:
                writer.writeheader()
            writer.writerows(
                {name: _written(value) for name, value in asdict(row).items()} for row in rows
            )

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

    def _read(self) -> list[Row]:
        with self.path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames is None or set(reader.fieldnames) != set(TYPES):
                raise ValueError(
                    f"{self.path} has other columns than this version writes; move it away or "
                    "choose another folder with --output."
                )
            return [
                Row(**{name: _read(name, text) for name, text in row.items()}) for row in reader
            ]


def _written(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value


def _read(name: str, text: str) -> Any:
    kind = TYPES[name]
    if kind is str:
        return text
    if not text:
        return None
    return int(text) if kind in (int, int | None) else float(text)
