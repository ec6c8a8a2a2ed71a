"""One run: every case and contender in turn, and the results file that lets it go on."""

import csv
import datetime
import functools
import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

import imbalanced_losses
from benchmarks import worker
from benchmarks.cases import CASES, QUICK, Case
from benchmarks.contenders import CONTENDERS, OURS, offering
from benchmarks.measure import Effort

FILE = "results.csv"
# Files and folders of our package that a loss is made of.
ROOMS = ("_checks", "_ops", "_pool", "_warn", "distributed", "losses")


@dataclass(frozen=True)
class Row:
    """One contender in one case; times in ms, memory in MiB, None where there is no number.

    `p20`, `p50` and `p80` are of a forward and backward pass, `forward` and `backward` medians of
    its parts; `baseline_...` is torch's own loss and `..._eager_p50` either loss uncompiled, where
    it is compiled, all measured in the same process in turns. `source` is a digest of our
    losses' code, "" for a peer; `load` the machine's load before, in busy cores.
    """

    case: str
    contender: str
    threads: int
    memory: str
    version: str
    source: str
    torch: str
    python: str
    machine: str
    date: str = ""
    load: float | None = None
    steps: int | None = None
    p20: float | None = None
    p50: float | None = None
    p80: float | None = None
    forward: float | None = None
    backward: float | None = None
    baseline_p20: float | None = None
    baseline_p50: float | None = None
    baseline_p80: float | None = None
    eager_p50: float | None = None
    baseline_eager_p50: float | None = None
    mib: float | None = None
    baseline_mib: float | None = None
    value_error: float | None = None
    gradient_error: float | None = None
    plain_gradient_error: float | None = None
    reference: str = ""
    error: str = ""

    @property
    def place(self) -> tuple[str, str, int, str]:
        """What a newer row takes the place of."""
        return self.case, self.contender, self.threads, self.memory

    @property
    def identity(self) -> tuple[object, ...]:
        """What a later run compares, to tell whether this was measured already."""
        return (*self.place, self.version, self.source, self.torch, self.python, self.machine)

    @property
    def ratio(self) -> float | None:
        """Median over the baseline's median."""
        return self.p50 / self.baseline_p50 if self.p50 and self.baseline_p50 else None

    @property
    def added(self) -> float:
        """Median less the baseline's median, of a row with numbers."""
        return (self.p50 or 0.0) - (self.baseline_p50 or 0.0)


class Results:
    """The latest row of every case, contender, number of threads and kind of memory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # A case that was renamed or dropped takes its rows along.
        known = {case.key for case in (*CASES, *QUICK)}
        self._rows = {row.place: row for row in _read(path) if row.case in known}

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def has(self, row: Row) -> bool:
        """Whether the row's measurement is there, by the same code on the same machine."""
        known = self._rows.get(row.place)
        return known is not None and known.identity == row.identity

    def put(self, row: Row) -> None:
        """Keep a row, on disk too, so that an interrupted run goes on after it."""
        self._rows[row.place] = row
        self._path.parent.mkdir(parents=True, exist_ok=True)
        half = self._path.with_suffix(".half")
        with half.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Row)])
            writer.writeheader()
            for kept in self:
                writer.writerow({name: _text(value) for name, value in asdict(kept).items()})
        os.replace(half, self._path)


def _read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    kinds = {field.name: field.type for field in fields(Row)}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames is None or set(reader.fieldnames) != set(kinds):
            raise ValueError(
                f"{path} has other columns than this version writes; move it away or "
                "choose another folder with --output."
            )
        return [
            Row(**{name: _value(kinds[name], text) for name, text in line.items()})
            for line in reader
        ]


def _text(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value


def _value(kind: Any, text: str) -> Any:
    if kind is str:
        return text
    if not text:
        return None
    return int(text) if kind in (int, int | None) else float(text)


@dataclass(frozen=True)
class Plan:
    """What a run measures.

    Attributes:
        cases: In this order.
        contenders: Names of those that take part, each in the cases it offers.
        effort: How long each is measured.
        threads: Each number of threads is measured alone.
        fresh: Whether every large array gets new memory.
        again: Whether what is there is measured anew.
        limit: Seconds after which a contender is given up in a case.
    """

    cases: Sequence[Case]
    contenders: Sequence[str]
    effort: Effort
    threads: Sequence[int] = (1,)
    fresh: bool = False
    again: bool = False
    limit: float = 300


def run(plan: Plan, results: Results) -> None:
    """Measure what the plan asks for and is not there yet; say each row in a line."""
    absent = [name for name in plan.contenders if not CONTENDERS[name].is_installed]
    if absent:
        print(f"not installed: {', '.join(absent)} (python -m benchmarks --install-peers)")
    present = [name for name in plan.contenders if name not in absent]
    devices = {"cpu", *(["cuda"] if torch.cuda.is_available() else [])}
    work = [
        (case, name, threads)
        for case in plan.cases
        if case.device in devices
        for name in offering(case, present)
        for threads in plan.threads
    ]
    before = 0
    for position, (case, name, threads) in enumerate(work, 1):
        row = _empty_row(case, name, threads, fresh=plan.fresh)
        if results.has(row) and not plan.again:
            before += 1
            continue
        row = _measured(row, case, plan)
        results.put(row)
        print(f"[{position}/{len(work)}] {describe(row)}", flush=True)
    if before:
        print(f"{before} of {len(work)} were measured before; --again measures them anew.")


def _measured(row: Row, case: Case, plan: Plan) -> Row:
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    row = replace(row, date=now, load=_load())
    try:
        figures = worker.ask(
            case,
            CONTENDERS[row.contender],
            plan.effort,
            threads=row.threads,
            fresh=plan.fresh,
            limit=plan.limit,
        )
    except worker.MeasurementError as reason:
        return replace(row, error=str(reason))
    return replace(row, **figures)


def describe(row: Row) -> str:
    """A row in one line."""
    where = f"{row.case}, {row.contender}, {row.threads} thread(s), {row.memory} memory"
    if row.error:
        return f"{where}: {row.error}"
    return f"{where}: {row.p50:.3g} ms, torch's own {row.baseline_p50:.3g} ms, {row.ratio:.3g}x"


def _empty_row(case: Case, name: str, threads: int, *, fresh: bool) -> Row:
    contender = CONTENDERS[name]
    ours = name == OURS
    return Row(
        case=case.key,
        contender=name,
        threads=threads,
        memory="fresh" if fresh else "warm",
        version=importlib.metadata.version("imbalanced-losses") if ours else contender.version,
        source=source_digest() if ours else "",
        torch=torch.__version__,
        python=platform.python_version(),
        machine=machine(case.device),
    )


@functools.cache
def source_digest() -> str:
    """A digest of our losses' code, so that changed code is measured again."""
    root = Path(str(imbalanced_losses.__file__)).parent
    digest = hashlib.sha256()
    for room in ROOMS:
        for path in sorted([*root.glob(f"{room}.py"), *root.glob(f"{room}/**/*.py")]):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


@functools.cache
def machine(device: str = "cpu") -> str:
    """Processor, cores, vector instructions and memory; with an accelerator, its name too."""
    vectors = torch.backends.cpu.get_cpu_capability()
    parts = [_processor(), f"{os.cpu_count()} cores", vectors, *_memory()]
    if device == "cuda":
        parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory() -> list[str]:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return []
    return [f"{size / 2**30:.0f} GiB"]


def _load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
