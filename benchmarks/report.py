"""`RESULTS.md`: what was measured, in tables, pictures and ten lines for a user."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.cases import Case
from benchmarks.contenders import CONTENDERS, OURS
from benchmarks.opening import opening
from benchmarks.page import (
    Curve,
    Findings,
    draw_growth,
    error,
    exponent_of,
    heading,
    number,
    spread,
    table,
    times,
)
from benchmarks.run import Row

FILE = "RESULTS.md"
RELEASE = "release 0.6.0"


def write(folder: Path, cases: Sequence[Case], rows: Sequence[Row]) -> Path:
    """Draw the pictures and write the text; returns its path."""
    findings = Findings(cases, rows)
    sections = (
        opening(findings),
        _method(findings),
        _pointwise(findings),
        _ranking(findings),
        _networks(findings),
        _growth(findings, folder),
        _threads(findings),
        _compiled(findings),
        _others(findings),
        _accuracy(findings),
        _failures(findings),
    )
    path = folder / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(line for section in sections for line in section)
    path.write_text(text.rstrip() + "\n", encoding="utf-8")
    return path


def _method(findings: Findings) -> Iterator[str]:
    rows = findings.rows
    dates = sorted({row.date[:10] for row in rows})
    loads = [row.load for row in rows if row.load is not None]
    yield from heading("How it was measured")
    yield "`python -m benchmarks` measures and writes this page; `--report` writes it anew from"
    yield "`results.csv`, which holds the latest row of every measurement. A contender and torch's"
    yield "own loss live in one process and take turns call by call on the same batches, after a"
    yield "warm-up, without the garbage collector. A time is the median of *forward and backward*,"
    yield "with its 20th to 80th percentile in brackets; a ratio is that of two medians of one"
    yield "process. On one thread it is the processor's time, in which the work of other processes"
    yield "does not count. *Warm*, where nothing else is said: the process keeps its memory, as a"
    yield "training loop does. *Fresh* (`--fresh`): every array above 128 KiB gets new pages, the"
    yield "most that an allocator can make it cost. *MiB* is the peak above what was in use before."
    yield ""
    yield f"- Machine: {'; '.join(sorted({row.machine for row in rows}))}."
    software = sorted({f"torch {row.torch}, Python {row.python}" for row in rows})
    yield f"- Software: {'; '.join(software)}; our source {findings.source}."
    yield f"- Measured: {' to '.join(dict.fromkeys((*dates[:1], *dates[-1:]))) or 'nothing yet'}."
    if loads:
        yield (
            f"- The machine's load when rows were measured: {min(loads):.1f} to {max(loads):.1f}. "
            "Above the number of cores others shared its caches and its memory: times are then "
            "longer than on a quiet machine, ratios less so."
        )
    if findings.stale:
        yield f"- Left out, measured with an earlier source of ours: {len(findings.stale)} cases."


def _pointwise(findings: Findings) -> Iterator[str]:
    yield from heading(
        "Focal losses beside torch's own",
        "Cross-entropy for the softmax, binary cross-entropy for the sigmoid loss.",
    )
    yield from table(
        ("case", "ours, ms", "torch's own, ms", "ratio", "ratio, fresh", "MiB", "torch's own MiB"),
        (
            (
                case.key,
                spread(row.p20, row.p50, row.p80),
                spread(row.baseline_p20, row.baseline_p50, row.baseline_p80),
                times(row.ratio),
                times(fresh.ratio if fresh else None),
                number(row.mib),
                number(row.baseline_mib),
            )
            for case in findings.plain()
            if case.queue is None
            if (row := findings.row(case))
            for fresh in [findings.row(case, memory="fresh")]
        ),
    )


def _ranking(findings: Findings) -> Iterator[str]:
    yield from heading(
        "Ranking losses",
        "*Times torch's own* says what cross-entropy (binary cross-entropy for one class) costs "
        "beside it. *0.6.0* is the earlier release of this interface, in a process of its own; "
        "*0.6.0 over ours* divides two such multiples, since minutes apart this machine runs at "
        "speeds that differ.",
    )
    columns = ("case", "ours, ms", "times torch's own", "MiB", "0.6.0, ms", "0.6.0 over ours")
    yield from table(
        columns,
        (
            (
                case.key,
                spread(row.p20, row.p50, row.p80),
                times(row.ratio),
                number(row.mib),
                spread(old.p20, old.p50, old.p80) if old else "-",
                times(_over(old.ratio if old else None, row.ratio)),
            )
            for case in findings.cases
            if case.queue is not None and case.mode == "eager" and not case.network
            if (row := findings.row(case))
            for old in [findings.row(case, RELEASE)]
        ),
    )


def _threads(findings: Findings) -> Iterator[str]:
    lines = [
        (case.key, number(one.p50 if one else None), spread(two.p20, two.p50, two.p80))
        for case in findings.cases
        if (two := findings.row(case, threads=2))
        for one in [findings.row(case)]
    ]
    if lines:
        yield from heading("Two threads")
        yield from table(("case", "one thread, ms", "two threads, ms"), lines)


def _networks(findings: Findings) -> Iterator[str]:
    lines = [
        (
            case.key,
            spread(row.baseline_p20, row.baseline_p50, row.baseline_p80),
            spread(row.p20, row.p50, row.p80),
            number(alone.added if alone else None),
        )
        for case in findings.cases
        if case.network and (row := findings.row(case))
        for alone in [findings.loss_alone(case)]
    ]
    if lines:
        yield from heading(
            "In a training step",
            "Forward, loss, backward and the update of the weights by SGD. The MLP has two hidden "
            "layers of 128, the ResNet-18 sees pictures of 64 x 64 pixels. *The loss alone adds* "
            "what it takes more than torch's own when no network runs.",
        )
        columns = ("with cross-entropy, ms", "with the loss, ms", "the loss alone adds, ms")
        yield from table(("case", *columns), lines)


def _growth(findings: Findings, folder: Path) -> Iterator[str]:
    for sweep, title in (
        ("rows", "Rows of a pool of one class, 1 % positive"),
        ("classes", "Classes of a pool of 4,096 rows"),
    ):
        names = dict.fromkeys(case.name for case in findings.cases if case.sweep == sweep)
        curves = {name: curve for name in names if (curve := findings.curve(name, sweep))}
        if not curves:
            continue
        old = findings.curve("SmoothAP", sweep, RELEASE)
        if old:
            curves["SmoothAP, release 0.6.0"] = old
        file = Path("plots") / f"growth-{sweep}.png"
        draw_growth(folder / file, title, sweep, curves)
        yield from heading(f"What grows with the {sweep}", f"![{title}]({file.as_posix()})")
        if sweep == "rows":
            yield from table(
                ("loss", "rows", "ms there", "time grows with the power of"),
                (
                    (name, f"{curve[-1][0]:,.0f}", number(curve[-1][1]), _power(curve))
                    for name, curve in curves.items()
                ),
            )


def _power(curve: Curve) -> str:
    exponent = exponent_of(curve)
    return "-" if exponent is None else f"{exponent:.2f}"


def _compiled(findings: Findings) -> Iterator[str]:
    lines = [
        (
            case.key.removesuffix(" compiled"),
            spread(row.p20, row.p50, row.p80),
            number(row.eager_p50),
            times(_over(row.p50, row.eager_p50)),
            _more(row.p50, row.eager_p50),
            _more(row.baseline_p50, row.baseline_eager_p50),
            times(row.ratio),
        )
        for case in findings.cases
        if case.mode == "compiled" and case.device == "cpu" and (row := findings.row(case))
    ]
    if lines:
        yield from heading(
            "Compiled",
            "`torch.compile(fullgraph=True, dynamic=False)`, of both losses; either took turns "
            "with itself uncompiled in one process. Calling a graph costs a fraction of a "
            "millisecond, whatever is in it: the last column but one says how much longer torch's "
            "own loss takes compiled. A network and its loss compiled as one pay it once.",
        )
        columns = ("compiled, ms", "eager, ms", "over eager", "more, ms", "torch's own more, ms")
        yield from table(("case", *columns, "times torch's own, compiled"), lines)


def _over(part: float | None, whole: float | None) -> float | None:
    return part / whole if part and whole else None


def _more(time: float | None, than: float | None) -> str:
    return f"{time - than:+.2f}" if time and than else "-"


def _others(findings: Findings) -> Iterator[str]:
    lines = [
        (
            case.key,
            name,
            spread(row.p20, row.p50, row.p80),
            times(row.ratio),
            times(ours.ratio),
            number(row.mib),
        )
        for case in findings.cases
        for name in CONTENDERS
        if name != OURS and (name != RELEASE or case.queue is None)
        if (row := findings.row(case, name)) and (ours := findings.row(case))
    ]
    if not lines:
        return
    yield from heading(
        "Peers", "Each beside torch's own loss in its own process; *ours* in ours, for comparison."
    )
    columns = ("case", "by", "ms", "times torch's own", "ours, the same", "MiB")
    yield from table(columns, lines, texts=2)
    for name in dict.fromkeys(line[1] for line in lines):
        peer = CONTENDERS[name]
        version = "" if peer.version in name else f" {peer.version}"
        yield f"- **{name}**{version}: {peer.computes}."


def _accuracy(findings: Findings) -> Iterator[str]:
    yield from heading(
        "Errors",
        "Of ours against float64: the value's absolute error, and the gradient's largest error "
        "over its largest cell. The reference is the plain formula over all pairs, or our own "
        "engine in float64 where the pairs are too many. *The formula's* is the gradient's error "
        "of the plain formula in float32. *Vanished*: all positives lie so far from what they are "
        "compared with that the whole gradient is below 1/1000 of a mean's. A half-precision "
        "gradient is rounded to half precision.",
    )
    yield from table(
        ("case", "reference", "value", "gradient", "the formula's"),
        (
            (
                case.key,
                row.reference,
                error(row.value_error),
                "vanished" if row.gradient_error is None else error(row.gradient_error),
                error(row.plain_gradient_error),
            )
            for case in findings.cases
            if (row := findings.row(case)) and row.value_error is not None
        ),
        texts=2,
    )


def _failures(findings: Findings) -> Iterator[str]:
    lines = [(row.case, row.contender, row.error) for row in findings.rows if row.error]
    if lines:
        yield from heading("Without numbers")
        yield from table(("case", "by", "why"), lines, texts=3)
