"""Recipe and rows in, fitted network out: what the estimator and `compare` train by.

What is kept did best on validation rows, over all looks at them and all learning rates that were
tried. Torch's global random state is left as it was.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbalanced_losses._goals import Judge
from imbalanced_losses._training.calibrator import Calibrator, calibrate
from imbalanced_losses._training.engine import Engine
from imbalanced_losses._training.loop import (
    History,
    NetFactory,
    Progress,
    Rows,
    Run,
    Task,
    plan,
    predict,
    rank_of,
    shift_of,
    train,
)
from imbalanced_losses._training.settings import FitSettings
from imbalanced_losses._warn import warn
from imbalanced_losses.recipes import Problem, Recipe
from imbalanced_losses.recipes._advice import DECIDED

__all__ = ["FitSettings", "Fitted", "fit"]

# Losses of single rows that move probabilities in ways for which there is no formula.
_NOT_UNDONE = ("ldam", "asymmetric")
# What "auto" tries. A single layer bears, and needs, larger steps than a deep network.
RATES = (0.001, 0.003, 0.01)
LINEAR_RATES = (0.01, 0.03, 0.1)
# Each is tried in a training of this share of the steps, and of so many where there are as many.
_TRIED_SHARE = 0.25
_LEAST_TRIED = 200


@dataclass(frozen=True)
class Fitted:
    """What `fit` returns.

    Attributes:
        nets: The networks, in float64 on the CPU; more than one only for recipes with members.
        problem: Of the training rows.
        recipe: That they were trained by.
        calibrator: Of the undone logits, fitted on the validation rows. None where the loss has an
            inverse and the training stopped at the likelihood or at a decision.
        shift: `[outputs]`: what the decision takes off the logits; 0 where the recipe does not
            adjust.
        value: Of the goal on the validation rows, higher being better.
        history: `(step, value)` of each look.
        learning_rate: That was kept.
    """

    nets: tuple[nn.Module, ...]
    problem: Problem
    recipe: Recipe
    calibrator: Calibrator | None
    shift: Tensor
    value: float
    history: History
    learning_rate: float

    def logits(self, x: Tensor) -> Tensor:
        """Logits `[N, outputs]` in float64 as the loss saw them: not undone, not shifted."""
        return _mean_prediction(self.nets, x, self.problem)

    def decided(self, logits: Tensor) -> Tensor:
        """Logits that decide: by the largest of a row, or each by its sign.

        Class weights, LDAM and their like move the decision on purpose, so that it is theirs. What
        a ranking loss or an early stop does to it is an accident, which calibration mends.
        """
        recipe = self.recipe
        on_purpose = recipe.adjust or recipe.weights or recipe.sampler == "balanced"
        if on_purpose or recipe.pointwise != "cross_entropy":
            return logits - self.shift.to(logits)
        return self.undone(logits)

    def undone(self, logits: Tensor) -> Tensor:
        """Logits whose softmax or sigmoid estimates probabilities."""
        undone = self.recipe.undo(logits, self.problem)
        return undone if self.calibrator is None else self.calibrator(undone)


def fit(
    make_net: NetFactory | None,
    x: Tensor,
    y: Tensor,
    x_val: Tensor,
    y_val: Tensor,
    *,
    problem: Problem,
    recipe: Recipe,
    judge: Judge,
    settings: FitSettings,
    loss: Callable[..., Any] | None = None,
    sample_weight: Tensor | None = None,
    sample_weight_val: Tensor | None = None,
    progress: Progress | None = None,
) -> Fitted:
    """Train by a recipe, and keep what did best on the validation rows.

    Args:
        make_net: Called as `make_net(features, outputs)`; the last linear layer of what it returns
            gets the prior bias. None: `settings.network`.
        x: Features of the training rows `[N, features]`, of about unit scale.
        y: Targets as `Recipe.build_loss` wants them: class indices `[N]` for multiclass problems,
            else zeros and ones `[N, outputs]` in float32.
        x_val: Features of the validation rows.
        y_val: Their targets. Where the goal is undefined on them, the likelihood takes its place.
        problem: Of the training rows.
        recipe: How to train.
        judge: What is best.
        settings: Whatever is not the recipe's.
        loss: In place of the recipe's own: a module, of which each training gets a copy, or a
            function, called as `loss(logits, targets)`, with `sample_weight=` where there is one.
        sample_weight: Of the training rows `[N]`.
        sample_weight_val: Of the validation rows.
        progress: Told at each look the steps done, the steps in all and the value of the goal, and
            once more when a training has ended.

    Raises:
        TypeError: `make_net` returns no network.
        ValueError: The loss or the network do not fit the problem, or no learning rate led to
            finite logits.
    """
    engine = Engine(settings.device, settings.precision, settings.strategy)
    device = engine.device

    def there(weight: Tensor | None) -> Tensor | None:
        return None if weight is None else weight.to(device, torch.float32)

    rows = Rows(
        x.to(device, torch.float32),
        y.to(device),
        x_val.to(device, torch.float32),
        y_val.to(device),
        there(sample_weight),
        there(sample_weight_val),
    )
    task = Task(
        settings.network if make_net is None else make_net,
        rows,
        problem,
        recipe,
        _usable(judge, y_val, sample_weight_val),
        settings,
        loss,
    )
    rates: Sequence[float] = RATES if settings.hidden or make_net is not None else LINEAR_RATES
    if settings.learning_rate != "auto":
        rates = (settings.learning_rate,)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        runs = _runs(task, engine, rates, progress)
        nets = _ready(runs)
        logits = _mean_prediction(nets, x_val, problem)
        if settings.refit:
            nets = _ready(_refitted(task, engine, runs))
    # Where a ranking is best, probabilities may still be far from true; a decision that was judged
    # stays as it was judged.
    stopped_early = judge.goal != "log_loss" and judge.goal not in DECIDED
    distorted = recipe.ranking is not None or recipe.pointwise in _NOT_UNDONE
    calibrator = None
    if stopped_early or distorted or loss is not None:
        calibrator = calibrate(
            recipe.undo(logits, problem),
            y_val.cpu(),
            sample_weight_val,
            exclusive=problem.kind == "multiclass",
        )
    return Fitted(
        nets=nets,
        problem=problem,
        recipe=recipe,
        calibrator=calibrator,
        shift=shift_of(task.validation, logits),
        value=rank_of(task.validation, logits)[0],
        history=runs[0].history,
        learning_rate=runs[0].rate,
    )


def _runs(
    task: Task, engine: Engine, rates: Sequence[float], progress: Progress | None
) -> list[Run]:
    """Trainings at the best of the learning rates, one for each member of the recipe."""
    draws = torch.Generator().manual_seed(task.settings.seed)
    seeds = torch.randint(2**31, (task.recipe.members,), generator=draws).tolist()
    steps = plan(task)[2]
    short = min(steps, max(_LEAST_TRIED, round(_TRIED_SHARE * steps)))
    tries = [(rate, seeds[0], short) for rate in rates] if len(rates) > 1 else []
    total = short * len(tries) + steps * len(seeds)
    done = 0

    def run(rate: float, seed: int, steps: int) -> Run:
        nonlocal done

        def tell(step: int, value: float) -> None:
            if progress is not None:
                progress(done + step, total, value)

        made = train(task, engine, rate, seed, steps, tell)
        done += steps
        return made

    best = max((run(*one) for one in tries), key=lambda one: one.rank, default=None)
    rate = rates[0] if best is None else best.rate
    made = [run(rate, seed, steps) for seed in seeds]
    overflowed = [one.rate for one in made if not math.isfinite(one.rank[1])]
    if overflowed:
        raise ValueError(
            f"learning_rate must lead to finite logits; they overflowed at {overflowed[0]:g}. "
            "Lower it, or bring the features to unit scale."
        )
    return made


def _refitted(task: Task, engine: Engine, runs: Sequence[Run]) -> list[Run]:
    """Trainings on all rows, each for as many epochs as the given one took to do best."""
    rows = task.rows
    weight = None
    if rows.weight is not None and rows.weight_val is not None:
        weight = torch.cat([rows.weight, rows.weight_val])
    x, y = torch.cat([rows.x, rows.x_val]), torch.cat([rows.y, rows.y_val])
    whole = task._replace(rows=rows._replace(x=x, y=y, weight=weight))
    growth = plan(whole)[1] / plan(task)[1]

    def run(before: Run) -> Run:
        steps = math.ceil(before.step * growth)
        return train(whole, engine, before.rate, before.seed, steps, _unheard, looks=False)

    return [run(before) for before in runs]


def _unheard(step: int, value: float) -> None:
    """Nobody is told."""


def _ready(runs: Sequence[Run]) -> tuple[nn.Module, ...]:
    """The networks as they predict: in float64 on the CPU."""
    return tuple(run.net.cpu().double().eval() for run in runs)


def _mean_prediction(nets: Sequence[nn.Module], x: Tensor, problem: Problem) -> Tensor:
    """Logits of the mean of the networks' probabilities."""
    members = torch.stack([predict(net, x.detach().cpu().double()) for net in nets])
    return members[0] if len(nets) == 1 else mean_logits(members, problem.kind == "multiclass")


def mean_logits(members: Tensor, exclusive: bool) -> Tensor:
    """Logits of the mean of the members' probabilities, over the first dimension.

    Where classes exclude each other the last dimension holds them.
    """
    if exclusive:
        return members.log_softmax(-1).logsumexp(0) - math.log(len(members))
    return F.logsigmoid(members).logsumexp(0) - F.logsigmoid(-members).logsumexp(0)


def _usable(judge: Judge, y: Tensor, weight: Tensor | None) -> Judge:
    """The judge, or the likelihood where its goal is undefined on these rows."""
    untrained = torch.zeros(len(y), judge.problem.outputs)
    if not math.isnan(judge(untrained, y.cpu(), None if weight is None else weight.cpu())):
        return judge
    warn(
        f"{judge.title} is undefined on the {len(y)} validation rows, which lack a class or a "
        "positive: the likelihood decides when to stop.",
    )
    return Judge("log_loss", judge.problem)
