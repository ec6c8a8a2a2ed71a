"""The outside view: gradient boosting, tuned on the validation rows that end the nets' training."""

from collections.abc import Callable, Iterator
from itertools import islice, repeat
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from imbalanced_losses.compare._result import Floats

Value: TypeAlias = Callable[[Floats], float]

TREES = 300
# Trees between two looks at the validation rows, of which the nets have about as many.
_EVERY = 10
# Learning rate, leaves, and least rows of a leaf: rare classes need small leaves or few splits.
SETTINGS: tuple[dict[str, Any], ...] = (
    {"learning_rate": 0.05, "max_leaf_nodes": 31, "min_samples_leaf": 20},
    {"learning_rate": 0.1, "max_leaf_nodes": 8, "min_samples_leaf": 5},
    {"learning_rate": 0.03, "max_leaf_nodes": 8, "min_samples_leaf": 20},
)


class Boosted(NamedTuple):
    """Boosted trees of each output and how many of them did best."""

    models: tuple[HistGradientBoostingClassifier | float, ...]
    trees: int
    value: float

    def logits(self, x: Floats) -> Floats:
        """`[N, outputs]` in float64."""
        return next(islice(_staged(self.models, x, self.trees), self.trees - 1, None))


def boost(x: Floats, y: Any, x_val: Floats, value: Value, *, trees: int, seed: int) -> Boosted:
    """Train each of the settings, and keep the one and the number of trees of the highest value.

    Args:
        x: Training rows `[N, features]`; NaN is a missing number.
        y: Class indices `[N]` (0 and 1 for binary problems), or zeros and ones `[N, L]` of labels.
        x_val: Validation rows.
        value: Of logits of the validation rows, `[n, outputs]`, higher being better.
        trees: That each setting trains.
        seed: Of the bins.
    """
    best: Boosted | None = None
    # One thread, as the nets have, so that trials in parallel do not wait for each other.
    with threadpool_limits(limits=1):
        for settings in SETTINGS:
            targets = [y] if y.ndim == 1 else list(y.T)
            models = tuple(_train(x, one, settings | {"max_iter": trees}, seed) for one in targets)
            for number, logits in enumerate(_staged(models, x_val, trees), 1):
                if number % _EVERY:
                    continue
                reached = value(logits)
                if best is None or reached > best.value:
                    best = Boosted(models, number, reached)
    assert best is not None
    return best


def _train(
    x: Floats, y: Any, settings: dict[str, Any], seed: int
) -> HistGradientBoostingClassifier | float:
    """The model, or the one logit of a label that all rows or none have."""
    share = y.mean()
    if y.max() == y.min():
        return 20.0 if share > 0 else -20.0
    model = HistGradientBoostingClassifier(early_stopping=False, random_state=seed, **settings)
    return model.fit(x, y)


def _staged(
    models: tuple[HistGradientBoostingClassifier | float, ...], x: Floats, trees: int
) -> Iterator[Floats]:
    """Logits after each tree."""
    parts = [
        repeat(np.full(len(x), model), trees)
        if isinstance(model, float)
        else model.staged_decision_function(x)
        for model in models
    ]
    for logits in zip(*parts, strict=True):
        yield np.concatenate([one.reshape(len(x), -1) for one in logits], axis=1)
