"""Fit what is asked for, in chunks of one set, one model and one repeat."""

import itertools
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks.evidence import goals
from benchmarks.evidence.arms import Arm, Recipe, arms_of
from benchmarks.evidence.chunks import merged, restore
from benchmarks.evidence.gradients import Gradients
from benchmarks.evidence.sets import Fold, Task, folds, in_order, standardised, tasks
from benchmarks.evidence.stack import Shape, Stack, batches

FILE = "results.csv"
LARGE_SET = 10_000
# Here cross-entropy of a network with hidden units is far from its end when it is elsewhere: with
# 32 units AP went from .40 over .57 to .76 with two and four times the steps (linear: no gain).
SLOW, SLOW_FACTOR = ("shuttle", "shuttle_rare"), 4


@dataclass(frozen=True)
class Model:
    """Hidden layers, the learning rates that every arm chooses from, and training steps.

    Steps are for sets of fewer than `LARGE_SET` rows and for larger ones. Cross-entropy with twice
    as many was tried on sets of either kind: its average precision rose by at most .007, and fell
    as often, except for four units (.01 on vowel0) and on the sets in `SLOW`.
    """

    hidden: tuple[int, ...]
    rates: tuple[float, ...]
    steps: tuple[int, int]


MODELS = {
    "linear": Model((), (0.01, 0.03, 0.1), (400, 600)),
    "mlp32": Model((32,), (0.003, 0.01, 0.03), (300, 600)),
    "mlp4": Model((4,), (0.003, 0.01, 0.03), (500, 600)),
    "mlp128": Model((128, 128), (0.0005, 0.002, 0.008), (250, 400)),
}
# Shares of the training after which the networks are looked at.
CHECKPOINTS = (0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Chunk:
    """The unit that is done or not: all folds and arms of a set and a model in one repeat."""

    task: str
    model: str
    repeat: int

    def path(self, folder: Path) -> Path:
        """Where its rows lie."""
        return folder / f"{self.task}.{self.model}.{self.repeat}.csv"


@dataclass(frozen=True)
class Plan:
    """What a run fits.

    Attributes:
        keel: Folder of KEEL's files, or None for the installed package.
        data: Folder of the other sets, or None to leave them out.
        folder: Where chunks are kept, so that a killed run goes on.
        results: The file of all rows; those of an earlier run are not fitted again.
        models: Names in `MODELS`.
        repeats: Of the folds, for sets of at most `small` rows; larger ones have one.
        k: Folds.
        only: Sets whose name contains this.
        arms: Names of those to train; none for all.
        processes: At a time.
        minutes: After which no new chunk begins.
    """

    keel: Path | None
    data: Path | None
    folder: Path
    results: Path
    models: Sequence[str] = tuple(MODELS)
    repeats: int = 1
    k: int = 5
    small: int = 3000
    only: str = ""
    arms: Sequence[str] = ()
    processes: int = 0
    minutes: float = float("inf")


def steps_of(task: Task, model: Model) -> int:
    """Training steps of every arm."""
    is_slow = bool(model.hidden) and task.name in SLOW
    return model.steps[task.rows >= LARGE_SET] * (SLOW_FACTOR if is_slow else 1)


def run(plan: Plan) -> pd.DataFrame:
    """Fit the chunks that are not there yet, and return all rows."""
    found = {task.name: task for task in tasks(plan.keel, plan.data) if plan.only in task.name}
    restore(plan.results, plan.folder, ("set", "model", "repeat"))
    work = list(ordered(list(found.values()), plan))
    start = time.monotonic()
    calls = (
        joblib.delayed(_fit_if_wanted)(found[chunk.task], chunk, plan, start + 60 * plan.minutes)
        for chunk in work
        if _wanted(found[chunk.task], chunk, plan)
    )
    parallel = joblib.Parallel(
        n_jobs=plan.processes or joblib.cpu_count(only_physical_cores=True),
        return_as="generator_unordered",
        pre_dispatch="n_jobs",
        batch_size=1,
    )
    for done, (chunk, seconds) in enumerate(parallel(calls), 1):
        if seconds:
            passed = (time.monotonic() - start) / 60
            print(
                f"[{done}] {chunk.path(Path()).stem}: {seconds:.0f} s ({passed:.0f} min)",
                flush=True,
            )
    return merged(plan.folder)


def ordered(found: Sequence[Task], plan: Plan) -> Iterator[Chunk]:
    """Chunks so that an early stop leaves whole comparisons.

    Model by model the counted tasks, binary ones first; then their further repeats; then the tasks
    that do not count.
    """
    counted = [task for task in in_order(found) if task.counts]
    others = [task for task in in_order(found) if not task.counts]
    for repeat, group in [*((r, counted) for r in range(plan.repeats)), (0, others)]:
        for model, task in itertools.product(plan.models, group):
            if repeat == 0 or task.rows <= plan.small:
                yield Chunk(task.name, model, repeat)


def _wanted(task: Task, chunk: Chunk, plan: Plan) -> dict[str, Arm]:
    """The arms that a chunk lacks."""
    path = chunk.path(plan.folder)
    there = set(pd.read_csv(path, usecols=["arm"])["arm"]) if path.exists() else set()
    return {
        name: arm
        for name, arm in arms_of(task.kind, chunk.model).items()
        if name not in there and (not plan.arms or name in plan.arms)
    }


def _fit_if_wanted(task: Task, chunk: Chunk, plan: Plan, end: float) -> tuple[Chunk, float]:
    """Fit a chunk's missing arms and keep their rows; the seconds it took, 0 when time is over."""
    if time.monotonic() > end:
        return chunk, 0.0
    torch.set_num_threads(1)
    start = time.monotonic()
    arms = _wanted(task, chunk, plan)
    rows = fit(task, chunk, arms, plan.k, steps_of(task, MODELS[chunk.model]))
    path = chunk.path(plan.folder)
    if path.exists():
        # Another run may have fitted the same meanwhile.
        rows = pd.concat([pd.read_csv(path), rows]).drop_duplicates(["arm", "fold"])
    half = path.with_suffix(".half")
    rows.to_csv(half, index=False, float_format="%.5g")
    os.replace(half, path)
    return chunk, time.monotonic() - start


def fit(task: Task, chunk: Chunk, arms: dict[str, Arm], k: int, steps: int) -> pd.DataFrame:
    """Train all networks of a chunk, choose by validation rows, and judge on test rows."""
    model = MODELS[chunk.model]
    parts = folds(task, chunk.repeat, k)
    scores = _train(task, model, parts, chunk.repeat, arms, steps)
    rows = []
    for number, part in enumerate(parts):
        y = torch.as_tensor(task.y)
        prior = _counts(task, parts)[number]
        prior = prior / prior.sum()
        split = len(part.validation)
        by_arm = torch.stack([scores[name][number] for name in arms], 1)  # [N, S, L * K, C]
        chosen = goals.choices(by_arm[:split], y[part.validation], prior)
        judged = goals.results(by_arm[split:], y[part.test], prior, chosen)
        checkpoints = len(CHECKPOINTS)
        for place, name in enumerate(arms):
            best = int(chosen["average_precision"][0][place])
            rows.append(
                {
                    **task.facts,
                    "model": chunk.model,
                    "arm": name,
                    "repeat": chunk.repeat,
                    "fold": number,
                    "lr": model.rates[best // checkpoints],
                    **{goal: float(value[place]) for goal, value in judged.items()},
                }
            )
    return pd.DataFrame(rows)


def _counts(task: Task, parts: Sequence[Fold]) -> Tensor:
    """Fitted rows of each class `[F, classes]`, at least 1."""
    counts = [np.bincount(task.y[part.fit], minlength=task.classes) for part in parts]
    return torch.as_tensor(np.array(counts), dtype=torch.float32).clamp(min=1)


def _train(
    task: Task,
    model: Model,
    parts: Sequence[Fold],
    repeat: int,
    arms: dict[str, Arm],
    steps: int,
) -> dict[str, list[Tensor]]:
    """For each arm and fold the scores `[N, L * K, C]` of validation rows, then of test rows."""
    tables = [torch.as_tensor(standardised(task.X, part.fit)) for part in parts]
    judged = [np.concatenate([part.validation, part.test]) for part in parts]
    y, counts = torch.as_tensor(task.y), _counts(task, parts)
    recipes = list(dict.fromkeys(recipe for arm in arms.values() for recipe in arm.recipes))
    averaged = {recipe for arm in arms.values() if arm.averaged for recipe in arm.recipes}
    # Scores of each recipe, with averaged weights or not: by fold, then by checkpoint.
    kept: dict[tuple[Recipe, bool], list[list[Tensor]]] = {
        (recipe, last): [[] for _ in parts]
        for recipe in recipes
        for last in ((False, True) if recipe in averaged else (False,))
    }
    marks = {max(1, round(share * steps)) for share in CHECKPOINTS}
    for group in dict.fromkeys(recipe.group for recipe in recipes):
        members = [recipe for recipe in recipes if recipe.group == group]
        batch, stratified, dropout = group
        size = min(batch, *(len(part.fit) for part in parts))
        streams = [
            batches(part.fit, y, size, 1000 * repeat + fold, stratified=stratified)
            for fold, part in enumerate(parts)
        ]
        shape = Shape(
            tables[0].shape[1], model.hidden, 1 if task.kind == "binary" else task.classes
        )
        stack = Stack(
            shape,
            model.rates,
            _biases(members, counts, shape.outputs),
            [recipe.seed for recipe in members],
            steps,
            repeat,
        )
        gradients = Gradients(members, counts, steps)
        reads_averages = any(recipe in averaged for recipe in members)
        torch.manual_seed(repeat)  # of dropout
        for step in range(steps):
            rows = [next(stream) for stream in streams]
            x = torch.stack([of_fold[row] for of_fold, row in zip(tables, rows, strict=True)])
            outputs = stack.forward(x, dropout=dropout)
            stack.step(outputs, gradients(outputs, torch.stack([y[row] for row in rows]), step))
            if step + 1 not in marks:
                continue
            for last in (False, True) if reads_averages else (False,):
                for fold in range(len(parts)):
                    found = stack.predict(
                        tables[fold][judged[fold]], fold, averaged=last
                    ).nan_to_num()
                    for place, recipe in enumerate(members):
                        if (recipe, last) in kept:
                            kept[recipe, last][fold].append(found[:, place].clone())
    return {
        name: [
            goals.mean_prediction(
                torch.stack([torch.stack(kept[r, arm.averaged][f], 1) for r in arm.recipes])
            )
            .flatten(0, 1)
            .movedim(1, 0)
            if len(arm.recipes) > 1
            else torch.stack(kept[arm.recipes[0], arm.averaged][f], 1).flatten(0, 1).movedim(1, 0)
            for f in range(len(parts))
        ]
        for name, arm in arms.items()
    }


def _biases(recipes: Sequence[Recipe], counts: Tensor, outputs: int) -> Tensor:
    """The output layer's bias before training, `[F, A, outputs]`; NaN for torch's own."""
    prior = (counts / counts.sum(1, keepdim=True)).log()
    prior = prior[:, 1:] - prior[:, :1] if outputs == 1 else prior
    wanted = torch.tensor([recipe.prior_bias for recipe in recipes])
    return torch.where(wanted[:, None], prior[:, None], torch.nan)
