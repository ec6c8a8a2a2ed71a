"""Pictures of the results: time over size, and error over time."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from benchmarks.tradeoff import Point

Curve = Sequence[tuple[float, float]]


def fitted_exponent(curve: Curve, points: int = 4) -> float:
    """Least-squares slope of log time over log size, of the largest sizes.

    At small sizes the number of operators decides, whatever the size.
    """
    largest = sorted(curve)[-points:]
    xs = [math.log(size) for size, _ in largest]
    ys = [math.log(time) for _, time in largest]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    products = sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True))
    return products / sum((a - x) ** 2 for a in xs)


def draw_scaling(path: Path, title: str, size: str, curves: Mapping[str, Curve]) -> None:
    """Milliseconds of a step over the size, both axes logarithmic, exponents in the legend."""
    figure, axes = plt.subplots(figsize=(6.4, 4.4))
    for name, curve in curves.items():
        label = name
        if len(curve) > 1:
            label = f"{name}: time ~ size^{fitted_exponent(curve):.2f}"
        style = "o-" if name.startswith("ours") else "s--"
        axes.plot([x for x, _ in curve], [y for _, y in curve], style, label=label, markersize=4)
    axes.set_xscale("log", base=2 if size == "rows" else 10)
    axes.set_yscale("log")
    axes.set_xlabel(size)
    axes.set_ylabel("forward + backward, ms")
    axes.set_title(title, fontsize=11)
    _finish(figure, path)


def draw_tradeoff(path: Path, points: Sequence[Point]) -> None:
    """Gradient error over time, a line for every block length, the chosen point ringed."""
    figure, axes = plt.subplots(figsize=(6.4, 4.4))
    for block in sorted({point.block for point in points}):
        line = sorted((it for it in points if it.block == block), key=lambda point: point.terms)
        xs, ys = [it.milliseconds for it in line], [it.gradient_error for it in line]
        axes.plot(xs, ys, "o-", label=f"L = {block}", markersize=4)
        for point in line:
            where = (point.milliseconds, point.gradient_error)
            axes.annotate(
                str(point.terms), where, fontsize=7, xytext=(3, 3), textcoords="offset points"
            )
    chosen = next(point for point in points if point.chosen)
    axes.plot(
        chosen.milliseconds,
        chosen.gradient_error,
        "o",
        markersize=14,
        markerfacecolor="none",
        markeredgecolor="black",
        label=f"chosen: K = {chosen.terms}, L = {chosen.block}",
    )
    axes.set_yscale("log")
    axes.set_xlabel("forward + backward, ms (numbers at the points: K)")
    axes.set_ylabel("gradient error against float64, relative")
    axes.set_title(chosen.case, fontsize=11)
    _finish(figure, path)


def _finish(figure: Figure, path: Path) -> None:
    axes = figure.axes[0]
    axes.grid(visible=True, which="both", alpha=0.25, linewidth=0.5)
    axes.legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
