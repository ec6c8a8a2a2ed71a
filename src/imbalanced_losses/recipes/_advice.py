"""All recipes, and which of them the evidence backs."""

from typing import Literal, TypeAlias, get_args

from imbalanced_losses import _checks
from imbalanced_losses.recipes._problem import KINDS, Kind
from imbalanced_losses.recipes._recipe import Recipe

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

# Goals of a decision; the others are of a ranking, or of probabilities.
DECIDED: tuple[Goal, ...] = ("balanced_accuracy", "tail_accuracy")
GOALS: tuple[Goal, ...] = get_args(Goal)
"""All goals."""
CAPACITIES: tuple[Capacity, ...] = get_args(Capacity)

BASELINE = "prior_bias"
"""Cross-entropy that starts from the class frequencies: what every recipe is measured against."""

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
