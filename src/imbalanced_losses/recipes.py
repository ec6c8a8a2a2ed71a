"""Recipes: whole ways to train for a rare class, and which of them the evidence backs.

A recipe is a loss with everything that has to fit it: initialisation, order of the rows, averaging,
decision, and the way back to probabilities. It is plain data. `RECIPES` holds all of them by name,
`for_problem` those that suit a kind of problem, and `recommend` the one to begin with.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from imbalanced_losses import _checks, calibration
from imbalanced_losses.class_weights import class_weights, init_prior_bias
from imbalanced_losses.losses import (
    AsymmetricLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    PairwiseAUCLoss,
    PAUCAtBudgetLoss,
    RecallAtQuantileLoss,
    SigmoidFocalLoss,
    SmoothAPLoss,
    SoftmaxFocalLoss,
)
from imbalanced_losses.mixing import MixedLoss

__all__ = [
    "BASELINE",
    "GOALS",
    "RECIPES",
    "Capacity",
    "Goal",
    "Kind",
    "Problem",
    "Recipe",
    "for_problem",
    "recommend",
]

Kind: TypeAlias = Literal["binary", "multiclass", "multilabel"]
"""One logit per row; one logit per class, of which one holds; one logit per label."""
Goal: TypeAlias = Literal[
    "average_precision",
    "partial_auc",
    "recall_at_fpr",
    "recall_at_budget",
    "balanced_accuracy",
    "tail_accuracy",
    "log_loss",
]
"""What will be measured.

`"tail_accuracy"` is for many classes. Of two it is the recall of the rare one at the decision,
which is 1 where every row is called rare: `"balanced_accuracy"` says what that costs.
"""
Capacity: TypeAlias = Literal["linear", "small", "flexible"]
"""What the model can express, see `recommend`."""
Pointwise: TypeAlias = Literal["cross_entropy", "focal", "logit_adjusted", "ldam", "asymmetric"]
Ranking: TypeAlias = Literal["smooth_ap", "pauc", "recall", "pairwise_auc"]

KINDS: tuple[Kind, ...] = get_args(Kind)
# Goals of a decision; the others are of a ranking, or of probabilities.
DECIDED: tuple[Goal, ...] = ("balanced_accuracy", "tail_accuracy")
GOALS: tuple[Goal, ...] = get_args(Goal)
"""All goals."""
CAPACITIES: tuple[Capacity, ...] = get_args(Capacity)

BASELINE = "prior_bias"
"""Cross-entropy that starts from the class frequencies: what every recipe is measured against."""

# Cross-entropy is alone for this share of the training, since ranks of random scores teach nothing.
_WARMUP_SHARE = 0.1
# The queue holds about so many positives of the rarest class, within the bounds.
_QUEUED_POSITIVES = 8
_QUEUE_BOUNDS = (1024, 16_384)
DEFAULT_BUDGET = 0.01


@dataclass(frozen=True)
class Problem:
    """What a recipe has to know of the training rows.

    Attributes:
        kind: `"binary"` (one logit per row), `"multiclass"` (one logit per class, of which one
            holds) or `"multilabel"` (one logit per label).
        counts: Rows of each class, `(negatives, positives)` for binary problems; positives of each
            label for multi-label ones. All above 0.
        rows: Number of rows. Needed for multi-label problems; otherwise the sum of the counts.

    Raises:
        TypeError: A setting has the wrong type.
        ValueError: A count is not above 0, their number does not fit the kind, or a label is
            positive in all rows.

    Examples:
        >>> Problem("binary", (980, 20)).rates
        (0.02,)
    """

    kind: Kind
    counts: Sequence[float]
    rows: float | None = None

    def __post_init__(self) -> None:
        _checks.one_of("kind", self.kind, KINDS)
        counts = tuple(_checks.number("counts", n, above=0) for n in self.counts)
        if self.kind == "binary" and len(counts) != 2:
            raise ValueError(
                f"counts of a binary problem must be (negatives, positives); got {counts}."
            )
        if self.kind == "multiclass" and len(counts) < 2:
            raise ValueError(f"counts must hold at least two classes; got {counts}.")
        if self.kind != "multilabel":
            rows: float = sum(counts)
            if self.rows is not None and self.rows != rows:
                raise ValueError(f"rows must be the sum of the counts, {rows:g}; got {self.rows}.")
        elif self.rows is None:
            raise ValueError("rows must be the number of rows for kind='multilabel'; got None.")
        else:
            rows = _checks.number("rows", self.rows, above=0)
            if not counts or max(counts) >= rows:
                raise ValueError(
                    f"counts must hold one count per label, each below rows={rows:g}; got {counts}."
                )
        _checks.settle(self, counts=counts, rows=rows)

    @property
    def outputs(self) -> int:
        """Logits per row."""
        return 1 if self.kind == "binary" else len(self.counts)

    @property
    def positives(self) -> tuple[float, ...]:
        """Rows in which each output's class or label holds."""
        return tuple(self.counts[1:] if self.kind == "binary" else self.counts)

    @property
    def rates(self) -> tuple[float, ...]:
        """Their shares of all rows."""
        assert self.rows is not None
        return tuple(n / self.rows for n in self.positives)


