"""The pictures of the site, drawn by the build as SVG that suits a light and a dark page."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["BLUE", "GREY", "ORANGE", "PINK", "TEAL", "Picture", "picture"]

# Okabe and Ito's colours, for eyes that mix colours up; each stands out on white and on slate.
BLUE, ORANGE, TEAL, PINK, GREY = "#3b8fd0", "#d98c00", "#109e78", "#cc79a7", "#8a8f98"

_STYLE: dict[Any, Any] = {
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=[BLUE, ORANGE, TEAL, PINK, GREY]),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "font.size": 10,
    "grid.alpha": 0.25,
    "grid.color": GREY,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "xtick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.color": GREY,
    "ytick.labelcolor": "black",
    # Text stays text and takes the page's colour; the same data give the same file.
    "svg.fonttype": "none",
    "svg.hashsalt": "imbalanced_losses",
}


class Picture:
    """A figure with `panels` beside each other, and the HTML of it once it is drawn."""

    def __init__(self, description: str, panels: int, width: float, height: float) -> None:
        self.description = description
        self.figure = Figure(figsize=(width, height), layout="constrained")
        axes = self.figure.subplots(1, panels, squeeze=False)
        self.panels: list[Axes] = list(axes[0])
        self.html = ""

    @property
    def axes(self) -> Axes:
        """The first panel."""
        return self.panels[0]


@contextmanager
def picture(
    description: str, *, panels: int = 1, width: float = 7, height: float = 3
) -> Iterator[Picture]:
    """Draw within the block; then print `html`, in a block with `exec="on" html="on"`.

    Args:
        description: What the picture shows, for those who cannot see it.
        panels: Axes beside each other.
        width: In inches of 72 points; the page scales it down where there is no room.
        height: In inches.

    Examples:
        >>> with picture("A line that rises") as drawn:
        ...     _ = drawn.axes.plot([0, 1], [0, 1])
        >>> drawn.html.startswith('<figure class="picture" role="img" aria-label="A line that')
        True
    """
    with matplotlib.rc_context(_STYLE):
        drawn = Picture(description, panels, width, height)
        yield drawn
        text = io.StringIO()
        drawn.figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    label = escape(description, quote=True)
    drawn.html = f'<figure class="picture" role="img" aria-label="{label}">{svg}</figure>'
