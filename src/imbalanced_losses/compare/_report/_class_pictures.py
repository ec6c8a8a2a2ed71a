"""The pictures of one class: precision and recall, low false alarms, calibration, scores."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from imbalanced_losses._ops.beta import clopper_pearson
from imbalanced_losses.compare._report._held_out import Curve, Floats, HeldOut
from imbalanced_losses.compare._report._pictures import outcome_colour
from imbalanced_losses.compare._report._svg import COLOURS, label_lines, picture
from imbalanced_losses.compare._report._words import short
from imbalanced_losses.compare._result import Comparison

_SIZE = (380, 300)
_CURVE_POINTS = 400
_BINS = 10
_SHARES = (0.0, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)


def precision_recall(comparison: Comparison, rows: HeldOut, mark: float | None) -> Markup:
    """Precision against recall, with a dot at the threshold of the decision."""

    def paint(figure: Figure) -> None:
        axes = _axes(figure, "recall", "precision")
        _percent_axis(axes, "x", np.linspace(0, 1, 6))
        _percent_axis(axes, "y", np.linspace(0, 1, 6))
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        lines = {}
        for name, curve in _curves(rows).items():
            at = curve.settings(_CURVE_POINTS)
            lines[name] = curve.recall[at], curve.precision[at]
        _draw(axes, comparison, lines)
        if mark is not None:
            chosen = rows.curve(comparison.choice)
            here = chosen.at(mark)
            _dot(axes, float(chosen.recall[here]), float(chosen.precision[here]))

    label = f"Precision against recall for {rows.label}."
    return picture(f"precision-{rows.output}", label, _SIZE, paint)


def low_false_alarms(comparison: Comparison, rows: HeldOut, mark: float | None) -> Markup:
    """Recall against the false-positive rate, whose logarithm shows its low end."""
    _, negatives = rows.counts
    lowest = 10.0 ** max(-5, np.floor(np.log10(1 / negatives)))

    def paint(figure: Figure) -> None:
        axes = _axes(figure, "false alarms per negative", "recall")
        axes.set_xscale("log")
        decades = 10.0 ** np.arange(np.log10(lowest).round(), 1)
        _percent_axis(axes, "x", decades)
        _percent_axis(axes, "y", np.linspace(0, 1, 6))
        axes.set(xlim=(lowest, 1), ylim=(0, 1.02))
        lines = {}
        for name, curve in _curves(rows).items():
            at = curve.settings(_CURVE_POINTS)
            lines[name] = np.maximum(curve.false_alarms[at], lowest), curve.recall[at]
        _draw(axes, comparison, lines)
        if mark is not None:
            chosen = rows.curve(comparison.choice)
            here = chosen.at(mark)
            alarms = max(float(chosen.false_alarms[here]), lowest)
            _dot(axes, alarms, float(chosen.recall[here]))

    label = f"Recall against the false-positive rate for {rows.label}, low rates first."
    return picture(f"alarms-{rows.output}", label, _SIZE, paint)


def calibration(comparison: Comparison, rows: HeldOut) -> tuple[Markup, Markup]:
    """Predicted probability against what came true, before and after, on equal scales."""
    before = _bins(rows.raw, rows.positive, comparison.level)
    after = _bins(rows.calibrated[comparison.choice], rows.positive, comparison.level)
    # Intervals reach far where a bin holds few rows; the dots decide on the scale.
    limit = min(1.0, 1.15 * max(float(part[:, :2].max()) for part in (before, after)))

    def panel(name: str, bins: Floats, colour: str) -> Markup:
        def paint(figure: Figure) -> None:
            axes = _axes(figure, "predicted probability", "share that came true")
            # Rare classes live near 0, where equal steps would show one lump.
            axes.set_xscale("function", functions=(_root, np.square))
            axes.set_yscale("function", functions=(_root, np.square))
            ticks = np.array([share for share in _SHARES if share <= limit])
            roots = np.sqrt(ticks / limit)
            apart = [0, *(k for k in range(1, len(ticks)) if roots[k] - roots[k - 1] > 0.1)]
            _percent_axis(axes, "x", ticks[apart])
            _percent_axis(axes, "y", ticks[apart])
            axes.set(xlim=(0, limit), ylim=(0, limit))
            axes.plot([0, limit], [0, limit], color=COLOURS["grey"], linewidth=1.2)
            predicted, came, low, high = bins.T
            axes.vlines(predicted, low, high, color=colour, alpha=0.45, linewidth=2)
            axes.plot(predicted, came, "o", color=colour, markersize=5.5, clip_on=False, zorder=3)

        label = (
            f"Predicted probabilities of {rows.label} {name} calibration against what came true."
        )
        return picture(f"calibration-{name}-{rows.output}", label, _SIZE, paint)

    return (
        panel("before", before, COLOURS["muted"]),
        panel("after", after, COLOURS["choice"]),
    )


def scores_by_class(comparison: Comparison, rows: HeldOut) -> Markup:
    """How the calibrated probabilities of the class's rows and of all others lie."""
    scores = rows.calibrated[comparison.choice]

    def paint(figure: Figure) -> None:
        axes = _axes(figure, "predicted probability", "share of its rows")
        edge = max(1e-4, min(0.02, float(np.quantile(scores, 0.02))))
        low, high = (float(x) for x in _log_odds(np.array([edge, 0.995])))
        axes.set_xlim(low, high)
        inside = _log_odds(scores).clip(low, high)
        lines = []
        for side, colour, name in (
            (~rows.positive, COLOURS["muted"], "others"),
            (rows.positive, COLOURS["choice"], short(rows.label, 22)),
        ):
            share, edges = np.histogram(inside[side], bins=28, range=(low, high))
            heights = share / side.sum()
            axes.stairs(heights, edges, color=colour, fill=True, alpha=0.14)
            axes.stairs(heights, edges, color=colour, linewidth=1.6)
            lines.append((name, colour, np.repeat(edges, 2)[1:-1], np.repeat(heights, 2)))
        axes.set_ylim(0, 1.12 * max(float(line[3].max()) for line in lines))
        ticks = np.array([1e-4, 1e-3, 0.01, 0.1, 0.5, 0.9, 0.99])
        ticks = ticks[(ticks >= edge) & (ticks <= 0.995)]
        axes.xaxis.set_major_locator(FixedLocator(_log_odds(ticks).tolist()))
        axes.set_xticklabels([_share(tick) for tick in ticks])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _share(value)))
        axes.locator_params(axis="y", nbins=5)
        label_lines(axes, lines)

    label = f"Predicted probabilities of rows that are {rows.label} and of all others."
    return picture(f"scores-{rows.output}", label, _SIZE, paint)


