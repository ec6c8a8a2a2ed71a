"""What a table holds, before anything is trained: how rare, how sure, what to try."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from imbalanced_losses._checks import number
from imbalanced_losses._goals import Judge
from imbalanced_losses._ops.beta import clopper_pearson
from imbalanced_losses.compare._reading.parts import Part, compare_parts
from imbalanced_losses.compare._reading.read import names_in, prepare
from imbalanced_losses.compare._table import Finding, Table
from imbalanced_losses.recipes import BASELINE, GOALS, Capacity, Goal, recommend
from imbalanced_losses.recipes._advice import CAPACITIES

_WIDTHS = (0.1, 0.05, 0.02)
_REASONS = {
    BASELINE: (
        "Starting from the class frequencies costs one line, and no other recipe held its gain "
        "here on the sets of our study that it was not chosen on."
    ),
    "ensemble": (
        "The mean of four networks of averaged weights gained on the sets of our study that it was "
        "not chosen on. It takes four trainings."
    ),
    "smooth_ap_ensemble": (
        "The mean of four networks trained on cross-entropy mixed with Smooth-AP gained on the "
        "sets of our study that it was not chosen on. It takes four trainings of longer steps."
    ),
    "adjusted": (
        "Shifting the decision of a plainly trained model does for balanced decisions what class "
        "weights do, and leaves ranking and probabilities alone."
    ),
}


@dataclass(frozen=True)
class ClassShare:
    """Rows of one class, or positives of one label, and their share of all rows."""

    name: str
    rows: int
    share: float


@dataclass(frozen=True)
class Precision:
    """How well a recall is known from so many positives.

    Attributes:
        positives: Held-out rows of the rarest class.
        rows: That hold so many at its rate.
        low: End of the 95 % interval of a recall of one half, where it is widest.
        high: Its other end.
    """

    positives: int
    rows: int
    low: float
    high: float


@dataclass(frozen=True)
class Advice:
    """The recipe to begin with.

    Attributes:
        goal: What is to be high, one of `recipes.GOALS`.
        title: What a table calls it.
        recipes: Name of a recipe by capacity of the model.
    """

    goal: Goal
    title: str
    recipes: dict[Capacity, str]


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found.

    Attributes:
        name: Of the data.
        kind: `"binary"`, `"multiclass"` or `"multilabel"`.
        target: Names of the target or the labels.
        rows: Number of rows that can be used.
        different_rows: Without those that equal another, or share its group.
        classes: In the order of the outputs; binary: (negative, positive).
        imbalance: Rows of the most frequent class over those of the rarest; of labels, rows over
            positives of the rarest.
        columns: Number of columns of each type: numbers, dates, categories and texts.
        findings: What was found and done.
        precision: What the positives of the rarest class tell when each is held out once, and how
            many are needed to tell more.
        advice: For each goal.
        reasons: Why, for each recipe in the advice.
        test: What another part of the data shares with this one; None where there is none.
    """

    name: str
    kind: str
    target: tuple[str, ...]
    rows: int
    different_rows: int
    classes: tuple[ClassShare, ...]
    imbalance: float
    columns: dict[str, int]
    findings: tuple[Finding, ...]
    precision: tuple[Precision, ...]
    advice: tuple[Advice, ...]
    reasons: dict[str, str]
    test: Part | None = None

    def to_dict(self) -> dict[str, Any]:
        """All of it in dictionaries, lists, strings and numbers, as JSON has them."""
        return {"version": 1} | dataclasses.asdict(self)


def inspect(
    data: Any,
    target: str | Sequence[str] | None = None,
    *,
    positive: Any = None,
    drop: str | Sequence[str] = (),
    keep: str | Sequence[str] = (),
    group: str | None = None,
    folds: int = 5,
    budget: float | None = None,
    test: Any = None,
) -> Inspection:
    """Say what a table holds, what of it cannot be used, and what to try; nothing is trained.

    Args:
        data: A path to a CSV file (any delimiter, decimal sign and encoding, up to 1 GB), to a
            Parquet file, or to an NPZ file with `X` `[N, columns]`, `y` `[N]` or `[N, L]` (up to
            4 GB unpacked); a pandas data frame that holds the target; or a pair `(X, y)`.
        target: Name of the target column, or several of multi-label data; not needed for a pair.
        positive: The class that counts as positive. None: the rarer one of two.
        drop: Columns to leave out.
        keep: Columns to use although they look like ids, hold one value or copy the target.
        group: A column (or array of an NPZ file) of which rows with equal values belong together.
        folds: Into which a comparison would part the rows.
        budget: For goals that have one, in (0, 1); None: 0.01.
        test: Another part of the data, to find rows that are in both.

    Raises:
        DataError: The data cannot be used; the message says why and what to do.

    Examples:
        >>> import numpy as np
        >>> x = np.arange(200.0).reshape(100, 2) ** 2
        >>> found = inspect((x, np.arange(100) % 10 == 0))
        >>> [(one.name, one.rows) for one in found.classes]
        [('False', 90), ('True', 10)]
    """
    if budget is not None:
        budget = number("budget", budget, above=0, below=1)
    prepared = prepare(
        data, target, positive=positive, drop=drop, keep=keep, group=group, folds=folds
    )
    table = prepared.table
    rarest = min(table.counts[1:] if table.kind == "binary" else table.counts)
    advice = tuple(_advice(goal, table, budget) for goal in GOALS)
    named = {name for one in advice for name in one.recipes.values()}
    return Inspection(
        name=table.name,
        kind=table.kind,
        target=prepared.target,
        rows=len(table),
        different_rows=len(np.unique(table.groups)),
        classes=tuple(
            ClassShare(name, count, count / len(table))
            for name, count in zip(table.classes, table.counts, strict=True)
        ),
        imbalance=(len(table) if table.kind == "multilabel" else max(table.counts)) / rarest,
        columns=_types(prepared.features),
        findings=table.findings,
        precision=_precision(rarest, len(table)),
        advice=advice,
        reasons={name: _REASONS[name] for name in sorted(named)},
        test=None if test is None else compare_parts(prepared, test, names_in(target)),
    )


def _types(features: pd.DataFrame) -> dict[str, int]:
    numbers = sum(types.is_numeric_dtype(dtype) for dtype in features.dtypes)
    dates = sum(types.is_datetime64_any_dtype(dtype) for dtype in features.dtypes)
    others = features.shape[1] - numbers - dates
    return {"numbers": numbers, "dates": dates, "categories and texts": others}


def _precision(positives: int, rows: int) -> tuple[Precision, ...]:
    """What the positives here tell, and how many tell more, from few to many."""
    more = sorted({positives_needed(width) for width in _WIDTHS})
    counts = [positives, *(count for count in more if count > positives)]
    return tuple(
        Precision(n, round(n * rows / positives), *clopper_pearson(n / 2, n, 0.05)) for n in counts
    )


def positives_needed(width: float) -> int:
    """The fewest positives, by which a recall of one half is known within this much, at 95 %."""

    def reaches(n: int) -> bool:
        return 0.5 - clopper_pearson(n / 2, n, 0.05)[0] <= width

    # The half-width falls with 1 / sqrt(n) and is below that of the normal interval plus 1 / n.
    low, high = 1, 2
    while not reaches(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def _advice(goal: Goal, table: Table, budget: float | None) -> Advice:
    chosen = {capacity: recommend(goal, table.kind, capacity).name for capacity in CAPACITIES}
    return Advice(goal, Judge(goal, table.problem, budget).title, chosen)
