"""`RESULTS.md`: the tables and pictures of what was measured."""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from benchmarks import plots
from benchmarks.cases import Case
from benchmarks.findings import Findings
from benchmarks.gaps import GAPS
from benchmarks.goals import OURS, TORCH
from benchmarks.markdown import error, heading, number, table, times
from benchmarks.peers import PEERS
from benchmarks.results import Row

FILE = "RESULTS.md"
MARK = {True: "met", False: "**missed**", None: "not measured"}


def write(folder: Path, cases: Sequence[Case]) -> Path:
    """Draw the pictures and write the text; returns its path."""
    findings = Findings(folder, cases)
    sections = (
        _introduction(findings),
        _goals(findings),
        _losses(findings),
        _scaling(findings, folder),
        _floors(findings),
        _accuracy(findings),
        _tradeoff(findings, folder),
        _peers(findings),
    )
    path = folder / FILE
    text = "\n".join(line for section in sections for line in section)
    path.write_text(text.rstrip() + "\n", encoding="utf-8")
    return path


def _introduction(findings: Findings) -> Iterator[str]:
    rows = findings.all_rows()
    dates = sorted(row.date[:10] for row in rows)
    machines = sorted({row.machine for row in rows})
    software = sorted({f"torch {row.torch}, Python {row.python}" for row in rows})
    versions = sorted({f"{row.implementation} {row.version}" for row in rows if row.version})
    yield from ("# Results", "")
    yield "Written by `python -m benchmarks`; `python -m benchmarks --report` writes it anew from"
    yield "`results.csv`, which holds every measurement. `python -m benchmarks.install_peers`"
    yield from ("installs the peers.", "")
    yield f"- Machine: {'; '.join(machines)}."
    yield f"- Software: {'; '.join(software)}."
    yield f"- Measured: {' to '.join(sorted({dates[0], dates[-1]})) if dates else 'nothing yet'}."
    yield f"- Implementations: {', '.join(versions)}."
    yield ""
    yield "Every implementation has its own process, and they take turns, round after round. Times"
    yield "are milliseconds of one training step on one thread unless a column says otherwise;"
    yield "*both* is forward and backward of the same step, its median and, in brackets, its 20th"
    yield "to 80th percentile."


def _goals(findings: Findings) -> Iterator[str]:
    verdicts = findings.verdicts()
    judged = [verdict.met for _, verdict in verdicts if verdict.met is not None]
    words = (
        f"{sum(judged)} of {len(judged)} that were measured are met. Goals are about the median of "
        "*both* on one thread; a compiled case is held against torch's own loss, compiled."
    )
    yield from heading("Goals", words)
    yield from table(
        ("case", "goal", "result", "measured"),
        (
            (
                case.key,
                verdict.goal.wording,
                MARK[verdict.met],
                _with_unit(verdict.value, verdict.goal.unit),
            )
            for case, verdict in verdicts
        ),
        texts=3,
    )


def _with_unit(value: float | None, unit: str) -> str:
    return times(value) if unit == "x" else f"{number(value)} {unit}"


def _losses(findings: Findings) -> Iterator[str]:
    columns = (
        *("case", "by", "forward", "backward", "both", "over ours", "two threads"),
        *("extra MiB", "launches", "waits"),
    )
    yield from heading(
        "Times, memory and launches",
        "*Over ours* is the median of *both* over ours. *Extra MiB* is the peak above what was in "
        "use before the step. *Launches* are operators that call no other on a CPU, kernels on a "
        "device; *waits* are the synchronisations of a step on a device.",
    )
    for name, cases in groupby(
        sorted(findings.cases, key=lambda case: case.name), lambda case: case.name
    ):
        yield from (f"### {name}", "")
        yield from table(
            columns, (line for case in cases for line in _lines(findings, case)), texts=2
        )


def _lines(findings: Findings, case: Case) -> Iterator[tuple[str, ...]]:
    one, two = findings.rows(case), findings.rows(case, 2)
    rows = one or two
    ours = rows[OURS].both_p50 if OURS in rows else None
    for position, (name, row) in enumerate(rows.items()):
        size = case.size if position == 0 else ""
        if row.error:
            yield (size, f"{name}: {row.error}", *["-"] * 8)
            continue
        on_two = two[name].both_p50 if name in two else None
        on_one = one.get(name)
        yield (
            size,
            name,
            number(on_one.forward_p50 if on_one else None),
            number(on_one.backward_p50 if on_one else None),
            _spread(on_one) if on_one else "-",
            times(row.both_p50 / ours if ours and row.both_p50 else None),
            number(on_two),
            number(row.extra_mib),
            "-" if row.kernels is None else str(row.kernels),
            "-" if row.syncs is None else str(row.syncs),
        )


