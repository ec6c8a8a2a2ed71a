"""Print how long a training step takes, and how much memory, beside torch and an earlier release.

Every implementation runs in its own process on one thread. They take turns, round after round, so
that a machine that slows down slows all of them.
"""

import argparse
import csv
import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks import cases
from benchmarks.cases import Case

PEER = "imbalanced-losses==0.6.0"
PEER_FOLDER = Path(__file__).parent / "peers" / PEER.replace("==", "-")
INSTALL_PEER = f"pip install --target benchmarks/peers/{PEER_FOLDER.name} --no-deps {PEER}"

Row = dict[str, Any]


class Worker:
    """One implementation in its own process."""

    def __init__(self, implementation: str, package: Path | None = None) -> None:
        self.implementation = implementation
        folder = [f"--package={package}"] if package else []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", implementation, *folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.version: str = self.ask("version")

    def ask(self, what: str, **options: object) -> Any:
        """Send one request and return its answer."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"do": what, **options}) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            raise RuntimeError(
                f"the process of {self.implementation!r} ended; see its error above."
            )
        return json.loads(answer)

    def close(self) -> None:
        """Let the process end."""
        self._process.communicate()


def measure_case(
    workers: list[Worker], where: dict[str, object], case: Case, arguments: argparse.Namespace
) -> list[Row]:
    """Time one case under every implementation, taking turns, and return a row for each."""
    first = {worker: worker.ask("prepare", **where) for worker in workers}
    seconds: dict[Worker, list[float]] = {worker: [] for worker in workers}
    for _ in range(arguments.rounds):
        for worker in workers:
            count = int(arguments.seconds / arguments.rounds / first[worker])
            seconds[worker] += worker.ask(
                "time", count=min(max(count, 1), 100), clock=arguments.clock
            )
    rows = []
    for worker in workers:
        times = torch.tensor(seconds[worker], dtype=torch.float64) * 1e3
        p20, p50, p80 = times.quantile(torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)).tolist()
        rows.append(
            {
                "loss": case.name,
                "shape": "x".join(map(str, case.shape)),
                "queue": "" if case.queue is None else case.queue,
                "implementation": worker.implementation,
                "version": worker.version,
                "p20_ms": p20,
                "p50_ms": p50,
                "p80_ms": p80,
                "extra_mib": worker.ask("memory"),
                "steps": len(times),
                "clock": arguments.clock,
            }
        )
    return rows


def table_row(case: Case, rows: list[Row]) -> list[str]:
    """Format one case: times, ratios of medians, memory, and whether the goals are met."""
    by = {row["implementation"]: row for row in rows}
    ours, reference, peer = by["ours"], by["torch"], by.get("peer")
    of_torch = ours["p50_ms"] / reference["p50_ms"]
    speedup = peer["p50_ms"] / ours["p50_ms"] if peer else None
    goals = []
    if case.peer_goal is not None and speedup is not None:
        goals.append(_goal(speedup >= case.peer_goal, f"peer ≥ {case.peer_goal:g}x"))
    if case.torch_goal is not None:
        goals.append(_goal(of_torch <= case.torch_goal, f"torch ≤ {case.torch_goal:g}x"))
    if case.memory_goal is not None and ours["extra_mib"] is not None:
        within = ours["extra_mib"] <= case.memory_goal
        goals.append(_goal(within, f"memory ≤ {case.memory_goal:g} MiB"))
    return [
        case.name,
        f"{ours['shape']}{f' + {case.queue}' if case.queue else ''}",
        f"{ours['p20_ms']:.2f} / {ours['p50_ms']:.2f} / {ours['p80_ms']:.2f}",
        f"{peer['p50_ms']:.2f}" if peer else "-",
        f"{reference['p50_ms']:.2f}",
        f"{speedup:.1f}x" if speedup is not None else "-",
        f"{of_torch:.2f}x",
        " / ".join(
            "-" if row is None or row["extra_mib"] is None else f"{row['extra_mib']:.0f}"
            for row in (ours, peer, reference)
        ),
        " ".join(goals),
    ]


def _goal(met: bool, wording: str) -> str:
    return f"[green]{wording} met[/]" if met else f"[red]{wording} missed[/]"


def fitted_exponent(rows: list[Row]) -> float:
    """Return the least-squares slope of log time over log rows."""
    sizes = torch.tensor([float(row["shape"].split("x")[0]) for row in rows]).double().log()
    times = torch.tensor([row["p50_ms"] for row in rows]).double().log()
    centred = sizes - sizes.mean()
    return float((centred * times).sum() / (centred * centred).sum())


def write_csv(path: Path, rows: list[Row]) -> None:
    """Write every measurement with the versions, the date and the machine."""
    cpu = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    about = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{os.cpu_count()} cores, {cpu}",
        "threads": 1,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *about])
        writer.writeheader()
        writer.writerows({**row, **about} for row in rows)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Return the settings of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a few tiny cases, to see that it runs"
    )
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each implementation")
    parser.add_argument("--seconds", type=float, default=1.0, help="time per case and process")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--peer", type=Path, default=PEER_FOLDER, help="folder of the peer package")
    parser.add_argument("--output", type=Path, default=Path("outputs/benchmarks.csv"))
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 0.01
    return arguments


def main(argv: list[str] | None = None) -> None:
    """Measure every case, print the tables and write the figures."""
    arguments = parse(argv)
    console = Console(width=None if sys.stdout.isatty() else 160)
    workers = [Worker("ours"), Worker("torch")]
    if arguments.peer.is_dir():
        workers.append(Worker("peer", arguments.peer))
    else:
        console.print(f"The peer {PEER} is absent: its columns stay empty. To install it, run")
        console.print(f"  {INSTALL_PEER}", soft_wrap=True)

    prefix = "QUICK_" if arguments.quick else ""
    jobs = [
        (name, index, case)
        for name in (f"{prefix}CASES", f"{prefix}SCALING")
        for index, case in enumerate(getattr(cases, name))
        if arguments.only.lower() in case.name.lower()
    ]
    table = Table(title="One training step (forward + backward), one thread, times in ms")
    table.add_column("loss")
    for column in (
        "logits + queue",
        "ours p20 / p50 / p80",
        "peer p50",
        "torch p50",
        "faster than peer",
        "of torch",
        "extra MiB ours / peer / torch",
        "goal",
    ):
        table.add_column(column, justify="right")
    scaling: list[Row] = []
    rows: list[Row] = []
    columns = TextColumn("{task.description:<48}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(jobs))
        for name, index, case in jobs:
            progress.update(bar, description=f"{case.name} {case.shape}")
            grows = name.endswith("SCALING")
            # The peer's memory grows with the square of the rows: it would not fit.
            able = [w for w in workers if not (grows and w.implementation == "peer")]
            measured = measure_case(able, {"list": name, "index": index}, case, arguments)
            table.add_row(*table_row(case, measured))
            scaling += measured[:1] if grows else []
            rows += measured
            progress.advance(bar)
    for worker in workers:
        worker.close()
    console.print(table)
    if len(scaling) > 1:
        exponent = fitted_exponent(scaling)
        goal = _goal(exponent <= cases.EXPONENT_GOAL, f"≤ {cases.EXPONENT_GOAL}")
        console.print(f"SmoothAPLoss, one class: time grows as M^{exponent:.2f} {goal}")
    if rows:
        write_csv(arguments.output, rows)
        console.print(f"Every measurement: {arguments.output}")


if __name__ == "__main__":
    main()
