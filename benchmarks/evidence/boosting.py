"""Gradient boosting on the folds of the study: the view from outside of neural networks.

It is tuned as the networks are: for each goal the validation rows choose among learning rates,
sizes of the trees and numbers of them.
"""

from argparse import Namespace
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier

from benchmarks.evidence.chunks import restore
from benchmarks.evidence.outside import in_turn, merge, rows_of
from benchmarks.evidence.sets import Floats, Fold, Task

FILE = "boosting.csv"
NAME = "boosting"
CHUNKS = Path("outputs/evidence/boosting")

RATES, LEAVES = (0.05, 0.2), (7, 31)
# Numbers of trees that the validation rows choose among; 200 trees unless their log-loss there has
# not fallen for 20 trees.
STAGES, PATIENCE = (5, 10, 20, 40, 80, 200), 20


def fit(task: Task, x: Floats, part: Fold) -> tuple[Floats, Sequence[float]]:
    """Logits of all candidates on validation and test rows `[K, rows, C]`, and their rates."""
    judged = np.concatenate([part.validation, part.test])
    found, rates = [], []
    for rate, leaves in product(RATES, LEAVES):
        model = HistGradientBoostingClassifier(
            learning_rate=rate,
            max_leaf_nodes=leaves,
            max_iter=STAGES[-1],
            # A rare class has fewer rows than the default of a leaf.
            min_samples_leaf=5,
            early_stopping=True,
            n_iter_no_change=PATIENCE,
            random_state=0,
        )
        y = task.y
        model.fit(x[part.fit], y[part.fit], X_val=x[part.validation], y_val=y[part.validation])
        stages = _staged(model, x[judged])
        found += [stages[min(stage, len(stages)) - 1] for stage in STAGES]
        rates += [rate] * len(STAGES)
    return np.stack(found), rates


def _staged(model: HistGradientBoostingClassifier, x: Floats) -> list[Floats]:
    """Logits after each tree, `[rows, C]`."""
    return [raw.reshape(len(x), -1).astype(np.float32) for raw in model.staged_decision_function(x)]


def main(options: Namespace) -> None:
    """Fit every set that is not there yet, and write all rows."""

    def work(task: Task) -> pd.DataFrame:
        return rows_of(task, NAME, NAME, fit)

    restore(options.output / FILE, CHUNKS, ["set"])
    for _ in in_turn(options, CHUNKS, work, lambda task: True):
        pass
    merge(CHUNKS, options.output / FILE)