def _axes(figure: Figure, x: str, y: str) -> Axes:
    width, height = _SIZE
    axes = figure.add_axes((58 / width, 44 / height, 1 - 74 / width, 1 - 56 / height))
    # Room at the corner, where both axes begin with a 0.
    axes.tick_params(length=0, pad=7)
    axes.set(xlabel=x, ylabel=y)
    return axes


def _curves(rows: HeldOut) -> dict[str, Curve]:
    return {name: rows.curve(name) for name in rows.calibrated}


def _draw(axes: Axes, comparison: Comparison, lines: dict[str, tuple[Floats, Floats]]) -> None:
    """The lines, the choice over the others, and a name on each."""
    labels = []
    for name in sorted(lines, key=lambda name: (name == comparison.choice, name)):
        colour = outcome_colour(name, comparison.choice)
        x, y = lines[name]
        axes.plot(x, y, color=colour, linewidth=2.2 if name == comparison.choice else 1.5)
        labels.append((short(comparison.outcome(name).title, 28), colour, x, y))
    label_lines(axes, labels[::-1])


def _dot(axes: Axes, x: float, y: float) -> None:
    axes.plot(
        x,
        y,
        "o",
        markersize=9,
        color=COLOURS["choice"],
        markeredgecolor=COLOURS["paper"],
        markeredgewidth=2,
        clip_on=False,
        zorder=5,
    )


def _bins(scores: Floats, positive: np.ndarray, level: float) -> Floats:
    """Ten bins with as many expected positives each: `[bins, (predicted, came, low, high)]`.

    Bins of equally many rows would put all of a rare class into the last one.
    """
    order = np.argsort(scores, kind="stable")
    mass = np.cumsum(scores[order])
    # Tied rows go together, into the bin of the last of them.
    last = np.searchsorted(scores[order], scores[order], side="right") - 1
    place = np.minimum((mass[last] / max(mass[-1], 1e-300) * _BINS).astype(int), _BINS - 1)
    found = []
    for one in np.unique(place):
        rows = order[place == one]
        came, n = int(positive[rows].sum()), len(rows)
        found.append((scores[rows].mean(), came / n, *clopper_pearson(came, n, 1 - level)))
    return np.array(found)


def _percent_axis(axes: Axes, which: str, ticks: Sequence[float] | Floats) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _share(value)))


def _share(value: float) -> str:
    """A tick: a percentage with no decimal that is not needed."""
    return f"{100 * value:.3g} %"


def _root(values: Floats) -> Floats:
    return np.sqrt(np.maximum(values, 0))


def _log_odds(values: Floats) -> Floats:
    inside = np.clip(values, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(inside / (1 - inside)))
