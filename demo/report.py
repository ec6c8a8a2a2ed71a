"""Tables and plain sentences about the results."""

import json
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .comparison import CONFIDENCE, Difference, Results, differences_from_baseline
from .strategies import BASELINE

STYLES = {"better": "green", "worse": "bold red", "unclear": "dim"}


def mean_and_spread(values: np.ndarray) -> str:
    """Mean over seeds and, from two seeds on, the standard deviation."""
    spread = f" ±{values.std(ddof=1):.3f}".replace("±0.", "±.") if len(values) > 1 else ""
    return f"{values.mean():.3f}{spread}"


def signed(difference: Difference) -> str:
    """The mean difference and, where there is one, the half width of its interval."""
    width = f" ±{difference.half_width:.3f}".replace("±0.", "±.") if difference.seeds > 1 else ""
    return f"{difference.mean:+.3f}{width}"


def summary_table(results: Results) -> Table:
    """One row per loss, one column per measure; the best mean of each column is bold."""
    measured = {name: results.measures(name) for name in results.runs}
    names = list(measured[BASELINE])
    best = {m: max(values[m].mean() for values in measured.values()) for m in names}
    table = _table(f"{results.task.title}: {results.held_out_name}", "loss", *names)
    for strategy, values in measured.items():
        cells = [
            Text(mean_and_spread(values[m]), style="bold" if values[m].mean() == best[m] else "")
            for m in names
        ]
        table.add_row(strategy, *cells)
    table.caption = _caption(results, "mean ± standard deviation")
    return table


def per_class_table(results: Results) -> Table:
    """One row per digit with its number of training rows, one column per loss."""
    shorts = [strategy.short for strategy in results.task.strategies]
    table = _table("Average precision of each digit", "digit", "rows", *shorts)
    columns = [results.per_class(name) for name in results.runs]
    for digit, rows in enumerate(results.splits[0].train_counts):
        best = max(column[:, digit].mean() for column in columns)
        cells = [
            Text(
                mean_and_spread(column[:, digit]),
                style="bold" if column[:, digit].mean() == best else "",
            )
            for column in columns
        ]
        table.add_row(str(digit), str(rows), *cells)
    table.caption = _caption(results, "mean ± standard deviation")
    return table


def difference_table(results: Results) -> Table:
    """Each loss minus plain cross-entropy, paired by seed."""
    differences = differences_from_baseline(results)
    names = list(results.measures(BASELINE))
    table = _table("Difference from plain cross-entropy", "loss", *names)
    for strategy, by_measure in differences.items():
        cells = [
            Text(signed(by_measure[name]), style=STYLES[by_measure[name].verdict]) for name in names
        ]
        table.add_row(strategy, *cells)
    table.caption = _caption(results, f"mean paired difference ± {CONFIDENCE:.0%} t-interval")
    return table


def plain_statement(results: Results) -> list[str]:
    """Where each loss lost to plain cross-entropy and where it won, in sentences.

    Everything is read off the paired differences. A loss "lost" where the interval lies below
    zero; a mean lower by a visible thousandth whose interval reaches zero is "behind, within the
    noise".
    """
    if len(results.seeds) < 2:
        return ["One seed shows no spread: run at least two (--seeds) before believing a ranking."]
    sentences = []
    for strategy, by_measure in differences_from_baseline(results).items():
        lost = [_clause(m, d) for m, d in by_measure.items() if d.verdict == "worse"]
        won = [_clause(m, d) for m, d in by_measure.items() if d.verdict == "better"]
        behind = [
            _clause(measure, difference)
            for measure, difference in by_measure.items()
            if difference.verdict == "unclear" and round(difference.mean, 3) < 0
        ]
        parts = []
        if lost:
            parts.append("LOST on " + ", ".join(lost))
        if behind:
            parts.append("behind, within the noise, on " + ", ".join(behind))
        if won:
            parts.append("won on " + ", ".join(won))
        sentences.append(f"{strategy}: " + ("; ".join(parts) or "no clear difference") + ".")
    if not any("LOST" in sentence for sentence in sentences):
        sentences.append("No loss was clearly below plain cross-entropy on any measure.")
    return sentences


def print_report(console: Console, results: Results) -> None:
    """All tables and the plain statement of one task."""
    console.print()
    console.print(summary_table(results))
    if results.task.per_class:
        console.print()
        console.print(per_class_table(results))
    if len(results.seeds) > 1:
        console.print()
        console.print(difference_table(results))
    console.print()
    console.print(Text("Against plain cross-entropy", style="bold"))
    for sentence in plain_statement(results):
        text = Text(sentence, style="red" if "LOST" in sentence else "")
        console.print(Padding(text, (0, 0, 0, 2), expand=False))


def save_results(all_results: list[Results], path: Path) -> None:
    """Every measure of every seed as JSON."""
    content = {
        results.task.key: {
            "seeds": list(results.seeds),
            "train_counts": results.splits[0].train_counts,
            "test_counts": results.splits[0].test_counts,
            "measures": {
                name: {m: values.tolist() for m, values in results.measures(name).items()}
                for name in results.runs
            },
            "per_class_ap": {
                name: results.per_class(name).tolist()
                for name in results.runs
                if results.task.per_class
            },
        }
        for results in all_results
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _clause(measure: str, difference: Difference) -> str:
    if difference.mean < 0:
        count = f"lower in {difference.behind}"
    else:
        count = f"higher in {difference.ahead}"
    return f"{measure} ({difference.mean:+.3f}, {count} of {difference.seeds} seeds)"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_style="bold", caption_style="dim", caption_justify="left")
    table.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _caption(results: Results, what: str) -> str:
    n = len(results.seeds)
    return f"{what} over {n} seeds" if n > 1 else "one seed"
