"""The commands `imbalanced-losses compare` and `imbalanced-losses inspect`.

What they need is costly to import, so that they do it as they run: `--help` has none of it.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, cast

try:
    import typer
except ModuleNotFoundError as error:
    raise ImportError(
        "The command line needs typer, which the compare extra of this repository installs: in its "
        'clone, pip install ".[compare]".'
    ) from error

import imbalanced_losses
from imbalanced_losses._errors import DataError, WorkerError, one_line, quoted
from imbalanced_losses.recipes import Goal

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Brackets in what a user typed are no markup.
    rich_markup_mode=None,
)

Data = Annotated[
    str, typer.Argument(help="A CSV file (up to 1 GB), Parquet file or NPZ file.", metavar="DATA")
]
Target = Annotated[
    list[str] | None,
    typer.Option(help="The target column; again for each further label. NPZ: the array, else y."),
]
Positive = Annotated[
    str | None, typer.Option(help="The class that counts as positive; else the rarer of two.")
]
Drop = Annotated[list[str] | None, typer.Option(help="A column to leave out; again for more.")]
Keep = Annotated[
    list[str] | None,
    typer.Option(help="A column to use although it looks like an id; again for more."),
]
Group = Annotated[
    str | None,
    typer.Option(help="Rows with equal values in this column (NPZ: or array) stay in one fold."),
]
Budget = Annotated[
    float | None, typer.Option(help="Share of rows that may raise an alert, such as 0.005.")
]
Folds = Annotated[int, typer.Option(help="Parts that the rows are split into.")]


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(imbalanced_losses.__version__)
        raise typer.Exit


@app.callback()
def begin(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version)
    ] = False,
) -> None:
    """From a table with a rare class to a decision."""


@app.command()
def compare(
    data: Data,
    target: Target = None,
    positive: Positive = None,
    goal: Annotated[
        str, typer.Option(help="What is to be high, such as recall_at_budget.")
    ] = "average_precision",
    budget: Budget = None,
    wish: Annotated[
        str | None,
        typer.Option(
            help="What the threshold is for: budget, precision, recall, fpr or cost.",
            metavar="NAME=NUMBER",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Your own network: a function of inputs and outputs.", metavar="PACKAGE:FACTORY"
        ),
    ] = None,
    hidden: Annotated[
        str, typer.Option(help="Widths of the hidden layers; empty for a linear model.")
    ] = "128,128",
    recipes: Annotated[
        str | None,
        typer.Option(help="Names of recipes, with commas, or all; else a choice of them."),
    ] = None,
    folds: Folds = 5,
    repeats: Annotated[int | None, typer.Option(help="How often the rows are split anew.")] = None,
    seed: Annotated[int, typer.Option(help="Of splits, weights and orders.")] = 0,
    jobs: Annotated[int, typer.Option(help="Trials at a time; -1: one for each core.")] = -1,
    out: Annotated[
        Path, typer.Option(help="Folder for the report and for what is needed to go on.")
    ] = Path("comparison"),
    drop: Drop = None,
    keep: Keep = None,
    group: Group = None,
    device: Annotated[str | None, typer.Option(help="Such as cpu or cuda.")] = None,
    precision: Annotated[str | None, typer.Option(help="Such as bf16-mixed.")] = None,
    strategy: Annotated[str | None, typer.Option(help="Such as ddp.")] = None,
    level: Annotated[float, typer.Option(help="Of every interval, in (0, 1).")] = 0.95,
    resume: Annotated[bool, typer.Option(help="Go on with the trials that OUT holds.")] = True,
    quiet: Annotated[bool, typer.Option(help="Print the verdict alone.")] = False,
) -> None:
    """Compare ways to train for a rare class on your data, and choose a threshold."""
    with sentences():
        import imbalanced_losses.compare as room

        given = {
            "keep": keep,
            "wish": _wish(wish),
            "model": model,
            "device": device,
            "precision": precision,
            "strategy": strategy,
        }
        options: dict[str, Any] = {name: value for name, value in given.items() if value}
        result = room.compare(
            data,
            target,
            positive=positive,
            goal=cast(Goal, goal),
            budget=budget,
            hidden=_widths(hidden),
            recipes=_names(recipes),
            folds=folds,
            repeats=repeats,
            seed=seed,
            jobs=jobs,
            out=out,
            drop=drop or (),
            group=group,
            level=level,
            resume=resume,
            quiet=quiet,
            **options,
        )
        if quiet:
            typer.echo(one_line(result.sentence))


@app.command()
def inspect(
    data: Data,
    target: Target = None,
    positive: Positive = None,
    budget: Budget = None,
    folds: Folds = 5,
    drop: Drop = None,
    keep: Keep = None,
    group: Group = None,
    test: Annotated[
        str | None, typer.Option(help="Another part of the data, to find rows that are in both.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a table holds, what of it cannot be used, and what to try. Trains nothing."""
    with sentences():
        from rich.console import Console

        import imbalanced_losses.compare as room
        from imbalanced_losses.compare._show import show_inspection

        found = room.inspect(
            data,
            target,
            positive=positive,
            drop=drop or (),
            keep=keep or (),
            group=group,
            folds=folds,
            budget=budget,
            test=test,
        )
        if as_json:
            typer.echo(json.dumps(found.to_dict(), indent=2, allow_nan=False))
        else:
            show_inspection(Console(), found)


@contextmanager
def sentences() -> Iterator[None]:
    """End with a sentence instead of a traceback.

    2 for what the user can mend, 1 for a worker that was killed, 130 for Ctrl-C.
    """
    try:
        yield
    except (ValueError, ImportError, WorkerError) as error:
        typer.echo(f"imbalanced-losses: {one_line(error)}", err=True)
        raise typer.Exit(1 if isinstance(error, WorkerError) else 2) from error
    except KeyboardInterrupt as error:
        typer.echo(f"\n{one_line(error) or 'Stopped.'}", err=True)
        raise typer.Exit(130) from error


def _widths(text: str) -> tuple[int, ...]:
    """Such as (128, 128) of "128,128"; () of nothing."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise DataError(f"hidden must be widths such as 128,128; got {quoted(text)}.")
    return tuple(map(int, words))


def _names(text: str | None) -> list[str] | str | None:
    """Names with commas between them; "all" is a word of its own."""
    if text is None or text.strip() == "all":
        return None if text is None else "all"
    return [word.strip() for word in text.split(",") if word.strip()]


def _wish(text: str | None) -> dict[str, float]:
    """Such as {"recall": 0.9} of "recall=0.9"."""
    if text is None:
        return {}
    name, _, value = text.partition("=")
    try:
        return {name.strip(): float(value)}
    except ValueError as error:
        raise DataError(
            f"wish must be a name and a number such as recall=0.9; got {quoted(text)}."
        ) from error
