"""From the arrays of scikit-learn to the rows of a training: targets, held-out rows, scale."""

from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from torch import Tensor

from imbalanced_losses._warn import warn
from imbalanced_losses.recipes import Kind, Problem

# Up to about so many units from the median a feature stays as it is.
_STRAIGHT = 4.5


class Targets(NamedTuple):
    """Targets as a loss wants them, and what they are called."""

    kind: Kind
    y: Tensor  # class indices [N], or zeros and ones [N, outputs]
    classes: Any  # labels in sorted order; numbers of the labels for multi-label problems
    positive: int  # binary problems: which of the two classes is 1 in y

    @property
    def marks(self) -> Tensor:
        """Zeros and ones `[N, C]` with a column for each class or label."""
        if self.kind == "multiclass":
            return torch.nn.functional.one_hot(self.y, len(self.classes))
        return self.y.long()


def read_targets(y: Any, pos_label: Any) -> Targets:
    """Labels `[N]` or `[N, 1]` of any type, or zeros and ones `[N, labels]`."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    check_classification_targets(y)
    if y.ndim == 2:
        if type_of_target(y) != "multilabel-indicator":
            raise ValueError(
                "y must hold one label per row, or zeros and ones [N, labels]; got a "
                f"{type_of_target(y)} target of shape {list(y.shape)}."
            )
        if pos_label is not None:
            raise ValueError(f"pos_label is for binary problems; got {pos_label!r}.")
        marks = torch.from_numpy((y != 0).astype(np.float32))
        return Targets("multilabel", marks, np.arange(y.shape[1]), 1)
    classes, index = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"y must hold at least two classes; got one class, {classes[0]!r}.")
    if len(classes) > 2:
        if pos_label is not None:
            raise ValueError(
                f"pos_label is for binary problems; got {pos_label!r} and {len(classes)} classes."
            )
        return Targets("multiclass", torch.from_numpy(index.astype(np.int64)), classes, 1)
    positive = int(2 * index.sum() <= len(index))
    if pos_label is not None:
        labels = classes.tolist()
        if pos_label not in labels:
            raise ValueError(f"pos_label must be one of the classes {labels}; got {pos_label!r}.")
        positive = labels.index(pos_label)
    marks = torch.from_numpy((index == positive).astype(np.float32))
    return Targets("binary", marks.unsqueeze(1), classes, positive)


def split(targets: Targets, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to train on and rows to hold out, bool `[N]` each: that share of every class or label.

    Rarest first, as in Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label
    Data", ECML 2011. A class, a label's positives and its negatives keep at least one row to train
    on, and where they have two, one is held out if the other labels permit. Where no row can be
    held out, those to train on stand in for them, with a warning.
    """
    marks = targets.marks.bool()
    if targets.kind != "multiclass":
        marks = torch.cat([marks, ~marks], 1)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(marks), generator=generator)
    free = torch.ones(len(marks), dtype=torch.bool)
    held = torch.zeros(len(marks), dtype=torch.bool)
    for column in marks.sum(0).argsort(stable=True).tolist():
        own = marks[:, column]
        count = int(own.sum())
        wanted = min(max(round(fraction * count), 1), count - 1) - int((own & held).sum())
        rows = order[(own & free)[order]]
        held[rows[: max(wanted, 0)]] = True
        free &= ~own
    for own in marks.T:  # rows that other labels hold out may be all that one has
        if own.any() and not (own & ~held).any():
            held[own.nonzero()[0]] = False
    if not held.any():
        warn(
            "No class of y has a second row that could be held out: the training stops by the rows "
            "that it trains on."
        )
        return ~held, ~held
    return ~held, held


def problem_of(targets: Targets, rows: Tensor, weight: Tensor) -> Problem:
    """The problem on these rows, each counted by its weight.

    Raises:
        ValueError: A label has no positive or no negative among them.
    """
    mass = weight[rows].double()
    counts = (targets.marks[rows].double() * mass.unsqueeze(1)).sum(0)
    total = float(mass.sum())
    if targets.kind == "multiclass":
        return Problem("multiclass", counts.tolist())
    if targets.kind == "binary":
        return Problem("binary", (total - float(counts[0]), float(counts[0])))
    marks = targets.y[rows]
    for label, column in enumerate(marks.T):
        if (column == column[0]).all():
            raise ValueError(
                f"y must have positives and negatives of each label among the rows to train on; "
                f"label {label} is {int(column[0])} in all of them. Leave the label out."
            )
    return Problem("multilabel", counts.tolist(), rows=total)


class Scaler(NamedTuple):
    """Brings features to mean 0 and standard deviation 1, after it has drawn in their tails.

    arcsinh is a straight line near 0 and a logarithm far from it. Amounts of money, with a few that
    are a thousand times the usual one, would otherwise leave all usual ones in a speck, and a
    network blind to them; a normal feature hardly changes. A linear model of a label that is linear
    in such a tail loses by it. Distances from the median are in units of their own median over the
    rows that are not at it, so that a feature that is most often zero has a unit as well.

    Burbidge, Magee and Robb, Alternative Transformations to Handle Extreme Values of the Dependent
    Variable, Journal of the American Statistical Association 83, 1988,
    https://doi.org/10.1080/01621459.1988.10478575.
    """

    median: Any
    unit: Any
    mean: Any
    spread: Any

    @classmethod
    def of(cls, x: Any) -> "Scaler":
        """Of these rows. A constant feature becomes 0."""
        median = np.median(x, 0)
        far = np.abs(x - median)
        # What rounding leaves of a constant is no distance.
        far[far <= 10 * np.finfo(float).eps * np.abs(median)] = 0
        unit = np.array([np.median(one[one > 0]) if one.any() else np.inf for one in far.T])
        raw = cls(median, unit * _STRAIGHT, 0.0, 1.0)
        drawn = raw(x)
        spread = drawn.std(0)
        return raw._replace(mean=drawn.mean(0), spread=np.where(spread > 0, spread, 1.0))

    def __call__(self, x: Any) -> Any:
        """The features in standard deviations from the mean."""
        return (np.arcsinh((x - self.median) / self.unit) - self.mean) / self.spread


def row_weights(sample_weight: Any, rows: int) -> Any:
    """Weights `[N]` as float64, or None.

    Raises:
        ValueError: They have another shape, are negative or not finite, or all are 0.
    """
    if sample_weight is None:
        return None
    weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != (rows,):
        raise ValueError(f"sample_weight must have shape [n] = [{rows}]; got {list(weight.shape)}.")
    if not np.isfinite(weight).all() or (weight < 0).any():
        raise ValueError(
            "sample_weight must be finite and not negative; it holds "
            f"{weight.min():g} to {weight.max():g}."
        )
    if not weight.any():
        raise ValueError("sample_weight must not be zero in all rows.")
    return weight / weight.max()