@dataclass(frozen=True)
class Recipe:
    """One way to train. Everything that is not said here stays as it is for all recipes.

    `init_layer`, `build_loss` and `undo` do their part of it. `sampler`, `average`, `members` and
    `adjust` are for the training loop to do, as `RareClassClassifier` does.

    Attributes:
        name: Its key in `RECIPES`.
        title: What a table calls it.
        pointwise: The loss of single rows.
        weights: `method` of `class_weights` for that loss, or None.
        ranking: A ranking loss beside it, mixed by `MixedLoss`, or None.
        ratio: Of the gradients, see `MixedLoss`.
        prior_bias: Whether the output layer starts from the class frequencies.
        sampler: Order of the training rows: `"shuffled"`, `"stratified"` (no batch without a
            positive) or `"balanced"` (classes drawn alike).
        average: Decay of a running average of the weights that is used after training; 0: none.
        members: Nets whose probabilities are averaged.
        adjust: Whether the decision is that of `adjust_logits`, with the `choose_tau` of validation
            rows.
        kinds: The problems that it is for.
    """

    name: str
    title: str
    pointwise: Pointwise = "cross_entropy"
    weights: Literal["balanced", "sqrt_inverse"] | None = None
    ranking: Ranking | None = None
    ratio: float = 1.0
    prior_bias: bool = True
    sampler: Literal["shuffled", "stratified", "balanced"] = "shuffled"
    average: float = 0.0
    members: int = 1
    adjust: bool = False
    kinds: tuple[Kind, ...] = KINDS

    def build_loss(self, problem: Problem, *, steps: int, budget: float | None = None) -> nn.Module:
        """The loss, called as `loss(logits, targets, sample_weight=...)`.

        Args:
            problem: Of the training rows. Logits have shape `[N, problem.outputs]`, of maps and
                sequences `[N, problem.outputs, d1, ...]`; targets are class indices `[N]` or
                `[N, d1, ...]` for multiclass problems, and zeros and ones of the logits' shape for
                the other two.
            steps: Training steps in all; a ranking loss joins after the first tenth.
            budget: Highest false-positive rate or share of alerts that counts, in (0, 1); used by
                `"pauc"` and `"recall"`. None: 0.01.

        Raises:
            ValueError: The recipe is not for this kind of problem, or an argument is out of range.
        """
        self._suits(problem)
        steps = _checks.integer("steps", steps, at_least=1)
        share = DEFAULT_BUDGET if budget is None else budget
        share = _checks.number("budget", share, above=0, below=1)
        pointwise = self._pointwise(problem)
        if self.ranking is None:
            return pointwise
        ranking = self._ranking(problem, share)
        warmup = math.ceil(_WARMUP_SHARE * steps)
        return MixedLoss(pointwise, ranking, self.ratio, warmup_steps=warmup)

    def init_layer(self, layer: nn.Module, problem: Problem) -> nn.Module:
        """Set the output layer's bias in place, where the recipe does so, and return the layer.

        Raises:
            ValueError: The layer has no bias or another number of outputs than the problem.
        """
        self._suits(problem)
        if not self.prior_bias:
            return layer
        if problem.kind == "multiclass":
            return init_prior_bias(layer, counts=problem.counts)
        return init_prior_bias(
            layer, counts=problem.positives, total=problem.rows, activation="sigmoid"
        )

    def undo(self, logits: Tensor, problem: Problem) -> Tensor:
        """Logits whose sigmoid or softmax estimates probabilities, from those of the trained model.

        What class weights, the focal loss, logit adjustment and balanced sampling do to
        probabilities is known and taken back. LDAM, the asymmetric loss and the ranking losses have
        no known inverse: calibrate on validation rows after them.
        """
        self._suits(problem)
        activation: Literal["softmax", "sigmoid"] = (
            "softmax" if problem.kind == "multiclass" else "sigmoid"
        )
        if self.pointwise == "focal":
            return calibration.undo_focal(logits, activation=activation)
        if self.pointwise == "logit_adjusted":
            return calibration.undo_logit_adjustment(logits, problem.counts)
        if self.weights is not None:
            weights = self._weights(problem)
            return calibration.undo_class_weights(logits, weights, activation=activation)
        if self.sampler == "balanced":
            even = 1 / len(problem.counts)
            if problem.kind == "binary":
                return calibration.undo_resampling(
                    logits, [even], problem.rates, activation=activation
                )
            return calibration.undo_resampling(
                logits, [even] * problem.outputs, problem.rates, activation=activation
            )
        return logits

    def _suits(self, problem: Problem) -> None:
        if problem.kind not in self.kinds:
            raise ValueError(
                f"recipe {self.name!r} is for {' and '.join(self.kinds)} problems; got a "
                f"{problem.kind} one. Use for_problem to find those that suit."
            )

    def _weights(self, problem: Problem) -> Tensor:
        """Weight of each class; for one logit per label, of its positives against its negatives."""
        if problem.kind == "multiclass":
            assert self.weights is not None
            return class_weights(counts=problem.counts, method=self.weights, normalize="mean")
        odds = torch.tensor([(1 - rate) / rate for rate in problem.rates])
        return odds.sqrt() if self.weights == "sqrt_inverse" else odds

    def _pointwise(self, problem: Problem) -> nn.Module:
        softmax = problem.kind == "multiclass"
        if self.pointwise == "focal":
            return SoftmaxFocalLoss() if softmax else SigmoidFocalLoss(alpha=None)
        if self.pointwise == "logit_adjusted":
            return LogitAdjustedLoss(problem.counts)
        if self.pointwise == "ldam":
            return LDAMLoss(problem.counts)
        if self.pointwise == "asymmetric":
            return AsymmetricLoss()
        # At gamma 0 a focal loss is cross-entropy exactly, and takes weights of rows.
        if softmax:
            alpha = None if self.weights is None else self._weights(problem)
            return SoftmaxFocalLoss(alpha=alpha, gamma=0.0)
        if self.weights is None:
            return SigmoidFocalLoss(alpha=None, gamma=0.0)
        odds = self._weights(problem)
        return SigmoidFocalLoss(alpha=odds / (1 + odds), gamma=0.0)

    def _ranking(self, problem: Problem, budget: float) -> nn.Module:
        low, high = _QUEUE_BOUNDS
        settings: dict[str, Any] = {
            "queue_size": int(min(max(low, _QUEUED_POSITIVES / min(problem.rates)), high)),
            "scores": "log_odds" if problem.kind == "multiclass" else "logits",
        }
        outputs = problem.outputs
        if self.ranking == "smooth_ap":
            return SmoothAPLoss(outputs, temperature=0.2, tau_scale="std", **settings)
        if self.ranking == "pauc":
            return PAUCAtBudgetLoss(outputs, beta=budget, surrogate="pairwise", **settings)
        if self.ranking == "recall":
            return RecallAtQuantileLoss(
                outputs,
                quantile=budget,
                temperature=0.2,
                tau_scale="std",
                threshold_gradient=True,
                **settings,
            )
        return PairwiseAUCLoss(outputs, **settings)


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("cross_entropy", "cross-entropy", prior_bias=False),
        Recipe(BASELINE, "cross-entropy, prior bias"),
        Recipe("adjusted", "prior bias, adjusted decision", adjust=True),
        # To the weighted loss the classes are alike, so the default bias is its prior.
        Recipe("class_weights", "class weights", weights="balanced", prior_bias=False),
        Recipe("sqrt_weights", "square-root class weights", weights="sqrt_inverse"),
        Recipe("focal", "focal loss", pointwise="focal"),
        Recipe(
            "logit_adjusted",
            "logit adjustment in training",
            pointwise="logit_adjusted",
            kinds=("multiclass",),
        ),
        Recipe("ldam", "LDAM", pointwise="ldam", kinds=("multiclass",)),
        Recipe(
            "asymmetric",
            "asymmetric loss",
            pointwise="asymmetric",
            kinds=("binary", "multilabel"),
        ),
        Recipe("smooth_ap_mix", "mixed with Smooth-AP", ranking="smooth_ap"),
        Recipe("smooth_ap_mix_3", "mixed with Smooth-AP, ratio 3", ranking="smooth_ap", ratio=3.0),
        Recipe("pauc_mix", "mixed with partial AUC", ranking="pauc"),
        Recipe("pauc_mix_3", "mixed with partial AUC, ratio 3", ranking="pauc", ratio=3.0),
        Recipe("recall_mix", "mixed with recall at the budget", ranking="recall"),
        Recipe("pairwise_auc_mix", "mixed with pairwise AUC", ranking="pairwise_auc"),
        Recipe(
            "balanced_sampler",
            "balanced sampling",
            sampler="balanced",
            prior_bias=False,
            kinds=("binary", "multiclass"),
        ),
        Recipe(
            "stratified_batches",
            "stratified batches",
            sampler="stratified",
            kinds=("binary", "multiclass"),
        ),
        Recipe("weight_average", "averaged weights", average=0.99),
        Recipe("ensemble", "four nets averaged", average=0.99, members=4),
        Recipe(
            "smooth_ap_ensemble",
            "four nets mixed with Smooth-AP",
            ranking="smooth_ap",
            members=4,
        ),
    )
}
"""All recipes by name."""

