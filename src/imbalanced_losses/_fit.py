"""Recipe and rows in, fitted network out: what the estimator and `compare` train by.

What is kept did best on validation rows, over all looks at them and all learning rates that were
tried. Torch's global random state is left as it was.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbalanced_losses import _checks
from imbalanced_losses._engine import PRECISION, STRATEGY, Engine
from imbalanced_losses._goals import Judge
from imbalanced_losses._training import (
    LOOKS,
    History,
    NetFactory,
    Progress,
    Rows,
    Run,
    Task,
    predict,
    rank_of,
    shift_of,
    train,
)
from imbalanced_losses._warn import warn
from imbalanced_losses.recipes import Problem, Recipe

__all__ = ["LOOKS", "FitSettings", "Fitted", "fit"]

# What "auto" tries. A single layer bears, and needs, larger steps than a deep network.
RATES = (0.001, 0.003, 0.01)
LINEAR_RATES = (0.01, 0.03, 0.1)


@dataclass(frozen=True)
class FitSettings:
    """How a network is trained, whatever the recipe. Checked at construction.

    Attributes:
        hidden: Units of the hidden layers of the network that is built where none is given.
        max_epochs: Passes over the training rows at most; "auto": about 2,000 steps.
        batch_size: Rows in a batch at most; an epoch is cut into batches of equal size.
        learning_rate: Of AdamW, falling to 0 along a cosine; "auto": the best of three.
        weight_decay: Of AdamW.
        dropout: On the hidden units.
        patience: Looks at the validation rows without gain, of `LOOKS` in all, until it stops.
        seed: Of the initial weights, the order of the rows and dropout.
        device: As torch names it, or "auto".
        precision: As Lightning Fabric names it.
        strategy: As Lightning Fabric names it.
    """

    hidden: Sequence[int] = (128, 128)
    max_epochs: int | Literal["auto"] = "auto"
    batch_size: int = 256
    learning_rate: float | Literal["auto"] = "auto"
    weight_decay: float = 0.01
    dropout: float = 0.0
    patience: int = 10
    seed: int = 0
    device: str = "cpu"
    precision: str = PRECISION
    strategy: str = STRATEGY

    def __post_init__(self) -> None:
        integer, number = _checks.integer, _checks.number
        if not isinstance(self.hidden, list | tuple):
            raise TypeError(
                f"hidden must be a tuple with the units of each hidden layer; got {self.hidden!r}."
            )
        _checks.settle(
            self,
            hidden=tuple(integer("hidden", units, at_least=1) for units in self.hidden),
            batch_size=integer("batch_size", self.batch_size, at_least=1),
            weight_decay=number("weight_decay", self.weight_decay, at_least=0),
            dropout=number("dropout", self.dropout, at_least=0, below=1),
            patience=integer("patience", self.patience, at_least=1),
            seed=integer("seed", self.seed, at_least=0),
        )
        if self.max_epochs != "auto":
            _checks.settle(self, max_epochs=integer("max_epochs", self.max_epochs, at_least=1))
        if self.learning_rate != "auto":
            rate = number("learning_rate", self.learning_rate, above=0)
            _checks.settle(self, learning_rate=rate)

    def network(self, inputs: int, outputs: int) -> nn.Sequential:
        """Linear layers with ReLU, and dropout, between them."""
        layers: list[nn.Module] = []
        for units in self.hidden:
            layers += [nn.Linear(inputs, units), nn.ReLU()]
            layers += [nn.Dropout(self.dropout)] if self.dropout else []
            inputs = units
        return nn.Sequential(*layers, nn.Linear(inputs, outputs))


@dataclass(frozen=True)
class Fitted:
    """What `fit` returns.

    Attributes:
        nets: The networks, in float64 on the CPU; more than one only for recipes with members.
        problem: Of the training rows.
        recipe: That they were trained by.
        undoes: Whether `recipe.undo` gives probabilities; with a loss of one's own, or one whose
            inverse is not known, they are to be calibrated on validation rows.
        shift: `[outputs]`: what the decision takes off the logits; 0 where the recipe does not
            adjust.
        value: Of the goal on the validation rows, higher being better.
        history: `(step, value)` of each look.
        learning_rate: That was kept.
    """

    nets: tuple[nn.Module, ...]
    problem: Problem
    recipe: Recipe
    undoes: bool
    shift: Tensor
    value: float
    history: History
    learning_rate: float

    def logits(self, x: Tensor) -> Tensor:
        """Logits `[N, outputs]` in float64 as the loss saw them: not undone, not shifted."""
        return _mean_prediction(self.nets, x, self.problem)

    def decided(self, logits: Tensor) -> Tensor:
        """Logits that decide: by the largest of a row, or each by its sign."""
        return logits - self.shift.to(logits)

    def undone(self, logits: Tensor) -> Tensor:
        """Logits whose softmax or sigmoid estimates probabilities, as far as that is known."""
        return self.recipe.undo(logits, self.problem) if self.undoes else logits


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
    nets = tuple(run.net.cpu().double().eval() for run in runs)
    logits = _mean_prediction(nets, x_val, problem)
    return Fitted(
        nets=nets,
        problem=problem,
        recipe=recipe,
        undoes=loss is None and recipe.ranking is None and recipe.pointwise not in _NOT_UNDONE,
        shift=shift_of(task, logits),
        value=rank_of(task, logits)[0],
        history=runs[0].history,
        learning_rate=runs[0].rate,
    )


_NOT_UNDONE = ("ldam", "asymmetric")


def _runs(
    task: Task, engine: Engine, rates: Sequence[float], progress: Progress | None
) -> list[Run]:
    """The best of the learning rates, and the other members at that rate."""
    draws = torch.Generator().manual_seed(task.settings.seed)
    first, *others = torch.randint(2**31, (task.recipe.members,), generator=draws).tolist()
    trainings = len(rates) + len(others)

    def run(number: int, rate: float, seed: int) -> Run:
        def tell(done: int, steps: int, value: float) -> None:
            if progress is not None:
                progress(number * steps + done, trainings * steps, value)

        return train(task, engine, rate, seed, tell)

    tried = [run(number, rate, first) for number, rate in enumerate(rates)]
    best = max(tried, key=lambda one: one.rank)
    if not math.isfinite(best.rank[1]):
        raise ValueError(
            "learning_rate must lead to finite logits; they overflowed at "
            f"{' and '.join(f'{rate:g}' for rate in rates)}. Lower it, or bring the features to "
            "unit scale."
        )
    more = [run(number, best.rate, seed) for number, seed in enumerate(others, len(rates))]
    return [best, *more]


def _mean_prediction(nets: Sequence[nn.Module], x: Tensor, problem: Problem) -> Tensor:
    """Logits of the mean of the networks' probabilities."""
    members = torch.stack([predict(net, x.detach().cpu().double()) for net in nets])
    if len(nets) == 1:
        return members[0]
    total = math.log(len(nets))
    if problem.kind == "multiclass":
        return members.log_softmax(2).logsumexp(0) - total
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
