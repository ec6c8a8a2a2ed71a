"""The pictures of the comparison as a whole: gains over the baseline, and every class."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from imbalanced_losses.compare._report._svg import COLOURS, picture
from imbalanced_losses.compare._report._words import fixed, short, signed
from imbalanced_losses.compare._result import BOOSTING, Comparison, Difference, Outcome
from imbalanced_losses.recipes import BASELINE

VERDICTS = {"better": COLOURS["win"], "worse": COLOURS["loss"], "unclear": COLOURS["grey"]}
_WIDE, _NARROW = 760, 360
_TOP, _BOTTOM = 34, 46
# The rarest are shown; a table has them all.
MOST_CLASSES = 40


def outcome_colour(recipe: str, choice: str) -> str:
    """Colour of a row of the table wherever it is drawn: all but three are grey."""
    return COLOURS[_named(choice).get(recipe, "grey")]


def key(comparison: Comparison) -> list[tuple[str, str]]:
    """Title and colour variable of the rows that are not grey."""
    titles = {one.recipe: one.title for one in comparison.outcomes}
    named = _named(comparison.choice).items()
    return [(titles[recipe], colour) for recipe, colour in named if recipe in titles]


def _named(choice: str) -> dict[str, str]:
    return {choice: "choice"} | {
        recipe: colour
        for recipe, colour in ((BASELINE, "ink"), (BOOSTING, "outside"))
        if recipe != choice
    }


def in_order(comparison: Comparison) -> list[tuple[Outcome, Difference]]:
    """The rows that were measured against the baseline, best first, the outside view last."""
    rows = [(one, one.difference) for one in comparison.outcomes if one.difference is not None]
    return sorted(rows, key=lambda row: (row[0].recipe == BOOSTING, -row[1].mean))


def gains(comparison: Comparison) -> Markup:
    """Paired differences to the baseline with their intervals, for wide pages and narrow ones."""
    rows = in_order(comparison)
    told = "; ".join(
        f"{one.title} {signed(gap.mean)} ({signed(gap.low)} to {signed(gap.high)}), {gap.verdict}"
        for one, gap in rows
    )
    label = f"Differences in {comparison.goal_title} to {comparison.baseline.title}: {told}."
    return _twice("gains", label, 31, 44, len(rows) + 0.4, lambda f, w: _gains(f, w, comparison))


def by_class(comparison: Comparison) -> Markup:
    """The goal for each class, the rarest last."""
    data = comparison.data
    counts = data.classes[-len(data.labels) :]
    order = sorted(range(len(counts)), key=lambda c: -counts[c].count)[-MOST_CLASSES:]
    label = f"{comparison.goal_title} of each class; the table below has the numbers."
    return _twice(
        "classes", label, 24, 38, len(order), lambda f, w: _by_class(f, w, comparison, order)
    )


def _twice(
    name: str,
    label: str,
    wide_row: float,
    narrow_row: float,
    rows: float,
    paint: Callable[[Figure, bool], None],
) -> Markup:
    """The same picture with its labels at the side and, for narrow pages, above each row."""
    edge = _TOP + _BOTTOM
    return picture(
        f"{name}-wide",
        label,
        (_WIDE, edge + rows * wide_row),
        lambda figure: paint(figure, True),
        "picture wide",
    ) + picture(
        f"{name}-narrow",
        label,
        (_NARROW, edge + rows * narrow_row),
        lambda figure: paint(figure, False),
        "picture narrow",
    )


def _frame(figure: Figure, left: float, right: float) -> Axes:
    """Axes whose edges lie at so many pixels from those of the figure."""
    width, height = figure.get_size_inches() * 72
    box = (
        left / width,
        _BOTTOM / height,
        1 - (left + right) / width,
        1 - (_TOP + _BOTTOM) / height,
    )
    axes = figure.add_axes(box)
    axes.grid(axis="y", visible=False)
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    return axes


def _gains(figure: Figure, wide: bool, comparison: Comparison) -> None:
    rows = in_order(comparison)
    axes = _frame(figure, *((228, 116) if wide else (6, 52)))
    limit = _reach([gap for _, gap in rows])
    axes.set_xlim(-limit, limit)
    has_gap = bool(rows) and rows[-1][0].recipe == BOOSTING
    axes.set_ylim(len(rows) - 0.1, -0.5 if wide else -0.7)
    axes.axvline(0, color=COLOURS["ink"], linewidth=1.2)
    base = comparison.baseline
    axes.annotate(
        f"{base.title}: {fixed(base.mean)}",
        (0, 1),
        (0, 8),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="center",
    )
    for place, (one, gap) in enumerate(rows):
        y = place + 0.4 * (has_gap and place == len(rows) - 1) + (0 if wide else 0.12)
        colour = VERDICTS[gap.verdict]
        _interval(axes, gap, y, limit, colour)
        weight = "bold" if one.recipe == comparison.choice else "normal"
        title = one.title + (" (outside view)" if one.recipe == BOOSTING else "")
        if wide:
            _beside(axes, -10, y, short(title, 34), ha="right", weight=weight)
        else:
            _beside(axes, 0, y - 0.44, short(title, 40), ha="left", weight=weight)
        said = signed(gap.mean) + (f"  {gap.verdict}" if wide else "")
        known = COLOURS["muted"] if gap.verdict == "unclear" else colour
        side = "bold" if gap.verdict != "unclear" else "normal"
        _beside(axes, 10, y, said, right=True, color=known, weight=side)
    axes.locator_params(axis="x", nbins=7 if wide else 4)
    axes.xaxis.set_major_formatter(lambda value, _: signed(value) if value else "0")
    axes.set_yticks([])
    axes.set_xlabel(comparison.goal_title)
    for edge, text in ((0, "← worse"), (1, "better →")):
        axes.annotate(
            text,
            (edge, 1),
            (0, 8),
            xycoords="axes fraction",
            textcoords="offset points",
            ha=("left", "right")[edge],
            color=COLOURS["muted"],
        )


def _interval(axes: Axes, gap: Difference, y: float, limit: float, colour: str) -> None:
    """A dot and its interval; an arrow at the edge for what lies beyond it."""
    low, high = (min(max(end, -limit), limit) for end in (gap.low, gap.high))
    if math.isfinite(low) and math.isfinite(high):
        axes.plot([low, high], [y, y], color=colour, linewidth=2.6)
    if abs(gap.mean) <= limit:
        face = COLOURS["paper"] if gap.verdict == "unclear" else colour
        axes.plot(gap.mean, y, "o", color=colour, markerfacecolor=face, markersize=7, mew=2)
    else:
        marker = "<" if gap.mean < 0 else ">"
        axes.plot(math.copysign(limit, gap.mean), y, marker, color=colour, ms=8, clip_on=False)


def _reach(gaps: Sequence[Difference]) -> float:
    """Half the width of the scale: all that is near to 0, and no far row that hides it.

    A row that trails by a multiple of what the others differ by would press them onto the line.
    """
    far = np.array([max(abs(gap.low), abs(gap.high), abs(gap.mean)) for gap in gaps])
    far = far[np.isfinite(far)]
    if not len(far) or far.max() == 0:
        return 0.01
    # All up to the first that is three times as far as the one before.
    ordered = np.sort(far[far > 0])
    jumps = np.flatnonzero(ordered[1:] > 3 * ordered[:-1])
    jumps = jumps[jumps >= (len(ordered) - 1) // 2]
    return 1.08 * float(ordered[jumps[0]] if len(jumps) else ordered[-1])


def _beside(
    axes: Axes,
    pixels: float,
    y: float,
    text: str,
    *,
    right: bool = False,
    ha: str = "left",
    color: str = COLOURS["ink"],
    weight: str = "normal",
) -> None:
    """Text at so many pixels from the left or the right edge of the axes."""
    axes.annotate(
        text,
        (float(right), y),
        (pixels, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha=ha,
        va="center",
        color=color,
        fontweight=weight,
        gid="on-line",
    )


def _by_class(figure: Figure, wide: bool, comparison: Comparison, order: Sequence[int]) -> None:
    data = comparison.data
    counts = data.classes[-len(data.labels) :]
    axes = _frame(figure, *((228, 24) if wide else (8, 16)))
    axes.set_ylim(len(order) - 0.4, -0.6)
    # The named rows are drawn last, over the grey ones.
    drawn = sorted(
        comparison.outcomes,
        key=lambda one: outcome_colour(one.recipe, comparison.choice) != COLOURS["grey"],
    )
    shift = 0 if wide else 0.2
    for place, output in enumerate(order):
        y = place + shift
        axes.axhline(y, color=COLOURS["rule"], linewidth=0.7)
        name, rows = counts[output].name, f"{counts[output].count:,}"
        text = f"{short(name, 20)} · {rows}"
        if wide:
            _beside(axes, -12, y, text, ha="right")
        else:
            _beside(axes, 0, y - 0.42, text, ha="left")
    for one in drawn:
        colour = outcome_colour(one.recipe, comparison.choice)
        named = colour != COLOURS["grey"]
        values = [one.per_class[output] for output in order]
        axes.plot(
            values,
            np.arange(len(order)) + shift,
            "o" if named else "|",
            color=colour,
            markersize=7 if named else 9,
            markeredgewidth=1.4,
            linestyle="none",
        )
    axes.set_yticks([])
    axes.margins(x=0.06)
    axes.locator_params(axis="x", nbins=6 if wide else 4)
    axes.set_xlabel(comparison.goal_title)
