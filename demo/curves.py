"""Training curves of the scheduled losses, with their phases shaded."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from .comparison import CONFIDENCE, Results, half_width
from .strategies import BASELINE
from .style import line_width, picture
from .training import Phase

PHASE_COLORS: dict[Phase, str] = {"warm-up": "#fdf3d8", "blend": "#e3eef7", "main": "#ffffff"}


def training_curves(results: Results, folder: Path) -> Path:
    """Held-out score, its distance from cross-entropy, and training loss, phase by phase."""
    baseline, *rivals = results.task.strategies
    scheduled = [s for s in rivals if "warm-up" in results.runs[s.name][0].phases]
    lead = next(iter(results.measures(BASELINE)))
    path = folder / f"{results.task.key}-training.png"
    title = "Warm-up, blend, main: what the schedule does to the score and to the loss"
    interval = f" with its {CONFIDENCE:.0%} t-interval" if len(results.seeds) > 1 else ""
    subtitle = (
        f"{results.mean_over.capitalize()}; {lead} on the {results.held_out_name}; the difference "
        f"is paired by seed{interval}. Nothing was chosen by these curves."
    )
    with picture(path, title, subtitle, (10.5, 8)) as figure:
        grid = figure.subplots(3, len(scheduled), sharex=True, sharey="row", squeeze=False)
        for (top, middle, bottom), strategy in zip(grid.T, scheduled, strict=True):
            phases = results.runs[strategy.name][0].phases
            for axes in (top, middle, bottom):
                shade_phases(axes, phases)
                axes.set_xlim(0, len(phases))
            for which in (baseline, strategy):
                epochs, scores, losses = _histories(results, which.name)
                style = {"color": which.color, "linewidth": line_width(which)}
                top.plot(epochs, scores.mean(0), label=which.name, **style)
                bottom.plot(np.arange(losses.shape[1]) + 0.5, losses.mean(0), **style)
            difference = scores - _histories(results, BASELINE)[1]
            mean = difference.mean(0)
            middle.axhline(0, color=baseline.color, linewidth=line_width(baseline))
            middle.plot(epochs, mean, **style)
            if len(difference) > 1:
                band = half_width(difference)
                middle.fill_between(
                    epochs, mean - band, mean + band, color=strategy.color, alpha=0.2, linewidth=0
                )
            top.set_title(strategy.name, pad=18)
            label_phases(top, phases)
            top.legend(loc="lower right")
            bottom.set_xlabel("epoch")
            bottom.set_yscale("log")
            bottom.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            bottom.yaxis.set_major_formatter("{x:g}")
            bottom.yaxis.set_minor_formatter(NullFormatter())
        grid[0, 0].set_ylabel(lead)
        grid[1, 0].set_ylabel(f"{lead} minus\ncross-entropy's")
        grid[2, 0].set_ylabel("training loss\nof the phase")
        figure.align_ylabels(grid[:, 0])
    return path


def _histories(results: Results, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scored epochs `[K]`, held-out scores `[seeds, K]` and training losses `[seeds, epochs]`."""
    curves = np.array([run.curve for run in results.runs[name]])
    losses = np.array([run.losses for run in results.runs[name]])
    return curves[0, :, 0], curves[:, :, 1], losses


def phase_spans(phases: list[Phase]) -> list[tuple[int, int, Phase]]:
    """Runs of equal phases as `(first epoch, end epoch, phase)`."""
    starts = [0, *(e for e in range(1, len(phases)) if phases[e] != phases[e - 1]), len(phases)]
    return [(start, end, phases[start]) for start, end in pairwise(starts)]


def shade_phases(axes: Axes, phases: list[Phase]) -> None:
    """Colour the background by phase."""
    for start, end, phase in phase_spans(phases):
        axes.axvspan(start, end, color=PHASE_COLORS[phase], linewidth=0, zorder=0)


def label_phases(axes: Axes, phases: list[Phase]) -> None:
    """Write each phase's name above its span."""
    for start, end, phase in phase_spans(phases):
        axes.annotate(
            phase,
            ((start + end) / 2, 1.0),
            xytext=(0, 4),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            color="#666666",
        )
