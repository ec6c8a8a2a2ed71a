"""The pictures of the study, of one look: above zero is better, a bar is a 95 % interval.

What gains is blue, what loses is red, and what could be either is grey.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import scikit_posthocs
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.evidence.statistics import REFERENCE, critical_difference, friedman

GAIN, LOSS, REST = "#1f77b4", "#d62728", "#8c8c8c"
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "evidence",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
ROW = 0.21  # inches for a line of a picture


def draw_gains(path: Path, goal: str, tables: Mapping[str, pd.DataFrame]) -> Path:
    """Gains of all arms over the reference, a panel for each model, from tables of `over_sets`.

    The panels share both axes. What lies beyond them is an arrow with its figure.
    """
    arms = _in_order(tables)
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            1,
            len(tables),
            figsize=(2.3 + 2.4 * len(tables), 1.2 + ROW * len(arms)),
            sharex=True,
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        limit = _limit([table[["low", "high"]].to_numpy() for table in tables.values()])
        for axes, (model, table) in zip(panels[0], tables.items(), strict=True):
            axes.set_title(model)
            rows: dict[Any, Any] = table.to_dict("index")
            for place, arm in enumerate(arms):
                if row := rows.get(arm):
                    _interval(axes, place, row["mean"], row["low"], row["high"], limit)
                    count = f"{row['won']:.0f}-{row['lost']:.0f}"
                    axes.text(1.02, place, count, transform=axes.get_yaxis_transform(), **_SMALL)
            _zero(axes, limit)
            axes.text(1.02, -1, "won-lost", transform=axes.get_yaxis_transform(), **_SMALL)
        panels[0, 0].set_yticks(range(len(arms)), arms)
        panels[0, 0].set_ylim(len(arms) - 0.4, -1.6)
        figure.supxlabel(f"gain in {goal} over {REFERENCE}", fontsize=9)
        return _save(figure, path)


def draw_sets(path: Path, goal: str, tables: Mapping[str, pd.DataFrame]) -> Path:
    """Gains of one arm set by set, a panel for each of the tables of `set_gains`."""
    longest = max(len(table) for table in tables.values())
    limit = _limit([table[["low", "high"]].to_numpy() for table in tables.values()])
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            1,
            len(tables),
            figsize=(3.9 * len(tables), 1.2 + 0.8 * ROW * longest),
            sharex=True,
            squeeze=False,
            layout="constrained",
        )
        for axes, (title, table) in zip(panels[0], tables.items(), strict=True):
            ordered = table.sort_values("mean", ascending=False)
            rows: list[dict[Any, Any]] = ordered.to_dict("records")
            for place, row in enumerate(rows):
                _interval(axes, place, row["mean"], row["low"], row["high"], limit)
            labels = [row["set"] + (" *" if row["half"] == "choose" else "") for row in rows]
            axes.set_yticks(range(len(rows)), labels, fontsize=7)
            axes.set_ylim(longest - 0.4, -0.6)
            axes.set_title(title)
            _zero(axes, limit)
        figure.supxlabel(
            f"gain in {goal} over {REFERENCE}; * a set that recipes were chosen on", fontsize=9
        )
        return _save(figure, path)


def draw_ranks(path: Path, goal: str, ranked: Mapping[str, pd.DataFrame]) -> Path:
    """Mean ranks; a line joins arms that Nemenyi's test does not tell apart at 5 %.

    Blue ranks above the reference by more than the critical difference, red below.
    """
    arms = max(table.shape[1] for table in ranked.values())
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            len(ranked),
            1,
            figsize=(7, len(ranked) * (1 + 0.85 * ROW * arms)),
            squeeze=False,
            layout="constrained",
        )
        for axes, (name, table) in zip(panels[:, 0], ranked.items(), strict=True):
            mean = table.mean()
            ahead, margin = mean[REFERENCE] - mean, critical_difference(*table.shape[::-1])
            colours = {arm: _colour(ahead[arm] - margin, ahead[arm] + margin) for arm in mean.index}
            drawn = scikit_posthocs.critical_difference_diagram(
                mean,
                scikit_posthocs.posthoc_nemenyi_friedman(table),
                ax=axes,
                label_fmt_left="{label}  {rank:.1f}",
                label_fmt_right="{rank:.1f}  {label}",
                label_props={"fontsize": 8},
                marker_props={"s": 12},
                elbow_props={"linewidth": 0.8},
                crossbar_props={"linewidth": 1.6, "color": "#404040"},
                color_palette={**colours, REFERENCE: "black"},
            )
            for bar in itertools.chain.from_iterable(drawn["crossbars"]):
                # Its points come in the order of a set, which another process has otherwise.
                bar.set_xdata(np.sort(bar.get_xdata()))
            axes.set_xlim(1, arms)
            axes.set_title(
                f"{goal}, {name}: mean rank over {len(table)} sets, critical difference "
                f"{margin:.1f}, Friedman p = {friedman(table):.1g}",
                pad=20,
            )
        return _save(figure, path)


_SMALL = {"fontsize": 7, "va": "center", "color": "#404040"}


def _in_order(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """All arms, those with the highest gain over the panels first."""
    mean = pd.concat([table["mean"] for table in tables.values()]).groupby(level=0).mean()
    return list(mean.sort_values(ascending=False).index)


def _limit(intervals: list[Any]) -> float:
    """Where the axis ends: a few wide intervals must not make the others points."""
    ends = np.abs(np.concatenate([part.reshape(-1) for part in intervals]))
    ends = ends[np.isfinite(ends)]
    if not ends.size or ends.max() == 0:
        return 1e-3
    return float(min(ends.max(), 2.5 * np.quantile(ends, 0.8)) * 1.05)


def _colour(low: float, high: float) -> str:
    return GAIN if low > 0 else LOSS if high < 0 else REST


def _interval(axes: Axes, place: int, mean: float, low: float, high: float, limit: float) -> None:
    """A point and its bar, or an arrow at the edge with the figure."""
    colour = _colour(low, high)
    if abs(mean) > 0.97 * limit:
        side = np.sign(mean)
        axes.plot(side * limit, place, marker="<" if side < 0 else ">", color=colour, markersize=4)
        axes.annotate(
            f"{mean:+.3f}",
            (side * limit, place),
            xytext=(-7 * side, 0),
            textcoords="offset points",
            ha="right" if side > 0 else "left",
            va="center",
            fontsize=7,
            color=colour,
        )
        return
    if np.isfinite(low) and np.isfinite(high):
        ends = np.clip([low, high], -limit, limit)
        axes.plot(ends, [place, place], color=colour, linewidth=1.4, solid_capstyle="butt")
    axes.plot(mean, place, "o", color=colour, markersize=3.6)


def _zero(axes: Axes, limit: float) -> None:
    axes.axvline(0, color="#404040", linewidth=0.8, zorder=0)
    axes.set_xlim(-limit * 1.02, limit * 1.02)
    axes.grid(visible=True, axis="x", alpha=0.25, linewidth=0.5)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=4)


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    plt.close(figure)
    return path
