"""Train, compare and draw: `python -m demo`, or `make demo`."""

import argparse
import importlib.util
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description="Train one small network with every loss on rare digits and compare them.",
    )
    parser.add_argument("--seeds", type=_positive, default=6, help="runs per loss (default 6)")
    parser.add_argument("--epochs", type=_positive, help="epochs per run (default: the task's own)")
    parser.add_argument(
        "--tasks",
        nargs="+",
        choices=("long-tail", "rare-digit"),
        default=["long-tail", "rare-digit"],
        help="what to run (default: both)",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("outputs"), help="folder for pictures and results"
    )
    parser.add_argument(
        "--quick", action="store_true", help="two seeds and ten epochs: a look, not a result"
    )
    parser.add_argument(
        "--held-out",
        choices=("test", "validation"),
        default="test",
        help="score the test rows, or a fifth of the training rows to choose settings by",
    )
    options = parser.parse_args(argv)
    if options.quick:
        options.seeds, options.epochs = 2, options.epochs or 10
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    options = arguments(argv)
    needed = ("matplotlib", "numpy", "rich", "sklearn")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"The demo needs {', '.join(missing)}, which the demo extra of this "
            'repository installs: in its clone, pip install ".[demo]"',
            file=sys.stderr,
        )
        return 1
    # Only now, so that the sentence above comes before any ImportError.
    from rich.console import Console

    from . import plots, report
    from .runner import run_task
    from .tasks import TASKS

    # Logs have no width of their own; the tables are made for 110 columns.
    console = Console(width=None if sys.stdout.isatty() else 110)
    started = time.perf_counter()
    all_results = [
        run_task(
            TASKS[key],
            seeds=options.seeds,
            epochs=options.epochs,
            held_out=options.held_out,
            console=console,
        )
        for key in dict.fromkeys(options.tasks)
    ]
    for results in all_results:
        report.print_report(console, results)

    options.output.mkdir(parents=True, exist_ok=True)
    files = [path for results in all_results for path in plots.draw_all(results, options.output)]
    files.append(options.output / "results.json")
    report.save_results(all_results, files[-1])
    console.print(f"\nFinished in {time.perf_counter() - started:.0f} s. Saved:")
    for path in files:
        console.print(f"  {path}", soft_wrap=True, highlight=False)
    return 0


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1; got {value}")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
