"""What other models need to be judged as the study's arms are: the same folds, choices and rows."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.evidence import goals
from benchmarks.evidence.chunks import merged
from benchmarks.evidence.sets import Floats, Fold, Task, folds, in_order, standardised, tasks

# Fits a task's fold: candidates' logits `[K, rows, C]` of the rows that are judged, and the
# learning rate of each candidate.
Fit = Callable[[Task, Floats, Fold], tuple[Floats, Sequence[float]]]


def judge(task: Task, part: Fold, logits: Floats, rates: Sequence[float]) -> dict[str, float]:
    """Each goal on test rows, by the candidate that validation rows choose for it.

    Args:
        task: The set.
        part: Its fold.
        logits: `[K, rows, C]` of K candidates: first the validation rows, then the test rows.
        rates: Learning rate of each candidate.
    """
    y = torch.as_tensor(task.y)
    scores = torch.as_tensor(logits, dtype=torch.float32).movedim(0, 1).unsqueeze(1)
    counts = np.bincount(task.y[part.fit], minlength=task.classes)
    prior = torch.as_tensor(counts, dtype=torch.float32).clamp(min=1)
    split = len(part.validation)
    chosen = goals.choices(scores[:split], y[part.validation], prior / prior.sum())
    found = goals.results(scores[split:], y[part.test], prior / prior.sum(), chosen)
    rate = rates[int(chosen["average_precision"][0][0])]
    return {"lr": rate} | {name: float(value[0]) for name, value in found.items()}


def rows_of(task: Task, model: str, arm: str, fit: Fit, repeat: int = 0) -> pd.DataFrame:
    """The rows of a model on all folds of one repeat."""
    found: list[dict[str, Any]] = []
    for number, part in enumerate(folds(task, repeat)):
        logits, rates = fit(task, standardised(task.X, part.fit), part)
        place = {"model": model, "arm": arm, "repeat": repeat, "fold": number}
        found.append(task.facts | place | judge(task, part, logits, rates))
    return pd.DataFrame(found)


def in_turn(
    options: Any, chunks: Path, work: Callable[[Task], pd.DataFrame], wanted: Callable[[Task], bool]
) -> Iterator[Task]:
    """Do the work of each task that has no file yet, cheap tasks first, until the time is over."""
    end = time.monotonic() + 60 * options.minutes
    found = [task for task in in_order(tasks(options.keel, options.data)) if wanted(task)]
    for task in found:
        path = chunks / f"{task.name}.csv"
        if options.only not in task.name or path.exists():
            continue
        if time.monotonic() > end:
            return
        start = time.monotonic()
        rows = work(task)
        chunks.mkdir(parents=True, exist_ok=True)
        rows.to_csv(path, index=False, float_format="%.5g")
        print(f"{chunks.name} {task.name}: {time.monotonic() - start:.0f} s", flush=True)
        yield task


def merge(chunks: Path, path: Path) -> None:
    """Write the rows of all chunks as one file."""
    rows = merged(chunks)
    if len(rows):
        path.parent.mkdir(parents=True, exist_ok=True)
        rows.to_csv(path, index=False, float_format="%.5g")
        print(f"{len(rows)} rows: {path}")
