"""From held-out logits to calibrated probabilities, a threshold, and what to expect of it.

Each fold's logits are calibrated on that fold's validation rows, which makes the folds' networks
comparable; then the probabilities of one repeat, in which every row was held out once, are pooled.
What is expected holds for networks that are trained as these were, on as many rows.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from imbalanced_losses import _checks
from imbalanced_losses._training.calibrator import Calibrator, calibrate
from imbalanced_losses.compare._folds import Rows
from imbalanced_losses.compare._result import Decision, Estimate, Floats
from imbalanced_losses.recipes import Goal, Kind, Problem
from imbalanced_losses.thresholds import OperatingPoint, choose

Undo: TypeAlias = Callable[[Tensor, Problem], Tensor]

WISHES = ("budget", "precision", "recall", "fpr", "cost")
_OF_NEGATIVES: tuple[Goal, ...] = ("partial_auc", "recall_at_fpr")


class Held(NamedTuple):
    """What one fold's model made of the rows that it did not train on."""

    test: Rows
    validation: Rows
    logits: Floats  # of the test rows, [n, outputs]
    validation_logits: Floats
    problem: Problem  # of the rows that it trained on


class Pooled(NamedTuple):
    """Probabilities of all rows `[N, outputs]`, NaN where a row was never held out."""

    calibrated: Floats
    raw: Floats


def read_wish(
    wish: Mapping[str, float] | None, goal: Goal, budget: float | None
) -> tuple[str, float] | None:
    """The wish for a threshold and its number; None: as many alerts as there are positives.

    Raises:
        TypeError: It is no mapping, or its number is none.
        ValueError: It does not hold one of the wishes, or its number is out of range.
    """
    if wish is None:
        if budget is None:
            return None
        return ("fpr" if goal in _OF_NEGATIVES else "budget"), budget
    if not isinstance(wish, Mapping):
        raise TypeError(f"wish must be a mapping such as {{'recall': 0.9}}; got {wish!r}.")
    if len(wish) != 1 or not set(wish) <= set(WISHES):
        raise ValueError(f"wish must hold exactly one of {', '.join(WISHES)}; got {dict(wish)!r}.")
    ((name, value),) = wish.items()
    below = math.inf if name == "cost" else 1
    return name, _checks.number(f"wish[{name!r}]", value, above=0, below=below)


def calibrators(parts: Sequence[Held], targets: Tensor, kind: Kind, undo: Undo) -> list[Calibrator]:
    """What makes probabilities of each fold's logits, learnt from its validation rows.

    Args:
        parts: The folds.
        targets: Of all rows, class indices `[N]` for multiclass problems, else `[N, outputs]`.
        kind: Of the problem.
        undo: Takes back what is known of the loss, before.
    """
    return [
        calibrate(
            undo(torch.from_numpy(part.validation_logits), part.problem),
            targets[part.validation],
            exclusive=kind == "multiclass",
        )
        for part in parts
    ]


def pool(
    parts: Sequence[Held], made: Sequence[Calibrator], rows: int, kind: Kind, undo: Undo
) -> Pooled:
    """Probabilities of the rows that the folds of one repeat held out, each where it belongs."""
    outputs = parts[0].logits.shape[1]
    found = Pooled(np.full((rows, outputs), np.nan), np.full((rows, outputs), np.nan))
    for part, calibrator in zip(parts, made, strict=True):
        logits = torch.from_numpy(part.logits).double()
        found.raw[part.test] = probabilities(logits, kind)
        found.calibrated[part.test] = probabilities(calibrator(undo(logits, part.problem)), kind)
    return found


def probabilities(logits: Tensor, kind: Kind) -> Floats:
    """Softmax or sigmoid, in float64."""
    logits = logits.double()
    return np.asarray(logits.softmax(1) if kind == "multiclass" else logits.sigmoid())


def decide(
    calibrated: Floats,
    positive: Floats,
    labels: Sequence[str],
    wish: tuple[str, float] | None,
    level: float,
) -> tuple[Decision, ...]:
    """A threshold for each label.

    Args:
        calibrated: Pooled probabilities `[N, outputs]`.
        positive: Ones where the label holds, `[N, outputs]`.
        labels: Names of the outputs.
        wish: See `read_wish`.
        level: Of each interval.
    """
    held_out = np.isfinite(calibrated).all(1)
    columns = zip(labels, calibrated[held_out].T, positive[held_out].T, strict=True)
    return tuple(_decision(label, p, y, wish, level) for label, p, y in columns)


def _decision(
    label: str, scores: Floats, positive: Floats, wish: tuple[str, float] | None, level: float
) -> Decision:
    name, wanted = ("budget", float(positive.mean())) if wish is None else wish
    words = "as many alerts as positives" if wish is None else f"{name}={wanted:g}"
    try:
        if not 0 < positive.sum() < len(positive):
            raise ValueError(
                f"{int(positive.sum())} of {len(positive)} rows that were held out are positive."
            )
        wishes: dict[str, Any] = {name: wanted}
        point = choose(scores, positive, level=level, **wishes)
    except ValueError as error:
        told = f"{label}: no threshold for {words}. {str(error)[:1].upper()}{str(error)[1:]}"
        return Decision(label, words, None, None, None, None, None, told)
    return Decision(
        label,
        words,
        point.threshold,
        Estimate(*point.precision),
        Estimate(*point.recall),
        Estimate(*point.fpr),
        Estimate(*point.alerts_per_1000),
        _sentence(label, words, point),
    )


def _sentence(label: str, wish: str, point: OperatingPoint) -> str:
    alerts, precision, recall = point.alerts_per_1000, point.precision, point.recall
    return (
        f"{label}: for {wish}, raise an alert from a probability of {point.threshold:.3g} on. "
        f"Expect in 1,000 new rows {alerts.value:.3g} alerts ({alerts.low:.3g} to "
        f"{alerts.high:.3g}), of which {_share(precision)} are right, and which find "
        f"{_share(recall)} of all there are; in brackets the {100 * point.level:g} % intervals."
    )


def _share(part: tuple[float, float, float]) -> str:
    value, low, high = (100 * one for one in part)
    # Without a second alert there is nothing to say but the interval.
    told = f"{value:.3g} %" if math.isfinite(value) else "an unknown share"
    return f"{told} ({low:.3g} to {high:.3g})"
