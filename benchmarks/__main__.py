"""Measure the losses beside torch's own and their peers: `python -m benchmarks`."""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
NEEDED = ("matplotlib", "sklearn")


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument(
        "--only", default="", help="cases whose name contains this, such as 'AP 1024x10'"
    )
    parser.add_argument("--contenders", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="default: 1")
    parser.add_argument("--seconds", type=float, help="per case and contender (default 2)")
    parser.add_argument("--limit", type=float, default=300, help="seconds until one is given up")
    parser.add_argument("--fresh", action="store_true", help="map new memory for every large array")
    parser.add_argument("--again", action="store_true", help="measure anew what is there")
    parser.add_argument("--report", action="store_true", help="only write the report")
    parser.add_argument("--install-peers", action="store_true", help="only install the peers")
    parser.add_argument("--output", type=Path, help="folder of results, report and pictures")
    options = parser.parse_args(argv)
    if options.output is None:
        options.output = Path("outputs/benchmarks") if options.quick else HERE
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write the report, and return the exit status."""
    options = arguments(argv)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"The benchmarks need {', '.join(missing)}, which the bench extra of this "
            'repository installs: in its clone, pip install ".[bench]"',
            file=sys.stderr,
        )
        return 1
    # Only now, so that the sentence above comes before any ImportError.
    from benchmarks import cases, report
    from benchmarks.contenders import CONTENDERS
    from benchmarks.measure import Effort
    from benchmarks.run import FILE, Plan, Results, run

    if options.install_peers:
        return sum(not contender.install() for contender in CONTENDERS.values())
    names = options.contenders or list(CONTENDERS)
    unknown = sorted(set(names) - set(CONTENDERS))
    if unknown:
        known = ", ".join(repr(name) for name in CONTENDERS)
        print(f"--contenders has {', '.join(unknown)}; there are {known}.", file=sys.stderr)
        return 2
    chosen = cases.QUICK if options.quick else cases.CASES
    effort = Effort(seconds=0.02, least=3, warmups=2) if options.quick else Effort()
    if options.seconds is not None:
        effort = Effort(options.seconds)
    results = Results(options.output / FILE)
    if not options.report:
        plan = Plan(
            [case for case in chosen if options.only.lower() in case.key.lower()],
            names,
            effort,
            options.threads,
            options.fresh,
            options.again,
            options.limit,
        )
        run(plan, results)
    print(f"report: {report.write(options.output, chosen, list(results))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
