"""Rows that two parts of the data share, such as those to train on and those to test with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imbalanced_losses._errors import DataError, listed, quoted
from imbalanced_losses.compare._reading.columns import like
from imbalanced_losses.compare._reading.groups import row_hashes
from imbalanced_losses.compare._reading.read import Prepared, split_features
from imbalanced_losses.compare._reading.sources import read_source


@dataclass(frozen=True)
class Part:
    """Another part of the data, beside the first.

    Attributes:
        name: Of the part.
        rows: Number of its rows.
        shared: Of these, how many equal a row of the first part in every feature.
        share: The same as a share of its rows.
    """

    name: str
    rows: int
    shared: int
    share: float


def compare_parts(first: Prepared, data: Any, targets: Sequence[str]) -> Part:
    """How many rows of `data` equal a row of the first part in its features.

    The features are those that the first part uses, so that ids do not hide equal rows. The targets
    may be missing.

    Raises:
        DataError: The part cannot be read, or lacks a column.
    """
    source = read_source(data, targets)
    features = split_features(source)
    lacking = [name for name in first.features.columns if name not in features.columns]
    if lacking:
        raise DataError(
            f"{quoted(source.name)} lacks columns of {quoted(first.table.name)}: {listed(lacking)}."
        )
    known = row_hashes(first.features)
    rows = row_hashes(like(features, first.features))
    shared = int(np.isin(rows, known).sum())
    return Part(source.name, len(rows), shared, shared / len(rows))
