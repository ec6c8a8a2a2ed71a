"""Features that give the target away."""

from collections.abc import Collection
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types
from sklearn.tree import DecisionTreeClassifier

from imbalanced_losses._errors import listed
from imbalanced_losses.compare._reading.targets import Targets
from imbalanced_losses.compare._table import Finding

Codes: TypeAlias = NDArray[np.integer]

_NEARLY = 0.98
_FEWEST = 5
_ROWS = 20_000
# Of one column and one label; each takes about 10 ms.
_MOST_TRIES = 200


def find_leaks(
    frame: pd.DataFrame, targets: Targets, keep: Collection[str] = ()
) -> tuple[list[str], list[Finding]]:
    """Columns to leave out, and what was found.

    A column that is the target under other names is left out. One that predicts it nearly without
    fault is only named, since some problems are so easy: a tree of that column alone, grown on half
    of the rows, has an F1 of at least .98 for every class on the other half.
    """
    labels = targets.values.reshape(len(frame), -1)
    copies = [
        str(name)
        for name, column in frame.items()
        if name not in keep and any(_is_copy(column, label) for label in labels.T)
    ]
    findings = []
    if copies:
        message = (
            f"LEAK, left out: a copy of the target under another name: {listed(copies)}. With it "
            "every model would be right, and teach nothing of new rows."
        )
        findings.append(Finding("copy", message, tuple(copies)))
    rows, weights = _some_rows(labels)
    near = [
        name
        for name in _worth_a_try(frame, labels, rows)
        if name not in copies and _predicts(frame[name].iloc[rows], labels[rows], weights)
    ]
    if near:
        message = (
            f"LEAK? Predicts the target alone, nearly without fault: {listed(near)}. If it is "
            "known only after the target, leave it out with drop."
        )
        findings.append(Finding("leak", message, tuple(near)))
    return copies, findings


def _is_copy(column: pd.Series, label: Codes) -> bool:
    """Whether the values of the column and the classes are the same but for their names."""
    codes, distinct = pd.factorize(column, use_na_sentinel=False)
    classes = len(np.unique(label))
    if len(distinct) != classes:
        return False
    pairs = codes.astype(np.int64) * (int(label.max()) + 1) + label
    return len(np.unique(pairs)) == classes


def _some_rows(labels: Codes) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows enough to judge a column by, in random order, and how many rows each stands for.

    Of one target, every class has its share of them, so that rare ones are not lost.
    """
    # A seed of our own: one that a user shuffled by would put all positives first.
    random = np.random.default_rng(72_019)
    order = random.permutation(len(labels))
    if len(order) <= _ROWS:
        return order, np.ones(len(order))
    if labels.shape[1] > 1:
        return order[:_ROWS], np.ones(_ROWS)
    shuffled = labels[order, 0]
    counts = np.bincount(shuffled)
    # Of each class the first few, of k classes no more than the k-th part; then shuffled again,
    # since those of a frequent class come early.
    place = pd.Series(shuffled).groupby(shuffled).cumcount().to_numpy()
    most = _ROWS // np.count_nonzero(counts)
    taken = random.permutation(np.flatnonzero(place < most))
    weights = counts / np.minimum(counts, most).clip(1)
    return order[taken], weights[shuffled[taken]]


def _worth_a_try(frame: pd.DataFrame, labels: Codes, rows: NDArray[np.int64]) -> list[str]:
    """All columns, or of very many those numbers that go with the target most, and the others."""
    most = max(10, _MOST_TRIES // labels.shape[1])
    numbers = [name for name, column in frame.items() if types.is_numeric_dtype(column.dtype)]
    if len(numbers) <= most:
        return list(frame.columns)
    x = np.nan_to_num(frame.iloc[rows][numbers].to_numpy(np.float64))
    if labels.shape[1] == 1:
        labels = (labels == np.unique(labels)).astype(np.int64)
    y = labels[rows].astype(np.float64)
    spread = np.maximum(x.std(0), 1e-300)[:, None] * np.maximum(y.std(0), 1e-300)
    strength = np.abs((x - x.mean(0)).T @ (y - y.mean(0)) / len(x) / spread).max(1)
    best = {numbers[k] for k in strength.argsort()[-most:]}
    return [name for name in frame.columns if name in best or name not in numbers]


def _predicts(column: pd.Series, labels: Codes, weights: NDArray[np.float64]) -> bool:
    """Whether one column alone is right about every class of a label."""
    guess = _by_tree if types.is_numeric_dtype(column.dtype) else _by_value
    if types.is_datetime64_any_dtype(column.dtype):
        column, guess = column.astype("int64"), _by_tree
    half = len(column) // 2
    for label in labels.T:
        known, hidden, weight = label[:half], label[half:], weights[half:]
        size = int(label.max()) + 1
        enough = np.minimum(np.bincount(known, minlength=size), np.bincount(hidden, minlength=size))
        judged = enough >= _FEWEST
        if judged.sum() < 2:
            continue
        said = guess(column[:half], known, column[half:])
        right = np.bincount(hidden[said == hidden], weight[said == hidden], size)
        both = np.bincount(said, weight, size) + np.bincount(hidden, weight, size)
        if (2 * right >= _NEARLY * both)[judged].all():
            return True
    return False


def _by_tree(column: pd.Series, known: Codes, later: pd.Series) -> Codes:
    """Classes of later rows by cuts through a column of numbers."""
    tree = DecisionTreeClassifier(max_leaf_nodes=4 * (int(known.max()) + 1), random_state=0)
    tree.fit(column.to_numpy(np.float64)[:, None], known)
    found: Codes = tree.predict(later.to_numpy(np.float64)[:, None])
    return found


def _by_value(column: pd.Series, known: Codes, later: pd.Series) -> Codes:
    """Classes of later rows: the most frequent one of rows with an equal value."""
    pairs = pd.DataFrame({"value": column.astype(str).to_numpy(), "label": known})
    often = pairs.value_counts().reset_index().drop_duplicates("value")
    found = later.astype(str).map(often.set_index("value")["label"])
    return found.fillna(np.bincount(known).argmax()).to_numpy(np.int64)
