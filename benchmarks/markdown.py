"""Numbers and tables in Markdown."""

from collections.abc import Iterable, Sequence


def heading(text: str, *paragraphs: str) -> list[str]:
    """A section's heading and its first paragraphs."""
    return ["", f"## {text}", "", *(line for text in paragraphs for line in (text, ""))]


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> list[str]:
    """A table whose first `texts` columns are text and whose others are numbers."""
    aligned = ["---"] * texts + ["---:"] * (len(columns) - texts)
    return [_line(columns), _line(aligned), *map(_line, rows), ""]


def number(value: float | None) -> str:
    """Three digits or so, a dash for None."""
    if value is None:
        return "-"
    digits = sum(abs(value) < bound for bound in (1, 10, 100))
    return f"{value:,.{digits}f}"


def times(value: float | None) -> str:
    """A ratio."""
    return "-" if value is None else f"{number(value)}x"


def error(value: float | None) -> str:
    """A small number."""
    return "-" if value is None else f"{value:.1e}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
