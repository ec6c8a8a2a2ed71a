"""How a comparison ends in a terminal: verdict, table, classes, decision, files."""

import math
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from imbalanced_losses.compare._result import Comparison, Outcome

_STYLES = {"better": "green", "worse": "red", "unclear": "dim"}
# Of a problem with many classes or labels, the rarest are shown.
_CLASSES = 10


def show(found: Comparison, files: Sequence[Path], console: Console) -> None:
    """Print it. Names of the data are text, whatever brackets they hold."""
    console.print()
    console.print(Text(found.sentence, style="bold"))
    console.print()
    console.print(_ranking(found))
    percent = f"{100 * found.level:g} %"
    console.print(
        Text(
            f"Beside each mean over {found.repeats * found.folds} folds, which share rows, stands "
            f"its {percent} interval. Differences are to cross-entropy with prior bias, their "
            "intervals widened for the number of recipes.",
            style="dim",
        )
    )
    if len(found.data.labels) > 1 and len(found.baseline.per_class) == len(found.data.labels):
        console.print()
        console.print(_by_class(found))
    console.print()
    for decision in found.decisions:
        console.print(Text(decision.sentence))
    for note in found.notes:
        console.print(Text(note, style="yellow"))
    if files:
        console.print()
    for path in files:
        console.print(Text(str(path)), soft_wrap=True)


def _ranking(found: Comparison) -> Table:
    table = Table(
        title=Text(f"{found.data.name}: {found.goal_title}"), title_justify="left", box=SIMPLE_HEAD
    )
    table.add_column("")
    for name in ("mean", "between", "difference", "between", "folds won", "verdict"):
        table.add_column(name, justify="left" if name == "verdict" else "right")
    for one in found.outcomes:
        difference = one.difference
        if difference is None:
            told = ["", "", "", "baseline" if one is found.baseline else "not judged"]
            style = ""
        else:
            folds = len(one.values)
            told = [
                f"{difference.mean:+.4f}",
                f"{difference.low:+.4f} {difference.high:+.4f}",
                f"{difference.wins} of {folds}",
                difference.verdict,
            ]
            style = _STYLES[difference.verdict]
        title = Text(one.title, style="bold" if one.recipe == found.choice else "")
        interval = "" if math.isnan(one.low) else f"{one.low:.4f} {one.high:.4f}"
        mean = f"{one.mean:.4f}"
        table.add_row(title, mean, interval, *told[:3], Text(told[3], style=style))
    return table


def _by_class(found: Comparison) -> Table:
    """The rarest classes first, for the choice, the baseline and boosting."""
    names = dict.fromkeys([found.choice, found.baseline.recipe, "boosting"])
    shown: list[Outcome] = [found.outcome(name) for name in names]
    classes = found.data.classes if found.data.kind != "binary" else found.data.classes[1:]
    order = sorted(range(len(classes)), key=lambda place: classes[place].count)
    title = f"by class, the {_CLASSES} rarest" if len(classes) > _CLASSES else "by class"
    table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD)
    table.add_column("")
    table.add_column("rows", justify="right")
    for one in shown:
        table.add_column(Text(one.title), justify="right")
    for place in order[:_CLASSES]:
        values = (one.per_class[place] for one in shown)
        told = ("not judged" if math.isnan(value) else f"{value:.4f}" for value in values)
        table.add_row(Text(classes[place].name), f"{classes[place].count:,}", *told)
    return table
