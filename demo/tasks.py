"""The two tasks: which rows, which losses, and what is measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score, roc_curve

from . import data, strategies
from .data import HeldOut, Split
from .strategies import Strategy

FALSE_ALARMS = 0.01


@dataclass(frozen=True)
class Task:
    """One comparison on one way to draw the rows."""

    key: str
    title: str
    draw: Callable[[int, HeldOut], Split]
    strategies: tuple[Strategy, ...]
    measure: Callable[[np.ndarray, np.ndarray], Mapping[str, float]]
    """`(labels, scores) -> {name: value}`; higher is better, the first one leads the report."""
    epochs: int
    per_class: bool

    def lead(self, labels: np.ndarray, scores: np.ndarray) -> float:
        """The first measure alone."""
        return next(iter(self.measure(labels, scores).values()))


def per_class_ap(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """One-vs-rest average precision of each class, `[C]`."""
    return np.array(
        [average_precision_score(labels == c, scores[:, c]) for c in range(scores.shape[1])]
    )


def measure_long_tail(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Average precision over all classes and per group, and the recall of the tail."""
    ap = per_class_ap(labels, scores)
    groups = {name: float(ap[list(digits)].mean()) for name, digits in data.GROUPS.items()}
    tail = np.isin(labels, data.GROUPS["tail"])
    found = scores[tail].argmax(1) == labels[tail]
    return {
        "macro AP": float(ap.mean()),
        **{f"{name} AP": value for name, value in groups.items()},
        # The test set is balanced, so this is also the mean of the tail classes' recalls.
        "tail recall": float(found.mean()),
    }


def measure_rare_digit(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Average precision, and the recall that 1 % false alarms buy."""
    false_alarms, recall, _ = roc_curve(labels, scores, drop_intermediate=False)
    return {
        "AP": float(average_precision_score(labels, scores)),
        f"recall at {FALSE_ALARMS:.0%} FPR": float(recall[false_alarms <= FALSE_ALARMS].max()),
    }


def precision_at_each_positive(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Precision where the 1st, 2nd, ... positive is found, `[P]`.

    These are the exact steps of the precision-recall curve: without ties their mean is the
    average precision, so curves may be averaged over seeds without interpolation.
    """
    ranked = labels[np.argsort(-scores, kind="stable")].astype(bool)
    return np.asarray((np.cumsum(ranked) / np.arange(1, len(ranked) + 1))[ranked])


TASKS = {
    task.key: task
    for task in (
        Task(
            "long-tail",
            "Ten digits, long-tailed",
            data.long_tailed_digits,
            strategies.LONG_TAIL,
            measure_long_tail,
            epochs=60,
            per_class=True,
        ),
        Task(
            "rare-digit",
            f"Rare digit {data.RARE_DIGIT} against the rest",
            data.rare_digit,
            strategies.RARE_DIGIT,
            measure_rare_digit,
            epochs=60,
            per_class=False,
        ),
    )
}
