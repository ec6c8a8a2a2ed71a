"""Measure the losses beside torch and their peers: `python -m benchmarks`."""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
NEEDED = ("rich", "matplotlib", "sklearn")


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument(
        "--only", default="", help="only cases whose name contains this, such as 'AP 1024x10'"
    )
    parser.add_argument("--implementations", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument("--threads", type=int, nargs="+", help="default: 1 2; with --quick: 1")
    parser.add_argument("--rounds", type=int, help="turns of each implementation (default 5)")
    parser.add_argument("--seconds", type=float, help="per case and implementation (default 0.5)")
    parser.add_argument("--limit", type=float, default=300, help="seconds until one is given up")
    parser.add_argument("--fresh", action="store_true", help="measure again what is there")
    parser.add_argument("--report", action="store_true", help="only write the report anew")
    parser.add_argument("--output", type=Path, help="folder of results, report and pictures")
    options = parser.parse_args(argv)
    quick = {"threads": [1], "rounds": 2, "seconds": 0.02, "output": Path("outputs/benchmarks")}
    full = {"threads": [1, 2], "rounds": 5, "seconds": 0.5, "output": HERE}
    for name, default in (quick if options.quick else full).items():
        if getattr(options, name) is None:
            setattr(options, name, default)
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write the report, and return the exit status."""
    options = arguments(argv)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"The benchmarks need {', '.join(missing)}, which the bench extra installs: "
            'pip install "imbalanced-losses[bench]"',
            file=sys.stderr,
        )
        return 1
    # Only now, so that the sentence above comes before any ImportError.
    from rich.console import Console

    from benchmarks import cases, report, session
    from benchmarks.findings import Findings

    console = Console(width=None if sys.stdout.isatty() else 120)
    chosen = cases.QUICK if options.quick else cases.CASES
    if not options.report:
        session.measure(options, chosen, console)
    path = report.write(options.output, chosen)
    verdicts = Findings(options.output, chosen).verdicts()
    for case, verdict in verdicts:
        if verdict.met is False:
            console.print(f"[red]missed[/] {case.key}: {verdict.goal.wording}, {verdict.value:.3g}")
    console.print(
        f"{sum(verdict.met is True for _, verdict in verdicts)} goals met; tables: {path}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