# What cleared the bar of the study in `benchmarks/evidence`, on sets that it was not chosen on; of
# two recipes that gain alike, the one that costs less. The sets that judged are binary: with more
# classes or labels the decision, which moves by arithmetic, is all that is advised.
_ADVICE: dict[tuple[Goal, Capacity], str] = {
    (goal, capacity): "adjusted" for goal in DECIDED for capacity in CAPACITIES
}
_ADVICE_IF_BINARY: dict[tuple[Goal, Capacity], str] = {
    ("average_precision", "small"): "ensemble",
    ("average_precision", "flexible"): "smooth_ap_ensemble",
    ("log_loss", "small"): "ensemble",
}


def for_problem(kind: Kind, goal: Goal | None = None) -> tuple[Recipe, ...]:
    """The recipes that suit a kind of problem, the baseline first.

    Args:
        kind: `"binary"`, `"multiclass"` or `"multilabel"`.
        goal: Leaves out `"adjusted"` where no decision is judged, since it changes nothing else.
            None: all of them.

    Examples:
        >>> [recipe.name for recipe in for_problem("multiclass")][:3]
        ['prior_bias', 'cross_entropy', 'adjusted']
    """
    _checks.one_of("kind", kind, KINDS)
    if goal is not None:
        _checks.one_of("goal", goal, GOALS)
    decides = goal is None or goal in DECIDED
    suited = [r for r in RECIPES.values() if kind in r.kinds and (decides or not r.adjust)]
    return tuple(sorted(suited, key=lambda recipe: recipe.name != BASELINE))


