"""One trial: one recipe, or gradient boosting, on one fold. The same call gives the same result."""

import hashlib
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbalanced_losses._goals import Judge
from imbalanced_losses._training.fit import FitSettings, fit
from imbalanced_losses._training.loop import Validation, rank_of, shift_of
from imbalanced_losses._training.rows import Scaler
from imbalanced_losses.compare._boosting import TREES, boost
from imbalanced_losses.compare._features import ToNumbers
from imbalanced_losses.compare._folds import Fold, Rows
from imbalanced_losses.compare._model import Factory
from imbalanced_losses.compare._result import BOOSTING, Floats
from imbalanced_losses.compare._table import Table
from imbalanced_losses.recipes import GOALS, RECIPES, Goal, Problem, Recipe
from imbalanced_losses.recipes._advice import DECIDED


@dataclass(frozen=True)
class Plan:
    """What all trials of a comparison share.

    Attributes:
        goal: What is compared, and what ends a training.
        budget: Of the goal.
        settings: Of the trainings; the seed is that of the comparison.
        model: Makes the network; None: the one of the settings.
        ready: Whether the features are numbers of the right scale already.
        key: Of the data, the folds, all of this and the code.
        keeps: Repeats of which the logits are kept.
        trees: Of gradient boosting, for each of its settings.
    """

    goal: Goal
    budget: float | None
    settings: FitSettings
    model: Factory | None = None
    ready: bool = False
    key: str = ""
    keeps: int = 1
    trees: int = TREES


