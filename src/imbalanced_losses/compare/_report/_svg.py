"""Figures as SVG that lives inside of a page: its fonts, its colours, no name of its own."""

import io
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from imbalanced_losses.compare._report._words import visible

# Each stands for a variable of the page's style sheet, which knows light, dark and print.
COLOURS = {
    name: f"#0000{number:02x}"
    for number, name in enumerate(
        ("ink", "muted", "rule", "grey", "choice", "outside", "win", "loss", "paper"), start=1
    )
}
_VARIABLES = {value: f"var(--{name})" for name, value in COLOURS.items()}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    # Names come from the data, and a dollar in one is no formula.
    "text.parse_math": False,
    "font.size": 11,
    "font.family": "sans-serif",
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titlecolor": COLOURS["ink"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.edgecolor": COLOURS["rule"],
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": COLOURS["rule"],
    "grid.linewidth": 0.7,
    "xtick.color": COLOURS["rule"],
    "ytick.color": COLOURS["rule"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.labelcolor": COLOURS["muted"],
    "xtick.minor.visible": False,
    "ytick.minor.visible": False,
    "text.color": COLOURS["ink"],
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "path.simplify": True,
    "path.simplify_threshold": 0.3,
    "figure.facecolor": "none",
    # A pixel of the page is a point of the figure.
    "figure.dpi": 72,
}
_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
# Settings of matplotlib and filters of warnings belong to the process, not to a thread.
_DRAWING = threading.RLock()


@contextmanager
def _settings(salt: str) -> Iterator[None]:
    with _DRAWING, mpl.rc_context(_STYLE | {"svg.hashsalt": salt}), warnings.catch_warnings():
        # The reader's fonts write the names, so it is no matter which letters ours lack.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


def picture(
    name: str,
    label: str,
    size: tuple[float, float],
    paint: Callable[[Figure], None],
    style: str = "picture",
) -> Markup:
    """Let `paint` draw on a figure, and return it as an `<svg>` element.

    Args:
        name: Of the picture, unlike all others of the page: the ids inside come from it.
        label: What is read aloud in its place.
        size: Width and height in pixels of the page.
        paint: Draws. Colours are those of `COLOURS`.
        style: Class of the element.

    Returns:
        The same bytes for the same drawing.
    """
    with _settings(name):
        figure = Figure(figsize=(size[0] / 72, size[1] / 72))
        FigureCanvasAgg(figure)  # measures text
        paint(figure)
        written = io.BytesIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(written.getvalue())
    _strip(root)
    root.attrib.clear()
    root.attrib.update(
        {
            "class": style,
            "role": "img",
            "aria-label": visible(label),
            "viewBox": f"0 0 {size[0]:g} {size[1]:g}",
            "style": f"max-width:{size[0] * 1.15:g}px",
        }
    )
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def label_lines(
    axes: Axes, lines: Sequence[tuple[str, str, NDArray[np.float64], NDArray[np.float64]]]
) -> None:
    """Write `(label, colour, x, y)` of each line next to it, where the fewest lines pass.

    Each label tries places along its own line, on all four sides of it, and keeps off the labels
    before it and the edges of the axes.
    """
    paths = [_in_pixels(axes, x, y) for _, _, x, y in lines]
    crowd = np.concatenate(paths)
    frame = axes.get_window_extent()
    taken: list[NDArray[np.float64]] = []
    for (label, colour, _, _), path in zip(lines, paths, strict=True):
        text = axes.text(0, 0, label, color=colour, fontweight="bold", va="center", gid="on-line")
        box = text.get_window_extent()
        size = np.array([box.width, box.height])
        corners, costs = _places(path, size)
        costs += _crowding(corners, corners + size, crowd)
        for other in taken:
            costs += 1000.0 * ((corners < other[1]) & (corners + size > other[0])).all(1)
        costs += 1e4 * ((corners < frame.p0) | (corners + size > frame.p1)).any(1)
        best = corners[costs.argmin()]
        taken.append(np.array([best, best + size]))
        place = axes.transData.inverted().transform((best[0], best[1] + box.height / 2))
        text.set_position((float(place[0]), float(place[1])))


def _in_pixels(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points two pixels apart along the line, inside of the axes."""
    corners = axes.transData.transform(np.column_stack([x, y]))
    corners = corners[np.isfinite(corners).all(1)]
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(corners, axis=0).T))])
    at = np.arange(0, along[-1] + 2, 2.0)
    points = np.column_stack([np.interp(at, along, corners[:, k]) for k in (0, 1)])
    inside = axes.bbox.padded(1)
    keep = (points >= inside.p0).all(1) & (points <= inside.p1).all(1)
    return np.asarray(points[keep] if keep.any() else corners[:1])


def _places(
    path: NDArray[np.float64], size: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower left corners for a label, and a small cost that grows with the way to its line."""
    along = path[:: max(1, len(path) // 40), None]
    # Above, below, to the right and to the left of a point of the line.
    sides = np.array([[-0.5, 0.0], [-0.5, -1.0], [0.0, -0.5], [-1.0, -0.5]]) * size
    away = np.array([[0.0, 1.0], [0.0, -1.0], [1.0, 0.0], [-1.0, 0.0]])
    gaps = (4.0, 9.0)
    corners = [(along + sides + gap * away).reshape(-1, 2) for gap in gaps]
    costs = [np.full(len(part), gap / 4) for part, gap in zip(corners, gaps, strict=True)]
    return np.concatenate(corners), np.concatenate(costs)


def _crowding(
    low: NDArray[np.float64], high: NDArray[np.float64], crowd: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Points of lines under each label, and right beside it."""
    edge = np.array([3.0, 1.0])
    inside = (crowd > (low - edge)[:, None]) & (crowd < (high + edge)[:, None])
    return np.asarray(inside.all(2).sum(1), dtype=np.float64)


def _strip(element: ElementTree.Element) -> None:
    """Leave what is seen: no metadata, no ids but those that are referred to, no white space."""
    element.tag = element.tag.removeprefix(_SVG)
    for child in list(element):
        if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
            element.remove(child)
        else:
            _strip(child)
    name = element.get("id")
    if element.tag == "g" and name is not None:
        del element.attrib["id"]
        if name == "on-line":
            element.set("class", name)
    if f"{_XLINK}href" in element.attrib:
        element.set("href", element.attrib.pop(f"{_XLINK}href"))
    if "d" in element.attrib:
        element.set("d", " ".join(element.attrib["d"].split()))
    if element.tag == "text":
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
        element.set("style", re.sub(r"font-family: [^;]*(;|$)", "", element.get("style", "")))
    elif element.text is not None and not element.text.strip():
        element.text = None
    if element.tail is not None and not element.tail.strip():
        element.tail = None
    if "style" in element.attrib:
        element.set("style", _with_variables(element.attrib["style"]))


def _with_variables(style: str) -> str:
    return re.sub(r"#[0-9a-f]{6}", lambda found: _VARIABLES.get(found[0], found[0]), style)
