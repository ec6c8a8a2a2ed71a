"""The process that measures: one contender and the baseline in one case, asked for in JSON.

Two packages of one import name cannot live in one process, and what one case leaves behind must not
speed up or slow down the next, so every measurement has its own.
"""

import contextlib
import json
import os
import subprocess
import sys
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import accuracy, cases
from benchmarks.contenders import CONTENDERS, OURS, Contender, baseline
from benchmarks.measure import (
    Effort,
    TrainingStep,
    in_turns,
    memory_settings,
    peak_mib,
    quantiles,
)

ROOT = Path(__file__).parents[1]


class MeasurementError(Exception):
    """A contender has no numbers in a case; the message says why."""


def ask(
    case: cases.Case,
    contender: Contender,
    effort: Effort,
    *,
    threads: int = 1,
    fresh: bool = False,
    limit: float = 300,
) -> dict[str, Any]:
    """Measure in a process of its own, and return the figures by their columns' names."""
    request = {
        "key": case.key,
        "contender": contender.name,
        "package": str(contender.folder or ""),
        "effort": asdict(effort),
        "threads": threads,
    }
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        **dict(memory_settings(fresh=fresh)),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.worker", json.dumps(request)],
            capture_output=True,
            text=True,
            errors="replace",
            cwd=ROOT,
            env=environment,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise MeasurementError(f"no answer in {limit:g} s") from None
    if done.returncode:
        last = [line[:200] for line in done.stderr.splitlines() if line.strip()][-1:]
        raise MeasurementError(", ".join([f"its process ended: status {done.returncode}", *last]))
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "error" in answer:
        raise MeasurementError(answer["error"])
    return answer


def figures(case: cases.Case, contender: Contender, effort: Effort, threads: int) -> dict[str, Any]:
    """Measure in this process."""
    batches = list(case.batches())
    makers = (contender.make, baseline)
    steps = [TrainingStep(case, make, batches) for make in makers]
    taking_turns = steps
    if case.mode == "compiled":
        uncompiled = replace(case, mode="eager")
        taking_turns = [*steps, *(TrainingStep(uncompiled, make, batches) for make in makers)]
    mine, its, *eager = in_turns(taking_turns, effort)
    found: dict[str, Any] = {"steps": len(mine.both)}
    for name, times in (("p{}", mine.both), ("baseline_p{}", its.both)):
        for percent, value in zip((20, 50, 80), quantiles(times), strict=True):
            found[name.format(percent)] = value
    for name, loss in zip(("eager_p50", "baseline_eager_p50"), eager, strict=False):
        found[name] = quantiles(loss.both)[1]
    found["forward"], found["backward"] = quantiles(mine.forward)[1], quantiles(mine.backward)[1]
    for name, step in zip(("mib", "baseline_mib"), steps, strict=True):
        step.release()
        found[name] = peak_mib(step, case.device)
    # Errors depend neither on the number of threads nor on a network before the loss.
    if contender.name == OURS and threads == 1 and not case.network:
        found |= accuracy.of(steps[0])._asdict()
    return found


def main() -> None:
    """Answer the request on the command line with a line on standard output."""
    request = json.loads(sys.argv[1])
    warnings.simplefilter("ignore")
    if request["package"]:
        sys.path.insert(0, request["package"])
    torch.set_num_threads(request["threads"])
    # What a package prints must not mix with the answer.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            answer = figures(
                cases.find(request["key"]),
                CONTENDERS[request["contender"]],
                Effort(**request["effort"]),
                request["threads"],
            )
        except Exception as error:
            # Whatever a package raises is a result: a row that says why it has no numbers.
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
