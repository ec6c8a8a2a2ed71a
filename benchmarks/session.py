"""One run: every case on every number of threads, then the ceilings and the trade-off."""

import argparse
import subprocess
import sys
from collections.abc import Sequence

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import ceilings, records, tradeoff
from benchmarks.cases import Case
from benchmarks.findings import CEILINGS, RESULTS
from benchmarks.implementations import IMPLEMENTATIONS
from benchmarks.machine import machine
from benchmarks.processes import ROOT
from benchmarks.results import Results
from benchmarks.runner import Effort, Runner


def measure(options: argparse.Namespace, cases: Sequence[Case], console: Console) -> None:
    """Measure what the options ask for and is not there yet."""
    devices = {"cpu", *(["cuda"] if torch.cuda.is_available() else [])}
    wanted = [
        case
        for case in cases
        if options.only.lower() in case.key.lower() and case.device in devices
    ]
    names = options.implementations or list(IMPLEMENTATIONS)
    unknown = set(names) - set(IMPLEMENTATIONS)
    if unknown:
        raise SystemExit(
            f"--implementations has {', '.join(sorted(unknown))}; "
            f"there are {', '.join(IMPLEMENTATIONS)}."
        )
    results = Results(options.output / RESULTS)
    effort = Effort(options.rounds, options.seconds, options.limit)
    columns = (TextColumn("{task.description:<56}"), BarColumn(), MofNCompleteColumn())
    skipped = 0
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(wanted) * len(options.threads) + 2)
        for threads in options.threads:
            with Runner(results, names, threads, effort) as runner:
                for case in wanted:
                    progress.update(bar, description=f"{case.key}, threads: {threads}")
                    skipped += not runner.run(case, fresh=options.fresh)
                    progress.advance(bar)
        progress.update(bar, description="ceilings of this machine")
        _ceilings(options, sorted({case.device for case in wanted}))
        progress.update(bar, advance=1, description="trade-off of the engine")
        _tradeoff(options)
    if skipped:
        console.print(f"{skipped} cases were measured before; --fresh measures them again.")


def _ceilings(options: argparse.Namespace, devices: Sequence[str]) -> None:
    path = options.output / CEILINGS
    known = {} if options.fresh else ceilings.read(path)
    here = {device: machine(device) for device in devices}
    # What another machine did at best says nothing of this one.
    kept = [
        it
        for device, at_best in known.items()
        for it in at_best.measured
        if it.machine == here.get(device, it.machine)
    ]
    devices = sorted(set(devices) - {it.device for it in kept})
    seconds, largest = (0.01, 2**20) if options.quick else (0.3, 2**27)
    found = [it for name in devices for it in ceilings.measure(seconds, name, largest=largest)]
    records.write(path, [*kept, *found])


def _tradeoff(options: argparse.Namespace) -> None:
    if (options.output / tradeoff.FILE).exists() and not options.fresh:
        return
    quick = ["--quick"] if options.quick else []
    output = f"--output={options.output.resolve()}"
    command = [sys.executable, "-m", "benchmarks.tradeoff", output, *quick]
    subprocess.run(command, cwd=ROOT, check=True)
