"""Rows that belong in one fold: equal ones, and those that the user groups."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from imbalanced_losses._errors import counted
from imbalanced_losses.compare._reading.targets import Targets
from imbalanced_losses.compare._table import Features, Finding

Groups = NDArray[np.int64]


def row_hashes(features: Features) -> NDArray[np.uint64]:
    """A number for each row, equal for equal rows; missing cells equal each other.

    Two of 500,000 different rows get the same number with a probability of 1e-8.
    """
    frame = pd.DataFrame(features, copy=False)
    plain: dict[Any, Any] = {}
    for name, column in frame.items():
        if pd.api.types.is_numeric_dtype(column.dtype):
            # Adding 0 makes the two zeros equal; numbers of any width are compared.
            plain[name] = column.to_numpy(np.float64, na_value=np.nan) + 0.0
        else:
            plain[name] = column.astype(object).where(column.notna(), None).astype(str)
    hashed = pd.util.hash_pandas_object(pd.DataFrame(plain), index=False)
    return np.asarray(hashed, dtype=np.uint64)


def group_rows(features: Features, targets: Targets, group: Any) -> tuple[Groups, list[Finding]]:
    """Number of each row's group, and what was seen of equal rows.

    Args:
        features: Without ids, which would make all rows different.
        targets: To tell whether equal rows agree.
        group: A value per row: rows of one value belong together; None where there is none.
    """
    equal = pd.factorize(row_hashes(features))[0].astype(np.int64)
    findings = _duplicates(equal, targets)
    if group is None:
        return equal, findings
    column = pd.Series(group).reset_index(drop=True)
    named, distinct = pd.factorize(column)
    unknown = named < 0
    named = named.astype(np.int64)
    named[unknown] = len(distinct) + np.arange(unknown.sum())
    groups = _joined(equal, named)
    message = f"Rows are kept together in {counted(int(groups.max()) + 1, 'group')}."
    if unknown.any():
        message += f" {counted(int(unknown.sum()), 'row')} without a group stand alone."
    return groups, [*findings, Finding("groups", message)]


def _joined(first: Groups, second: Groups) -> Groups:
    """Groups in which two rows are together if either grouping has them so, also over others."""
    nodes = int(first.max()) + 1
    size = nodes + int(second.max()) + 1
    edges = coo_array((np.ones(len(first), np.int8), (first, nodes + second)), shape=(size, size))
    _, parts = connected_components(edges, directed=False)
    groups: Groups = pd.factorize(parts[first])[0].astype(np.int64)
    return groups


def _duplicates(equal: Groups, targets: Targets) -> list[Finding]:
    sizes = np.bincount(equal)
    rows = int(sizes[sizes > 1].sum())
    if not rows:
        return []
    total = len(equal)
    message = (
        f"{counted(rows, 'row')} of {total:,} equal another row in every feature; equal rows stay "
        "in one fold, so that no model is judged on a row that it has seen."
    )
    if rows > total / 2:
        message += (
            f" There are {counted(len(sizes), 'different row')}: what is measured is for rows that "
            "are new, not for those seen before."
        )
    findings = [Finding("duplicates", message)]
    # In a group whose rows agree, the lowest and the highest target are equal.
    values = targets.values.reshape(total, -1)
    frame = pd.DataFrame(values).groupby(equal)
    differ = (frame.max() != frame.min()).any(axis=1).to_numpy()
    clash = int(sizes[differ].sum())
    if clash:
        message = (
            f"{counted(clash, 'row')} equal another row in every feature and have another target: "
            "no model can be right about all of them."
        )
        findings.append(Finding("conflicts", message))
    return findings
