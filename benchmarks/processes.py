"""The worker processes, seen from the one that asks them."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from benchmarks.peers import PEERS

ROOT = Path(__file__).parents[1]


class MeasurementError(Exception):
    """An implementation has no numbers in this case; the message says why."""


class Process:
    """One implementation on a number of threads, started at the first request and after a crash.

    Args:
        implementation: Its name.
        threads: Threads that it may use.
        limit: Seconds after which an answer is given up and the process ended.
    """

    def __init__(self, implementation: str, threads: int, limit: float) -> None:
        self.implementation = implementation
        self.threads = threads
        self.limit = limit
        self._running: _Running | None = None

    def ask(self, what: str, **options: object) -> Any:
        """Send one request and wait for its answer."""
        self.send(what, **options)
        return self.receive()

    def send(self, what: str, **options: object) -> None:
        """Send one request; whoever sends one receives its answer."""
        if self._running is None:
            self._running = self._start()
        self._running.write(json.dumps({"do": what, **options}) + "\n")

    def receive(self) -> Any:
        """The answer to the request before."""
        assert self._running is not None
        try:
            line = self._running.answers.get(timeout=self.limit)
        except queue.Empty:
            self.close(kill=True)
            raise MeasurementError(f"no answer in {self.limit:g} s") from None
        if not line:
            raise MeasurementError(f"its process ended: {self.close()}")
        answer = json.loads(line)
        if "error" in answer:
            raise MeasurementError(answer["error"])
        return answer["answer"]

    def close(self, *, kill: bool = False) -> str:
        """Let the process end, or end it; returns its last words."""
        if self._running is None:
            return ""
        words = self._running.close(kill=kill)
        self._running = None
        return words

    def _start(self) -> "_Running":
        peer = PEERS.get(self.implementation)
        if peer and not peer.folder.is_dir():
            raise MeasurementError("not installed: python -m benchmarks.install_peers")
        package = [f"--package={peer.folder}"] if peer else []
        options = [self.implementation, f"--threads={self.threads}", *package]
        return _Running(options, {**os.environ, "OMP_NUM_THREADS": str(self.threads)})


class _Running:
    """A process that was started, and the thread that listens to it."""

    def __init__(self, options: list[str], environment: dict[str, str]) -> None:
        self.answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._complaints = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def write(self, line: str) -> None:
        assert self._process.stdin is not None
        # Of a process that ended, that it did will be the answer.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def close(self, *, kill: bool) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if kill:
            self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        status = self._process.wait()
        self._reader.join()
        self._process.stdout.close()
        with self._complaints as complaints:
            complaints.seek(0)
            lines = [line for line in complaints.read().splitlines() if line.strip()]
        return ", ".join([f"status {status}", *(line[:200] for line in lines[-1:])])

    def _listen(self) -> None:
        """Pass on line after line, and an empty one at the end."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.answers.put(line)
        self.answers.put("")
