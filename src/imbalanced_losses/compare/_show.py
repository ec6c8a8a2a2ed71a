"""What was found, as tables in a terminal. All text is shown as it is: no markup is read in it."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from imbalanced_losses._errors import counted, one_line
from imbalanced_losses.compare._inspect import Inspection
from imbalanced_losses.recipes import RECIPES

_MOST_CLASSES = 20


def show_inspection(console: Console, found: Inspection) -> None:
    """Everything in an `Inspection`."""
    _say(
        console,
        f"{found.name}: {counted(found.rows, 'row')}, {found.kind}, "
        + ", ".join(f"{kind}: {count:,}" for kind, count in found.columns.items() if count),
        style="bold",
    )
    if found.different_rows < found.rows:
        _say(console, f"{counted(found.different_rows, 'group')} of rows that stay together")
    rare_first = sorted(found.classes, key=lambda one: one.rows)
    _table(
        console,
        ["class" if found.kind != "multilabel" else "label", "rows", "share"],
        [(one.name, f"{one.rows:,}", f"{one.share:.3%}") for one in rare_first[:_MOST_CLASSES]],
        f"Classes, the rarest first (imbalance {found.imbalance:,.1f} to 1)",
    )
    if len(rare_first) > _MOST_CLASSES:
        _say(console, f"... and {len(rare_first) - _MOST_CLASSES:,} more")
    show_findings(console, found)
    _table(
        console,
        ["positives", "rows", "interval of a recall of .5"],
        [
            (f"{one.positives:,}", f"{one.rows:,}", f"{one.low:.3f} to {one.high:.3f}")
            for one in found.precision
        ],
        "How well a recall is known: with the rarest class here, and with more",
    )
    _table(console, *_advice(found), "What to begin with, and to measure against", numbers=False)
    for name, reason in found.reasons.items():
        _say(console, f"{RECIPES[name].title}: {reason}")
    if found.test is not None:
        part = found.test
        _say(
            console,
            f"{part.name}: {part.shared:,} of {counted(part.rows, 'row')} ({part.share:.1%}) equal "
            f"a row of {found.name} in every feature"
            + (". Judge without them: a model has seen them." if part.shared else "."),
            style="bold red" if part.shared else "bold",
        )


def _advice(found: Inspection) -> tuple[list[str], list[tuple[str, ...]]]:
    """Heads and rows: a column for each size of model only where they get different recipes."""
    sizes = {f"{size} model": size for size in found.advice[0].recipes}
    if all(len(set(one.recipes.values())) == 1 for one in found.advice):
        sizes = {"any model": next(iter(sizes.values()))}
    rows = [
        (one.title, *(RECIPES[one.recipes[size]].title for size in sizes.values()))
        for one in found.advice
    ]
    return ["goal", *sizes], rows


def show_findings(console: Console, found: Inspection) -> None:
    """One line for each finding, the leaks in red."""
    for finding in found.findings:
        style = "bold red" if finding.code in ("copy", "leak") else ""
        _say(console, f"- {finding.message}", style=style)


def _table(
    console: Console,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    title: str,
    *,
    numbers: bool = True,
) -> None:
    table = Table(title=Text(one_line(title)), title_justify="left", box=box.SIMPLE_HEAD)
    for place, head in enumerate(heads):
        table.add_column(Text(head), justify="right" if numbers and place else "left")
    for row in rows:
        table.add_row(*(Text(one_line(cell), overflow="fold") for cell in row))
    console.print(table)


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(one_line(text), style=style))
