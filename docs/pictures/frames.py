"""Pictures that a reader moves: one frame for each setting of a slider."""

from collections.abc import Callable, Sequence
from html import escape

from pictures import Picture, picture

__all__ = ["frames"]


def frames(
    description: str,
    slider: str,
    settings: Sequence[str],
    draw: Callable[[Picture, int], object],
    *,
    start: int = 0,
    panels: int = 1,
    width: float = 7,
    height: float = 3,
) -> str:
    """HTML of one frame per setting and a slider over them; print it in a block of the page.

    `docs/frames.js` moves them. Without scripts the frame of `start` stands still, and its setting
    is written below it.

    Args:
        description: What the picture shows, for those who cannot see it.
        slider: What the slider sets.
        settings: What to write beside the slider, one text per frame.
        draw: Draws frame `i` into a picture. Frames share their axes' limits if `draw` sets them.
        start: The frame that is shown first.
        panels: Axes beside each other.
        width: In inches of 72 points.
        height: In inches.

    Examples:
        >>> html = frames("A level", "level", ["0", "1"], lambda drawn, i: drawn.axes.axhline(i))
        >>> html.count("<svg"), html.count("hidden")
        (2, 2)
    """
    shown = []
    for index, setting in enumerate(settings):
        words = f"{description}; {slider} {setting}"
        with picture(words, panels=panels, width=width, height=height) as drawn:
            draw(drawn, index)
        hidden = "" if index == start else " hidden"
        label = escape(setting)
        shown.append(f'<div class="frame" data-setting="{label}"{hidden}>{drawn.html}</div>')
    name, first = escape(slider), escape(settings[start])
    return (
        f'<div class="frames">{"".join(shown)}'
        f'<label><span>{name}</span> <input type="range" min="0" max="{len(settings) - 1}" '
        f'step="1" value="{start}" aria-valuetext="{first}" hidden> '
        f"<output>{first}</output></label></div>"
    )
