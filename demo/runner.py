"""All runs of one task behind one progress bar."""

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from .comparison import Results
from .data import HeldOut
from .tasks import Task
from .training import Run, train


def run_task(
    task: Task, *, seeds: int, epochs: int | None, held_out: HeldOut, console: Console
) -> Results:
    """Train every strategy of a task on every seed.

    A terminal gets a progress bar; a log gets one line per task.
    """
    epochs = epochs or task.epochs
    splits = [task.draw(seed, held_out) for seed in range(seeds)]
    runs: dict[str, list[Run]] = {strategy.name: [] for strategy in task.strategies}
    console.print(
        f"[bold]{task.title}[/]: {len(runs)} losses x {seeds} seeds x {epochs} epochs, "
        f"{len(splits[0].y_train)} training rows",
        highlight=False,
    )
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("epochs"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    # Networks this small run slower on several threads than on one.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    width = max(map(len, runs))
    try:
        with progress:
            bar = progress.add_task("", total=len(runs) * seeds * epochs)
            for seed, split in enumerate(splits):
                for strategy in task.strategies:
                    progress.update(bar, description=f"seed {seed}  {strategy.name:<{width}}")
                    run = train(
                        strategy, split, seed, epochs, task.lead, lambda: progress.advance(bar)
                    )
                    runs[strategy.name].append(run)
    finally:
        torch.set_num_threads(threads)
    return Results(task, tuple(range(seeds)), tuple(splits), runs, held_out)
