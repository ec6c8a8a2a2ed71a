"""What the results page is made of: rows, numbers, tables and pictures of one look."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from benchmarks.cases import Case
from benchmarks.contenders import OURS
from benchmarks.run import Row

# Size and milliseconds, by size.
Curve = Sequence[tuple[float, float]]
# Sizes that a fitted exponent is of: the largest ones, and no fewer.
FITTED = 4


class Findings:
    """The rows of one folder by case, of one source of ours."""

    def __init__(self, cases: Sequence[Case], rows: Sequence[Row]) -> None:
        newest = max((row for row in rows if row.source), key=lambda row: row.date, default=None)
        self.source = newest.source if newest else ""
        self.stale = {row.case for row in rows if row.source not in ("", self.source)}
        known = {case.key for case in cases}
        self.rows = [row for row in rows if row.case in known and row.source in ("", self.source)]
        self._by_place = {row.place: row for row in self.rows}
        self.cases = [case for case in cases if any(row.case == case.key for row in self.rows)]

    def row(
        self, case: Case | None, contender: str = OURS, *, threads: int = 1, memory: str = "warm"
    ) -> Row | None:
        """A row with numbers, None where there is none."""
        row = self._by_place.get((case.key if case else "", contender, threads, memory))
        return row if row and not row.error else None

    def find(self, key: str) -> Row | None:
        """Our row of a case on one thread with warm memory."""
        return self.row(next((case for case in self.cases if case.key == key), None))

    def plain(self) -> list[Case]:
        """The cases of one loss alone in eager, of no series of growing sizes."""
        return [
            case
            for case in self.cases
            if case.mode == "eager" and not case.network and not case.sweep
        ]

    def curve(self, name: str, sweep: str, contender: str = OURS) -> Curve:
        """Size and median time of a series, by size."""
        return sorted(
            (float(case.shape[0] if sweep == "rows" else case.classes), row.p50)
            for case in self.cases
            if (case.name, case.sweep) == (name, sweep)
            if (row := self.row(case, contender)) and row.p50 is not None
        )

    def loss_alone(self, case: Case) -> Row | None:
        """Our row of the same loss and size without the network."""
        return self.find(replace(case, network="").key) if case.network else None


def exponent_of(curve: Curve) -> float | None:
    """Least-squares slope of log time over log size, of the largest sizes; None of too few.

    At small sizes the number of operators decides, whatever the size.
    """
    if len(curve) <= FITTED:
        return None
    xs, ys = ([math.log(value) for value in part] for part in zip(*curve[-FITTED:], strict=True))
    x, y = sum(xs) / FITTED, sum(ys) / FITTED
    products = sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True))
    return products / sum((a - x) ** 2 for a in xs)


def draw_growth(path: Path, title: str, size: str, curves: Mapping[str, Curve]) -> None:
    """Milliseconds of a step over the size, both axes logarithmic."""
    figure, axes = plt.subplots(figsize=(6.4, 4.4))
    for name, curve in curves.items():
        axes.plot([x for x, _ in curve], [y for _, y in curve], "o-", label=name, markersize=4)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(size)
    axes.set_ylabel("forward + backward, ms")
    axes.set_title(title, fontsize=11)
    axes.grid(visible=True, alpha=0.25, linewidth=0.5)
    axes.legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def heading(text: str, *paragraphs: str) -> list[str]:
    """A section's heading and its first paragraphs."""
    return ["", f"## {text}", "", *(line for text in paragraphs for line in (text, ""))]


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> list[str]:
    """A table whose first `texts` columns are text and whose others are numbers."""
    aligned = ["---"] * texts + ["---:"] * (len(columns) - texts)
    return [_line(columns), _line(aligned), *map(_line, rows), ""]


def number(value: float | None) -> str:
    """Three digits or so, a dash for None."""
    if value is None:
        return "-"
    digits = sum(abs(value) < bound for bound in (1, 10, 100))
    return f"{value:,.{digits}f}"


def spread(low: float | None, median: float | None, high: float | None) -> str:
    """A median and what lies about it."""
    return f"{number(median)} ({number(low)} to {number(high)})"


def times(value: float | None) -> str:
    """A ratio."""
    return "-" if value is None else f"{number(value)}x"


def error(value: float | None) -> str:
    """A small number."""
    return "-" if value is None else f"{value:.1e}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
