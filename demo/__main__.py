"""Compare recipes on both tables: `python -m demo`, or `make demo`."""

import argparse
import importlib.util
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from imbalanced_losses.recipes import Goal

NEEDED = ("jinja2", "joblib", "matplotlib", "pandas", "rich", "scipy", "skrub", "sklearn")
# The baseline joins them, and gradient boosting.
TREES = ("class_weights", "focal", "smooth_ap_ensemble")
DIGITS = ("adjusted", "class_weights", "logit_adjusted")
FOLDS = 5
# 700 and 400 steps of each training, so that the demo takes two minutes and not ten.
TREE_EPOCHS, DIGIT_EPOCHS = 60, 200


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m demo", description="Compare ways to train for rare classes on two tables."
    )
    parser.add_argument("--output", type=Path, default=Path("outputs"), help="folder for reports")
    parser.add_argument("--jobs", type=int, default=-1, help="trials side by side; -1: all cores")
    parser.add_argument("--max-epochs", type=int, help="of a training; few are a look, no result")
    options = parser.parse_args(argv)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"The demo needs {', '.join(missing)}, which the compare extra of this "
            'repository installs: in its clone, pip install ".[compare]"',
            file=sys.stderr,
        )
        return 1
    # Only now, so that the sentence above comes before any ImportError.
    from demo import data as tables
    from imbalanced_losses.compare import compare

    started = time.perf_counter()
    options.output.mkdir(parents=True, exist_ok=True)
    digits = options.output / "digits.csv"
    tables.write_digits(digits)
    runs: list[tuple[Path, str, Goal, tuple[str, ...], int]] = [
        (tables.WILT, "land_cover", "average_precision", TREES, TREE_EPOCHS),
        (digits, "digit", "balanced_accuracy", DIGITS, DIGIT_EPOCHS),
    ]
    reports = []
    for data, target, goal, recipes, epochs in runs:
        out = options.output / data.stem
        compare(
            data,
            target,
            goal=goal,
            recipes=recipes,
            folds=FOLDS,
            repeats=1,
            jobs=options.jobs,
            max_epochs=options.max_epochs or epochs,
            out=out,
        )
        reports.append(out / "report.html")
    print(f"\nFinished in {time.perf_counter() - started:.0f} s. Open in a browser:")
    for report in reports:
        print(f"  {report}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
