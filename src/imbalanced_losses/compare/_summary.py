"""From trials to the parts of a comparison."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imbalanced_losses._goals import bounds_of
from imbalanced_losses._paired import corrected_interval
from imbalanced_losses.compare._decision import Held, Pooled, calibrators, pool
from imbalanced_losses.compare._result import BOOSTING, ClassCount, Data, Floats, Outcome
from imbalanced_losses.compare._run import Place
from imbalanced_losses.compare._table import Table
from imbalanced_losses.compare._trials import Job, Trial, as_targets, problem_of
from imbalanced_losses.recipes import GOALS, Goal, Problem, Recipe

Trials = Mapping[Place, Trial]

# So many different warnings of the trainings are passed on.
_WARNINGS = 5


def outcome(
    recipe: Recipe | None,
    jobs: Sequence[Job],
    trials: Trials,
    goal: Goal,
    test_share: float,
    level: float,
) -> Outcome:
    """The row of one recipe, or of gradient boosting, without its difference."""
    mine = [trials[job.place] for job in jobs if job.recipe == recipe]
    values = tuple(trial.values[goal] for trial in mine)
    finite = [value for value in values if math.isfinite(value)]
    low = high = math.nan
    if len(finite) > 1:
        _, low, high, _ = corrected_interval(finite, test_share, level)
        low, high = np.clip((low, high), *bounds_of(goal)).tolist()
    return Outcome(
        recipe=BOOSTING if recipe is None else recipe.name,
        title="gradient boosting" if recipe is None else recipe.title,
        values=values,
        mean=_mean(values),
        low=low,
        high=high,
        per_class=tuple(map(_mean, zip(*(trial.per_class for trial in mine), strict=True))),
        seconds=_mean([trial.seconds for trial in mine]),
        others={one: _mean([trial.values[one] for trial in mine]) for one in GOALS if one != goal},
        learning_rates=() if recipe is None else tuple(trial.learning_rate for trial in mine),
    )


def pooled(table: Table, recipe: Recipe | None, jobs: Sequence[Job], trials: Trials) -> Pooled:
    """Probabilities of the rows that the first repeat held out."""

    def undo(logits: Tensor, problem: Problem) -> Tensor:
        return logits if recipe is None else recipe.undo(logits, problem)

    parts = []
    for job in jobs:
        trial = trials[job.place]
        if job.recipe != recipe or trial.logits is None or trial.validation_logits is None:
            continue
        problem = problem_of(table, job.fold.train)
        fold = job.fold
        parts.append(
            Held(fold.test, fold.validation, trial.logits, trial.validation_logits, problem)
        )
    outputs = table.problem.outputs
    if not parts:
        nothing = np.full((len(table), outputs), np.nan)
        return Pooled(nothing, nothing)
    made = calibrators(parts, as_targets(table.targets, table.kind), table.kind, undo)
    return pool(parts, made, len(table), table.kind, undo)


def marks(table: Table) -> Floats:
    """Ones where the class or label of an output holds, `[N, outputs]`."""
    targets = as_targets(table.targets, table.kind)
    if table.kind == "multiclass":
        targets = torch.nn.functional.one_hot(targets, len(table.classes))
    return targets.double().numpy()


def described(table: Table, target: Any) -> Data:
    """What was compared on."""
    named = [target] if isinstance(target, str) else list(target or ())
    classes = zip(table.classes, table.counts, strict=True)
    return Data(
        name=table.name,
        rows=len(table),
        features=int(np.prod(table.features.shape[1:])),
        kind=table.kind,
        target=", ".join(map(str, named)) or "target",
        classes=tuple(ClassCount(str(name), int(count)) for name, count in classes),
        findings=table.findings,
    )


def told(jobs: Sequence[Job], trials: Trials) -> list[str]:
    """Failures and warnings of the trainings, each once."""
    notes = []
    failed: dict[str, list[str]] = {}
    warned: dict[str, None] = {}
    for job in jobs:
        trial = trials[job.place]
        if trial.error:
            failed.setdefault(job.name, []).append(trial.error)
        warned |= dict.fromkeys(trial.notes)
    folds = len({job.place[1:] for job in jobs})
    for name, errors in failed.items():
        notes.append(f"{name} failed on {len(errors)} of {folds} folds: {errors[0]}")
    notes += list(warned)[:_WARNINGS]
    if len(warned) > _WARNINGS:
        notes.append(f"{len(warned) - _WARNINGS} other warnings are left out.")
    return notes


def reading(table: Table, goal: Goal) -> list[str]:
    """What has to be known to read any comparison: what chance reaches, whose the threshold is."""
    notes = []
    if goal == "average_precision":
        rates = table.problem.rates
        chance = sum(rates) / len(rates)
        notes.append(f"Scores that know nothing have an average precision of {chance:.3g}.")
    notes.append(
        "The threshold is that of the models of this comparison. Choose that of a model that is "
        "trained anew on its own scores for rows that it has not seen."
    )
    return notes


def shared_rows(table: Table) -> list[str]:
    """What has to be known of intervals where rows come in groups."""
    alone = len(np.unique(table.groups))
    share = 1 - alone / len(table)
    if share <= 0.01:
        return []
    return [
        f"{len(table):,} rows lie in {alone:,} groups of equal rows or of equal "
        "values of the group column. The intervals of the decision take each row for one of its "
        "own, so they are too narrow."
    ]


def _mean(values: Sequence[float]) -> float:
    """Of those that are not NaN; NaN where all are."""
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan
