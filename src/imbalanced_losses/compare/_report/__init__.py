"""One page that holds all that a comparison found: `report.html`, with nothing beside it."""

import base64
import hashlib
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from imbalanced_losses.compare._result import BOOSTING, Comparison, write_whole

try:
    import jinja2
    from markupsafe import Markup

    from imbalanced_losses.compare._report import _pictures, _words
    from imbalanced_losses.compare._report._panels import panels
except ModuleNotFoundError as error:
    raise ImportError(
        "The report needs jinja2 and matplotlib: in a clone of this repository, "
        'pip install ".[compare]".'
    ) from error

__all__ = ["write_report"]

_HERE = Path(__file__).parent
# A picture of the classes has this many rows at either end when there are more.
_ENDS = 10


def write_report(comparison: Comparison, folder: str | os.PathLike[str]) -> Path:
    """Write `report.html`, a page for people who were not there.

    It needs no other file and asks no other machine for anything: style, script and pictures are
    inside. The same comparison gives the same bytes. Names from the data are text wherever they
    stand, and the page forbids every script but its own.

    Args:
        comparison: What was found. Without scores the page has no slider and no curves.
        folder: Is made where it is missing. A `report.html` in it is replaced.

    Returns:
        The path of the page.

    Raises:
        OSError: The folder cannot be made or written to.
    """
    folder = Path(folder)
    page = _page(comparison)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.html"
    write_whole(path, lambda part: part.write_text(page, encoding="utf-8", newline="\n"))
    return path


def _page(comparison: Comparison) -> str:
    script = (_HERE / "report.js").read_text(encoding="utf-8")
    data = comparison.data
    several = len(data.labels) > 1
    found = panels(comparison)
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            it=comparison,
            data=data,
            several=several,
            chosen=comparison.outcome(comparison.choice),
            verdict=_verdict(comparison.sentence),
            gains=_pictures.gains(comparison) if _pictures.in_order(comparison) else None,
            by_class=_pictures.by_class(comparison) if _has_classes(comparison) else None,
            key=_pictures.key(comparison),
            panels=found,
            dials=[panel.dial and panel.dial.data() for panel in found],
            shares=_shares(comparison),
            rarest=min(data.classes, key=lambda one: one.count),
            level=f"{100 * comparison.level:g} %",
            boosting=BOOSTING,
            style=Markup((_HERE / "report.css").read_text(encoding="utf-8")),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


def _verdict(sentence: str) -> tuple[str, str]:
    """The first sentence, to stand in large letters, and what follows it."""
    first, *rest = re.split(r"(?<=[.!?]) (?=[A-Z])", sentence, maxsplit=1)
    return first, "".join(rest)


def _has_classes(comparison: Comparison) -> bool:
    """Whether the goal was computed for each of several classes."""
    outputs = len(comparison.data.labels)
    return outputs > 1 and all(len(one.per_class) == outputs for one in comparison.outcomes)


def _shares(comparison: Comparison) -> list[dict[str, Any] | None]:
    """Rows of each class, the largest first; None where some in the middle are left out."""
    rows = comparison.data.rows
    classes = sorted(comparison.data.classes, key=lambda one: -one.count)
    shares: list[dict[str, Any] | None] = [
        {"name": one.name, "count": one.count, "share": one.count / rows} for one in classes
    ]
    if len(shares) > 2 * _ENDS + 4:
        return [*shares[:_ENDS], None, *shares[-_ENDS:]]
    return shares


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        name: getattr(_words, name)
        for name in (
            "visible",
            "short",
            "fixed",
            "signed",
            "p_value",
            "percent",
            "probability",
            "count",
            "seconds",
        )
    }
    environment.globals |= {"between": _words.between, "estimate": _words.estimate}
    return environment
