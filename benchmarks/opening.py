"""The first lines of the results page: what a user wants to know, in ten lines."""

import math
from collections.abc import Iterator

from benchmarks.page import Findings, exponent_of, number

NETWORKS = {
    "MLP": "a small network (two hidden layers of 128) on {} rows",
    "ResNet-18": "a ResNet-18 on {} pictures of 64 x 64 pixels",
}


def opening(findings: Findings) -> Iterator[str]:
    """Ten lines for a user; one whose rows are missing is left out."""
    yield from ("# Results", "")
    yield "Milliseconds of a forward and a backward pass on one thread of the machine below."
    yield ""
    for lines in (_pointwise_lines, _ranking_lines, _network_lines, _growth_lines):
        yield from (f"- {line}" for line in lines(findings))


def _pointwise_lines(findings: Findings) -> Iterator[str]:
    large = [
        f"`{name}Loss` takes {number(min(ratios))} to {number(max(ratios))} times as long as {own}"
        for name, own in (
            ("SoftmaxFocal", "`F.cross_entropy`"),
            ("SigmoidFocal", "binary cross-entropy"),
        )
        if (ratios := _large_ratios(findings, name))
    ]
    if large:
        yield f"On half a million logits and more, {' and '.join(large)}."
    small = [findings.find(f"{name}Focal 256x5") for name in ("Softmax", "Sigmoid")]
    if all(small):
        ours, own = (
            " and ".join(number(value) for value in values)
            for values in zip(*((row.p50, row.baseline_p50) for row in small if row), strict=True)
        )
        yield (
            f"On 256 x 5 logits the two take {ours} ms, torch's own {own} ms: the number of "
            "operators decides, not the size."
        )


def _large_ratios(findings: Findings, name: str) -> list[float]:
    return [
        row.ratio
        for case in findings.plain()
        if case.name == name and case.dtype == "float32" and math.prod(case.shape) >= 2**19
        if (row := findings.row(case)) and row.ratio
    ]


def _ranking_lines(findings: Findings) -> Iterator[str]:
    for size, words in (
        ("256x5 queue 1024", "256 x 5 logits and the default queue of 1,024 rows"),
        ("1024x10 queue 8192", "1,024 x 10 logits and a queue of 8,192 rows"),
    ):
        found = [
            f"{case.name} {number(row.p50)} ms"
            for case in findings.cases
            if case.size == size and (row := findings.row(case))
        ]
        if found:
            yield f"With {words}: {', '.join(found)}."
    short, long = (findings.find(f"SmoothAP 256x5 queue {rows}") for rows in (0, 1024))
    if short and long:
        yield (
            "What to set: `queue_size`, since every row of the queue is ranked at every step, and "
            f"`max_pool_size`. Without a queue SmoothAP takes {number(short.p50)} ms for "
            f"{number(long.p50)} ms."
        )


def _network_lines(findings: Findings) -> Iterator[str]:
    for case in findings.cases:
        whole, alone = findings.row(case), findings.loss_alone(case)
        if case.loss == "SmoothAPLoss" and whole and whole.baseline_p50 and alone:
            share = alone.added / whole.baseline_p50
            percent = f"{share:.0%}" if share > 0.1 else f"{share:.1%}"
            yield (
                f"A training step of {NETWORKS[case.network].format(case.shape[0])} takes "
                f"{number(whole.baseline_p50)} ms with cross-entropy; SmoothAP with the default "
                f"queue adds {number(alone.added)} ms ({percent})."
            )


def _growth_lines(findings: Findings) -> Iterator[str]:
    names = dict.fromkeys(case.name for case in findings.cases if case.sweep == "rows")
    powers = [
        f"{name} with the power of {exponent:.2f}"
        for name in names
        if (exponent := exponent_of(findings.curve(name, "rows"))) is not None
    ]
    if powers:
        yield f"When the rows of the pool grow, time grows so: {', '.join(powers)}."
    classes = findings.curve("SmoothAP", "classes")
    if len(classes) > 1:
        (few, before), (many, after) = classes[0], classes[-1]
        yield (
            f"From {few:.0f} to {many:.0f} classes of a pool of 4,096 rows the time of SmoothAP "
            f"grows from {number(before)} to {number(after)} ms: more classes of fewer rows each."
        )
    largest = findings.find("SmoothAP 1048576x1 queue 0")
    if largest and largest.mib is not None:
        yield (
            f"SmoothAP of 1,048,576 rows, 1 % positive, takes {number(largest.p50)} ms and "
            f"{number(largest.mib)} MiB: memory grows with the rows, not with pairs of them."
        )
