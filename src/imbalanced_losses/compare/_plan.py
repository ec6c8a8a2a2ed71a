"""What is compared: which recipes, on which folds, with whose network."""

from collections.abc import Sequence

from imbalanced_losses._checks import integer
from imbalanced_losses._errors import DataError, quoted
from imbalanced_losses.compare._folds import groups_of
from imbalanced_losses.compare._model import Factory, load_factory
from imbalanced_losses.compare._result import BOOSTING
from imbalanced_losses.compare._table import Table
from imbalanced_losses.recipes import BASELINE, RECIPES, Goal, Kind, Recipe, for_problem

# Rows up to which folds are repeated so often.
_REPEATS = ((2_000, 3), (50_000, 2))

# Tried unless others are named; more of them leave less power for each.
_USUAL = (
    BASELINE,
    "cross_entropy",
    "adjusted",
    "class_weights",
    "focal",
    "logit_adjusted",
    "ldam",
    "balanced_sampler",
    "ensemble",
)
_FOR_GOALS: dict[Goal, tuple[str, ...]] = {
    "average_precision": ("smooth_ap_mix", "smooth_ap_ensemble"),
    "partial_auc": ("pauc_mix",),
    "recall_at_fpr": ("pauc_mix",),
    "recall_at_budget": ("recall_mix",),
}


def chosen_recipes(
    given: str | Sequence[str | Recipe] | None, kind: Kind, goal: Goal
) -> tuple[Recipe, ...]:
    """The recipes to try, the baseline first.

    Args:
        given: Names or recipes; "all" that suit; None: the usual ones.
        kind: Of the problem.
        goal: Of the comparison.

    Raises:
        ValueError: A name is not known, comes twice, or does not suit the problem.
    """
    suited = for_problem(kind, goal)
    if given is None:
        usual = {*_USUAL, *_FOR_GOALS.get(goal, ())}
        return tuple(one for one in suited if one.name in usual)
    if given == "all":
        return suited
    listed = [given] if isinstance(given, str | Recipe) else list(given)
    found = {BASELINE: RECIPES[BASELINE]}
    for one in listed:
        if not isinstance(one, Recipe):
            if one not in RECIPES:
                names = ", ".join(recipe.name for recipe in suited)
                raise ValueError(f"recipes must be 'all' or some of {names}; got {one!r}.")
            one = RECIPES[one]
        if kind not in one.kinds:
            raise ValueError(
                f"recipes must suit the problem, which is {kind}; {one.name!r} is for "
                f"{' and '.join(one.kinds)} ones."
            )
        if one.name == BOOSTING or found.get(one.name, one) != one:
            raise ValueError(f"recipes must have different names; {one.name!r} is taken.")
        found[one.name] = one
    return tuple(found.values())


def chosen_folds(table: Table, folds: int, repeats: int | None) -> tuple[int, int, list[str]]:
    """Folds and repeats that the rows allow, and what to say of classes that cannot be tested.

    Raises:
        DataError: Fewer than two classes, or no positive, could be tested.
    """
    folds = integer("folds", folds, at_least=2)
    if repeats is None:
        repeats = next((often for rows, often in _REPEATS if len(table) < rows), 1)
    repeats = integer("repeats", repeats, at_least=1)
    groups = groups_of(table.targets, table.groups)[: len(table.classes)]
    few = [place for place, count in enumerate(groups) if count < folds]
    if len(groups) - len(few) < (1 if table.kind == "multilabel" else 2):
        place = min(few, key=lambda one: groups[one])
        enough = int(groups[place])
        fix = f"Use folds={enough}, or find more." if enough > 1 else "Find more of them."
        raise DataError(
            f"Class {quoted(table.classes[place])} has {enough} different "
            f"{'rows' if enough != 1 else 'row'}, too few for {folds} folds. {fix}"
        )
    notes = [
        f"Class {quoted(table.classes[place])} has {int(groups[place])} different "
        f"{'rows' if groups[place] != 1 else 'row'}, fewer than the {folds} folds: they only "
        "train, and nothing is said of the class by itself."
        for place in few
    ]
    return folds, repeats, notes


def read_model(model: str | Factory | None) -> Factory | None:
    """The callable that makes networks, imported where it is given as `"package:factory"`.

    Raises:
        DataError: Nothing of this name can be imported.
        TypeError: It cannot be called.
    """
    if isinstance(model, str):
        return load_factory(model)
    if model is not None and not callable(model):
        raise TypeError(
            "model must be 'package:factory' or a callable (features, outputs) that returns an "
            f"nn.Module; got {model!r}."
        )
    return model