def _spread(row: Row) -> str:
    return f"{number(row.both_p50)} ({number(row.both_p20)} to {number(row.both_p80)})"


def _scaling(findings: Findings, folder: Path) -> Iterator[str]:
    sweeps = sorted({(case.sweep, case.name) for case in findings.cases if case.sweep})
    if not sweeps:
        return
    yield from heading(
        "Scaling", "One thread; the exponent is the slope of the largest four sizes."
    )
    for title, name in sweeps:
        cases = [case for case in findings.cases if (case.sweep, case.name) == (title, name)]
        by_rows = len({case.shape[0] for case in cases}) > 1
        curves: dict[str, list[tuple[float, float]]] = {}
        for case in cases:
            for implementation, row in findings.rows(case).items():
                if row.both_p50 is not None:
                    size = float(case.shape[0] if by_rows else case.classes)
                    curves.setdefault(implementation, []).append((size, row.both_p50))
        if not curves:
            continue
        file = Path("plots") / f"scaling-{_slug(name)}-{'rows' if by_rows else 'classes'}.png"
        plots.draw_scaling(
            folder / file, f"{name}: {title}", "rows" if by_rows else "classes", curves
        )
        yield from (f"![{name}: {title}]({file.as_posix()})", "")


def _slug(name: str) -> str:
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")


def _floors(findings: Findings) -> Iterator[str]:
    if not findings.ceilings:
        return
    yield from heading(
        "Where the time goes",
        "The floor is what the mathematics needs (bytes, exponentials, elements sorted or "
        "selected, operators launched; `floors.py` counts them) over what this machine does at "
        "best, below. *Most time in* is from a profile of one step.",
    )
    headline = [case for case in findings.cases if case.is_headline]
    lines = []
    for case in headline:
        ours = findings.rows(case).get(OURS)
        floor = findings.floor(case)
        if ours and ours.both_p50 and floor:
            ratio = times(ours.both_p50 / floor)
            figures = (number(floor), number(ours.both_p50), ratio)
            lines.append((case.key, ours.top, GAPS.get(case.key, ""), *figures))
    columns = ("case", "most time in", "the largest gap", "floor, ms", "measured, ms", "ratio")
    yield from table(columns, lines, texts=3)
    for device, at_best in findings.ceilings.items():
        yield from (f"What this machine does at best on one thread ({device}):", "")
        yield from table(
            ("work", "size", "ns per unit", "GB/s"),
            (
                (
                    it.name,
                    f"{it.size:,}",
                    f"{it.nanoseconds:.3g}",
                    _bandwidth(it.name, it.nanoseconds),
                )
                for it in sorted(at_best.measured, key=lambda it: (it.name, it.size))
            ),
        )


def _bandwidth(name: str, nanoseconds_per_byte: float) -> str:
    return number(1 / nanoseconds_per_byte) if name == "copy" else "-"


def _accuracy(findings: Findings) -> Iterator[str]:
    yield from heading(
        "Accuracy beside time",
        "The value's absolute error, and the gradient's largest error over its largest cell, "
        "against float64: *all pairs* and *formula* are the plain formula; *own engine* is our "
        "float64 engine where the pairs are too many, itself held against all pairs by tests. "
        "Half-precision logits have half-precision gradients, so their error is that of rounding.",
    )
    rows = ((case, findings.rows(case).get(OURS)) for case in findings.cases)
    yield from table(
        ("case", "reference", "value", "gradient", "both, ms"),
        (
            (
                case.key,
                row.reference,
                error(row.value_error),
                error(row.gradient_error),
                number(row.both_p50),
            )
            for case, row in rows
            if row and row.value_error is not None
        ),
        texts=2,
    )


def _tradeoff(findings: Findings, folder: Path) -> Iterator[str]:
    if not findings.points:
        return
    chosen = next(point for point in findings.points if point.chosen)
    file = Path("plots") / "tradeoff.png"
    plots.draw_tradeoff(folder / file, findings.points)
    yield from heading(
        "The engine's two numbers",
        f"K terms and blocks of L rows, {chosen.case}, one thread. Chosen: K = {chosen.terms}, "
        f"L = {chosen.block}, with a gradient error of {error(chosen.gradient_error)} in "
        f"{number(chosen.milliseconds)} ms.",
        f"![Error over time for every K and L]({file.as_posix()})",
    )


def _peers(findings: Findings) -> Iterator[str]:
    yield from heading("What the peers compute")
    yield f"- **{TORCH}**: its own cross-entropy, or binary cross-entropy where targets are binary;"
    yield "  not the same quantity, but the time a step costs anyway. Compiled in compiled cases."
    for peer in PEERS.values():
        yield f"- **{peer.name} {peer.version}**: {peer.differs}."
