"""How every picture of the demo looks."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from .strategies import BASELINE, Strategy

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "figure.dpi": 150,
    "savefig.facecolor": "white",
}
HEADLINE_INCHES = 0.72
# Shape and dash repeat what colour says, for grey print and for eyes that mix the colours up.
MARKERS = ("o", "s", "D", "^", "v", "P")
DASHES: tuple[tuple[float, ...], ...] = ((), (4, 1.5), (1, 1.5), (6, 1.5, 1, 1.5), (), (3, 1, 1, 1))


@contextmanager
def picture(path: Path, title: str, subtitle: str, size: tuple[float, float]) -> Iterator[Figure]:
    """A figure with a headline, saved to `path` at the end."""
    with matplotlib.rc_context(STYLE):
        # The headline takes a fixed height at the top; the panels share the rest.
        layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - HEADLINE_INCHES / size[1]))
        figure = Figure(figsize=size, layout=layout)
        FigureCanvasAgg(figure)
        figure.text(0.012, 1 - 0.12 / size[1], title, fontsize=14, fontweight="bold", va="top")
        figure.text(0.012, 1 - 0.42 / size[1], subtitle, fontsize=10, color="#555555", va="top")
        yield figure
        figure.savefig(path)


def legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    """One legend for all panels, under them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def line_width(strategy: Strategy) -> float:
    """The baseline is drawn heavier: everything is read against it."""
    return 2.6 if strategy.name == BASELINE else 1.7
