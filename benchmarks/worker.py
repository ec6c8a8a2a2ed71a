"""A process that holds one implementation and does what it is asked, a JSON line a request.

Two packages of one import name cannot live in one process, so each implementation has its own.
"""

import argparse
import json
import os
import sys
import time
import warnings
from typing import Any

import torch

from benchmarks import accuracy, cases, measure
from benchmarks.implementations import IMPLEMENTATIONS, Implementation
from benchmarks.steps import TrainingStep


class Worker:
    """The present case under one implementation."""

    def __init__(self, implementation: Implementation) -> None:
        self.implementation = implementation
        self.step: TrainingStep | None = None

    def answer(self, request: dict[str, Any]) -> Any:
        """Do one request; each is a method that takes the request's other fields."""
        return getattr(self, request.pop("do"))(**request)

    def version(self) -> str:
        """The version of the implementation."""
        return self.implementation.version()

    def prepare(self, key: str) -> float:
        """Make the loss of a case, warm it up, and return the seconds of one step."""
        self.step = None
        case = cases.find(key)
        self.step = TrainingStep(case, self.implementation.make)
        seconds = self._seconds()
        # The first step also warms up or compiles; of a slow one it tells enough.
        return self._seconds() if seconds < 1 or case.mode == "compiled" else seconds

    def times(self, count: int) -> measure.Times:
        """Milliseconds of forward, backward and both."""
        return measure.times(self._prepared(), count)

    def memory(self) -> float | None:
        """Peak extra MiB of a step."""
        return measure.memory(self._prepared())

    def launches(self) -> measure.Launches:
        """Operators and synchronisations of a step."""
        return measure.launches(self._prepared())

    def accuracy(self) -> accuracy.Accuracy:
        """Errors of value and gradient against float64."""
        return accuracy.of(self._prepared())

    def _seconds(self) -> float:
        step = self._prepared()
        start = time.perf_counter()
        step()
        if step.case.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def _prepared(self) -> TrainingStep:
        if self.step is None:
            raise RuntimeError("no case is prepared.")
        return self.step


def main() -> None:
    """Answer requests from standard input until it closes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("implementation", choices=list(IMPLEMENTATIONS))
    parser.add_argument("--package", help="folder that holds the package to import")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    # What a package prints must not mix with the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    warnings.simplefilter("ignore")
    if arguments.package:
        sys.path.insert(0, arguments.package)
    torch.set_num_threads(arguments.threads)
    worker = Worker(IMPLEMENTATIONS[arguments.implementation])
    for line in sys.stdin:
        try:
            answer = {"answer": worker.answer(json.loads(line))}
        except Exception as error:
            # Whatever a package raises is a result: a row that says why it has no numbers.
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
