"""A process that holds one implementation and measures what it is asked to, a JSON line a request.

Two packages of one import name cannot live in one process, so each implementation has its own.
"""

import argparse
import ctypes
import importlib.metadata
import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import cases

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def measure(step: Callable[[], None], count: int, clock: Callable[[], float]) -> list[float]:
    """Return the seconds of each of `count` steps."""
    seconds = []
    for _ in range(count):
        start = clock()
        step()
        seconds.append(clock() - start)
    return seconds


def extra_memory(step: Callable[[], None]) -> float | None:
    """Return the MiB by which one step raises the resident memory, None where Linux does not tell.

    Free memory is given back first, else a step could live in what an earlier one left behind.
    """
    peak_reset = Path("/proc/self/clear_refs")
    try:
        ctypes.CDLL(None).malloc_trim(0)
        peak_reset.write_text("5")
        before = _status_mib("VmRSS")
        step()
        return _status_mib("VmHWM") - before
    except (OSError, AttributeError):
        return None


def _status_mib(key: str) -> float:
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise OSError(f"/proc/self/status has no {key}")
    return int(found[1]) / 1024


def _version(implementation: str) -> str:
    if implementation == "torch":
        return torch.__version__
    return importlib.metadata.version("imbalanced-losses")


def main() -> None:
    """Answer requests from standard input until it closes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("implementation", choices=["ours", "peer", "torch"])
    parser.add_argument("--package", help="folder that holds the package to import")
    arguments = parser.parse_args()
    if arguments.package:
        sys.path.insert(0, arguments.package)
    torch.set_num_threads(1)

    step: Callable[[], None] = lambda: None  # noqa: E731
    for line in sys.stdin:
        request = json.loads(line)
        answer: Any
        if request["do"] == "version":
            answer = _version(arguments.implementation)
        elif request["do"] == "prepare":
            case = getattr(cases, request["list"])[request["index"]]
            step = cases.training_step(case, arguments.implementation)
            answer = min(measure(step, 2, time.perf_counter))
        elif request["do"] == "time":
            answer = measure(step, request["count"], CLOCKS[request["clock"]])
        else:
            answer = extra_memory(step)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