def recommend(goal: Goal, kind: Kind = "binary", capacity: Capacity = "flexible") -> Recipe:
    """The recipe to begin with, and to measure against the baseline on your own data.

    Args:
        goal: What will be measured, one of `GOALS`.
        kind: `"binary"`, `"multiclass"` or `"multilabel"`.
        capacity: `"linear"`: one linear layer on fixed features. `"small"`: a net of a few hidden
            units, too few for the classes' shapes. `"flexible"`: anything larger; a pretrained
            network that is trained through belongs here.

    Returns:
        The recipe, which is `RECIPES[BASELINE]` where nothing is known to be better. In binary
        average precision networks with hidden units gain .01 to .02 by four of them, measured on
        tables. Four take four times as long to train and to ask, and fifteen times as long to train
        with a ranking loss: where that is too much, take the baseline.

    Examples:
        >>> recommend("balanced_accuracy", "multiclass").title
        'prior bias, adjusted decision'
        >>> recommend("average_precision", capacity="linear").title
        'cross-entropy, prior bias'
        >>> recommend("average_precision", capacity="flexible").members
        4
    """
    _checks.one_of("goal", goal, GOALS)
    _checks.one_of("kind", kind, KINDS)
    _checks.one_of("capacity", capacity, CAPACITIES)
    advice = _ADVICE | _ADVICE_IF_BINARY if kind == "binary" else _ADVICE
    return RECIPES[advice.get((goal, capacity), BASELINE)]