class Job(NamedTuple):
    """What one trial trains; no recipe: gradient boosting."""

    recipe: Recipe | None
    fold: Fold

    @property
    def name(self) -> str:
        """Of its row."""
        return BOOSTING if self.recipe is None else self.recipe.name

    @property
    def place(self) -> tuple[str, int, int]:
        """Row, repeat and number of the fold."""
        return self.name, self.fold.repeat, self.fold.number

    def key(self, plan: Plan) -> str:
        """Tells this trial from all that would have another result."""
        told = repr((plan.key, self.recipe, *self.place))
        return hashlib.sha256(told.encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Trial:
    """What came out on the fold's test rows.

    Attributes:
        values: Every goal; NaN where it is undefined or the trial failed.
        per_class: The goal for each output.
        seconds: Of training.
        learning_rate: That was chosen; NaN for gradient boosting.
        error: Why it failed; empty where it did not.
        notes: Warnings on the way.
        logits: Of the test rows `[n, outputs]`, as the model gives them; None where not kept.
        validation_logits: Of the validation rows.
    """

    values: dict[Goal, float]
    per_class: tuple[float, ...]
    seconds: float
    learning_rate: float = math.nan
    error: str = ""
    notes: tuple[str, ...] = ()
    logits: Floats | None = field(default=None, repr=False)
    validation_logits: Floats | None = field(default=None, repr=False)


class Prepared(NamedTuple):
    """Features and targets of one fold."""

    x: Tensor
    y: Tensor
    x_val: Tensor
    y_val: Tensor
    x_test: Tensor
    y_test: Tensor
    problem: Problem


# Of the fold that was trained on last: the next trial is most often of the same.
_last: dict[tuple[str, int, int], Prepared] = {}


def forget() -> None:
    """Let go of the rows of the last fold."""
    _last.clear()


def run_trial(table: Table, job: Job, plan: Plan) -> Trial:
    """Train and judge. A ValueError of the training becomes the trial's error."""
    with _one_thread(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        started = time.perf_counter()
        try:
            rows = _prepared(table, job.fold, plan)
            started = time.perf_counter()
            trial = _train(table, rows, job, plan)
        except ValueError as error:
            values = dict.fromkeys(GOALS, math.nan)
            trial = Trial(values, (math.nan,) * table.problem.outputs, 0.0, error=str(error))
        seconds = time.perf_counter() - started
    told = dict.fromkeys(
        str(one.message) for one in caught if issubclass(one.category, UserWarning)
    )
    kept = job.fold.repeat < plan.keeps
    return replace(
        trial,
        seconds=seconds,
        notes=tuple(told),
        logits=trial.logits if kept else None,
        validation_logits=trial.validation_logits if kept else None,
    )


def as_targets(targets: NDArray[Any], kind: str) -> Tensor:
    """Targets of a `Table` as losses and goals take them."""
    if kind == "multiclass":
        return torch.from_numpy(targets.astype(np.int64))
    marks = torch.from_numpy(targets.astype(np.float32))
    return marks.unsqueeze(1) if kind == "binary" else marks


def _prepared(table: Table, fold: Fold, plan: Plan) -> Prepared:
    key = (plan.key, fold.repeat, fold.number)
    if key not in _last:
        _last.clear()
        parts = _numbers(table, fold, plan)
        y = as_targets(table.targets, table.kind)
        _last[key] = Prepared(
            parts[0],
            y[fold.train],
            parts[1],
            y[fold.validation],
            parts[2],
            y[fold.test],
            problem_of(table, fold.train),
        )
    return _last[key]


def problem_of(table: Table, rows: Rows) -> Problem:
    """Of some rows of the table."""
    return replace(table, **_taken(table, rows)).problem


def _taken(table: Table, rows: Rows) -> dict[str, Any]:
    return {
        "features": np.empty((len(rows), 0)),
        "targets": table.targets[rows],
        "groups": table.groups[rows],
    }


def _numbers(table: Table, fold: Fold, plan: Plan) -> list[Tensor]:
    """Features of the three parts, by what the training rows show."""
    chosen = fold.train, fold.validation, fold.test
    if plan.ready:
        return [torch.from_numpy(np.asarray(table.features)[rows]) for rows in chosen]
    features = table.features
    raw = [
        features[rows] if isinstance(features, np.ndarray) else features.iloc[rows]
        for rows in chosen
    ]
    to_numbers = ToNumbers(plan.settings.seed)
    numbers = [to_numbers.fit_transform(raw[0]), *(to_numbers.transform(part) for part in raw[1:])]
    scaler = Scaler.of(numbers[0].astype(np.float64))
    return [
        torch.from_numpy(scaler(part.astype(np.float64)).astype(np.float32)) for part in numbers
    ]


def _train(table: Table, rows: Prepared, job: Job, plan: Plan) -> Trial:
    judge = Judge(plan.goal, rows.problem, plan.budget)
    seed = int(np.random.SeedSequence((plan.settings.seed, *job.fold[:2])).generate_state(1)[0])
    rate = math.nan
    if job.recipe is None:
        logits, validation_logits, decided = _boosted(rows, judge, plan.trees, seed)
        undone = logits
    else:
        fitted = fit(
            plan.model,
            rows.x,
            rows.y,
            rows.x_val,
            rows.y_val,
            problem=rows.problem,
            recipe=job.recipe,
            judge=judge,
            settings=replace(plan.settings, seed=seed),
        )
        logits, validation_logits = fitted.logits(rows.x_test), fitted.logits(rows.x_val)
        decided, rate = fitted.decided(logits), fitted.learning_rate
        undone = fitted.undone(logits)

    def values_of(goal: Goal) -> Tensor:
        # The whole table says which classes are rare, so that all folds speak of the same ones.
        of_all = Judge(goal, table.problem, plan.budget)
        return of_all.per_class(decided if goal in DECIDED else undone, rows.y_test)

    return Trial(
        values={goal: float(values_of(goal).nanmean()) for goal in GOALS},
        per_class=tuple(values_of(plan.goal).tolist()),
        seconds=0.0,
        learning_rate=rate,
        logits=logits.numpy(),
        validation_logits=validation_logits.numpy(),
    )


def _boosted(rows: Prepared, judge: Judge, trees: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the test and validation rows, and those of the test rows that decide."""
    # Judged as the nets are, and where decisions are judged with one that is adjusted.
    held = Validation(rows.y_val, None, rows.problem, RECIPES["adjusted"], judge)

    def value(logits: Floats) -> float:
        reached, likelihood = rank_of(held, torch.from_numpy(logits))
        return likelihood if math.isnan(reached) else reached

    y = rows.y[:, 0] if rows.problem.kind == "binary" else rows.y
    x, x_val, x_test = (part.flatten(1).numpy() for part in (rows.x, rows.x_val, rows.x_test))
    boosted = boost(x, y.numpy(), x_val, value, trees=trees, seed=seed)
    logits, validation = (torch.from_numpy(boosted.logits(part)) for part in (x_test, x_val))
    return logits, validation, logits - shift_of(held, validation)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for torch, so that results do not depend on how many trials run beside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
