"""From a file or arrays to a `Table`: what is there, what is left out, and why."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbalanced_losses._checks import integer
from imbalanced_losses._errors import DataError, counted, listed, missing_name, quoted
from imbalanced_losses.compare._reading.columns import clean
from imbalanced_losses.compare._reading.groups import Groups, group_rows
from imbalanced_losses.compare._reading.leaks import find_leaks
from imbalanced_losses.compare._reading.sources import Source, read_source
from imbalanced_losses.compare._reading.targets import Targets, read_targets
from imbalanced_losses.compare._table import Finding, Table


def read_table(
    data: Any,
    target: str | Sequence[str] | None = None,
    *,
    positive: Any = None,
    drop: str | Sequence[str] = (),
    keep: str | Sequence[str] = (),
    group: str | None = None,
    folds: int = 5,
) -> Table:
    """Read data, whatever it is, as a `Table`.

    Args:
        data: A path to a CSV file (any delimiter, decimal sign and encoding, up to 1 GB), to a
            Parquet file, or to an NPZ file with `X` `[N, columns]`, `y` `[N]` or `[N, L]`, and
            `feature_names` and `label_names` if you like (up to 4 GB unpacked); a pandas data frame
            that holds the target; a pair `(X, y)` or a mapping with these keys; or a `Table`, which
            is returned as it is.
        target: Name of the target column, or several of multi-label data. For NPZ the name of the
            array, `"y"` by default; not needed for a pair.
        positive: The class that counts as positive. None: the rarer one of two.
        drop: Columns to leave out.
        keep: Columns to use although they look like ids, hold one value or copy the target.
        group: A column of which rows with equal values belong in one fold; it is no feature. For
            NPZ also an array `[N]`.
        folds: Classes of several that have fewer different rows are left out.

    Returns:
        The table, with all that was found and done in `findings`.

    Raises:
        DataError: The data cannot be compared; the message says why and what to do.
    """
    if isinstance(data, Table):
        return data
    return prepare(
        data, target, positive=positive, drop=drop, keep=keep, group=group, folds=folds
    ).table


class Prepared(NamedTuple):
    """A table, with what has no place in it.

    Attributes:
        table: The table.
        features: The same as its features, but always with the names of the columns.
        target: Names of the target or the labels.
    """

    table: Table
    features: pd.DataFrame
    target: tuple[str, ...]


def prepare(
    data: Any,
    target: str | Sequence[str] | None,
    *,
    positive: Any,
    drop: str | Sequence[str],
    keep: str | Sequence[str],
    group: str | None,
    folds: int,
) -> Prepared:
    """`read_table`, which documents the arguments, of data that are no table yet."""
    folds = integer("folds", folds, at_least=2)
    wanted, dropped, kept = names_in(target), names_in(drop), names_in(keep)
    source = read_source(data, wanted, group)
    frame, columns = split_target(source, wanted)
    grouping: Any = source.groups
    if group is not None and grouping is None:
        grouping, dropped = _column(frame, group), (*dropped, group)
    frame = _without(frame, dropped)
    for name in kept:
        _column(frame, name)

    targets = read_targets(columns, positive)
    features, findings = clean(frame, kept)
    copies, leaks = find_leaks(features, targets, kept)
    features = features.drop(columns=copies)
    if features.shape[1] == 0:
        why = " ".join(one.message for one in (*findings, *leaks))
        raise DataError(f"{quoted(source.name)} has no feature left to learn from. {why}".strip())
    groups, doubles = group_rows(features, targets, grouping)
    rows, targets = keep_frequent(targets, groups, folds)
    if len(rows) < len(groups):
        features = features.iloc[rows].reset_index(drop=True)
        groups = pd.factorize(groups[rows])[0].astype(np.int64)
    as_array = not isinstance(source.features, pd.DataFrame)
    table = Table(
        name=source.name,
        features=features.to_numpy(source.features.dtype) if as_array else features,
        targets=targets.values,
        kind=targets.kind,
        classes=targets.classes,
        groups=groups,
        findings=(*source.findings, *leaks, *targets.findings, *findings, *doubles),
    )
    return Prepared(table, features, tuple(name for name, _ in columns))


def names_in(names: str | Sequence[str] | None) -> tuple[str, ...]:
    """One name, several or none, as a tuple without doubles."""
    given = () if names is None else (names,) if isinstance(names, str) else names
    return tuple(dict.fromkeys(map(str, given)))


def split_target(
    source: Source, wanted: Sequence[str]
) -> tuple[pd.DataFrame, list[tuple[str, Any]]]:
    """The features as a frame, and name and values of each target."""
    features = split_features(source)
    if source.targets is not None:
        values = source.targets.reshape(len(features), -1)
        names = wanted if len(wanted) == values.shape[1] else source.labels
        return features, list(zip(names, values.T, strict=True))
    if not wanted:
        raise DataError(
            f"The target must be named, since {quoted(source.name)} has several columns: "
            f"{listed(features.columns)}."
        )
    columns = [(name, _column(features, name)) for name in wanted]
    return features.drop(columns=list(wanted)), columns


def split_features(source: Source) -> pd.DataFrame:
    """The columns of a source as a frame; those of an array are called x0, x1 and so on."""
    if isinstance(source.features, pd.DataFrame):
        return source.features
    features = pd.DataFrame(source.features, copy=False)
    return features.set_axis([f"x{k}" for k in range(features.shape[1])], axis=1)


def _column(frame: pd.DataFrame, name: str) -> pd.Series:
    if name not in frame.columns:
        raise missing_name(name, frame.columns)
    return frame[name]


def _without(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    for name in names:
        _column(frame, name)
    return frame.drop(columns=list(names))


def keep_frequent(
    targets: Targets, groups: Groups, folds: int
) -> tuple[NDArray[np.int64], Targets]:
    """Leave out classes and labels that some fold would lack, or refuse where two are needed.

    Returns:
        The rows that stay, and their targets.
    """
    if targets.kind == "multilabel":
        return _keep_labels(targets, groups, folds)
    rows = np.arange(len(groups))
    sizes = _groups_of(targets.values, groups, len(targets.classes))
    rare = np.flatnonzero(sizes < folds)
    if not rare.size:
        return rows, targets
    names = [targets.classes[k] for k in rare]
    counts = np.bincount(targets.values, minlength=len(targets.classes))
    kept = np.flatnonzero(~np.isin(targets.values, rare))
    lost = len(rows) - len(kept)
    if len(sizes) > 2 and lost > len(rows) / 2:
        raise DataError(
            f"{counted(len(rare), 'class')} of {len(sizes):,} have fewer than {folds} different "
            f"rows, which are {lost:,} of all {counted(len(rows), 'row')}. Join classes, or name "
            "another target."
        )
    if len(sizes) - len(rare) < 2:
        found = " and ".join(
            f"{quoted(targets.classes[k])} has {_size(int(counts[k]), int(sizes[k]))}"
            for k in rare[:3]
        )
        raise DataError(
            f"Each of {folds} folds needs rows of two classes, but {found}. {_fix(sizes)}"
        )
    message = (
        f"Left out, {counted(lost, 'row')} of classes with fewer than {folds} different rows, one "
        f"for each fold: {listed(names)}."
    )
    values = np.searchsorted(np.flatnonzero(sizes >= folds), targets.values[kept])
    classes = tuple(
        name for name, size in zip(targets.classes, sizes, strict=True) if size >= folds
    )
    findings = (*targets.findings, Finding("rare_classes", message))
    if len(classes) == 2:
        # The rarer class is the positive one, as where there are two from the start.
        if values.sum() * 2 > len(values):
            values, classes = 1 - values, classes[::-1]
        return kept, Targets(values.astype(np.int64), "binary", classes, findings)
    return kept, Targets(values.astype(np.int64), "multiclass", classes, findings)


def _keep_labels(targets: Targets, groups: Groups, folds: int) -> tuple[NDArray[np.int64], Targets]:
    """`keep_frequent` of labels: each needs positives and negatives in every fold."""
    sizes = np.array([_groups_of(label, groups, 2).min() for label in targets.values.T])
    rows, kept = np.arange(len(groups)), np.flatnonzero(sizes >= folds)
    if not kept.size:
        raise DataError(
            f"No label has {folds} different positive and {folds} different negative rows, one for "
            f"each fold. {_fix(sizes)}"
        )
    if len(kept) == len(sizes):
        return rows, targets
    names = [name for name, size in zip(targets.classes, sizes, strict=True) if size < folds]
    message = (
        f"Left out, labels with fewer than {folds} different positive or negative rows, one for "
        f"each fold: {listed(names)}."
    )
    findings = (*targets.findings, Finding("rare_classes", message, tuple(names)))
    values, classes = targets.values[:, kept], tuple(targets.classes[k] for k in kept)
    if len(kept) == 1:
        binary = values[:, 0].astype(np.int64)
        return rows, Targets(binary, "binary", (f"not {classes[0]}", classes[0]), findings)
    return rows, Targets(values, "multilabel", classes, findings)


def _groups_of(codes: NDArray[Any], groups: Groups, classes: int) -> NDArray[np.int64]:
    """In how many groups each class has rows."""
    pairs = np.unique(groups * classes + codes.astype(np.int64))
    return np.bincount(pairs % classes, minlength=classes)


def _size(rows: int, groups: int) -> str:
    return counted(rows, "row") + (f" in {counted(groups, 'group')}" if groups < rows else "")


def _fix(sizes: NDArray[np.int64]) -> str:
    """What to do about classes of so many groups."""
    most = int(np.sort(sizes)[-2]) if len(sizes) > 1 else int(sizes.max())
    if most < 2:
        return "Collect more rows of it: nothing can be measured with fewer than two."
    return f"Use at most {most} folds, or collect more rows."
