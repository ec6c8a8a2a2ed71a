"""A table that is ready to be split: raw features, targets as numbers, and what was found in it."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from imbalanced_losses.recipes import Kind, Problem

Features: TypeAlias = pd.DataFrame | NDArray[np.floating]


@dataclass(frozen=True)
class Finding:
    """Something in the data that a user should know.

    Attributes:
        code: One word for programs, such as `"leak"` or `"duplicates"`.
        message: One or two sentences, in plain text: names in them are the user's own.
        columns: The columns that it is about, if any.
    """

    code: str
    message: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Table:
    """Rows in the order of the file, all of which may be used.

    Attributes:
        name: What a report calls the data.
        features: `[N, columns]`: raw columns of any dtype, or an array of numbers, of which NaN is
            a missing one.
        targets: Binary: int64 `[N]`, 1 for the rare or the named class. Multiclass: int64 `[N]`,
            class indices. Multi-label: uint8 `[N, L]`, zeros and ones.
        kind: `"binary"`, `"multiclass"` or `"multilabel"`.
        classes: Names: of the negative and the positive class, of the classes, or of the labels.
        groups: int64 `[N]`. Rows with equal features, or with an equal value in the column that the
            user names, have an equal number and belong in one fold.
        findings: What was seen and done on the way here.

    Raises:
        ValueError: The parts have different lengths.
    """

    name: str
    features: Features
    targets: NDArray[np.int64] | NDArray[np.uint8]
    kind: Kind
    classes: tuple[str, ...]
    groups: NDArray[np.int64]
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        lengths = {
            "features": len(self.features),
            "targets": len(self.targets),
            "groups": len(self.groups),
        }
        if len(set(lengths.values())) > 1:
            raise ValueError(
                f"features, targets and groups must have equal lengths; got {lengths}."
            )

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.targets)

    @property
    def counts(self) -> tuple[int, ...]:
        """Rows of each class in `classes`, or positives of each label."""
        if self.kind == "multilabel":
            return tuple(int(n) for n in self.targets.sum(0, dtype=np.int64))
        return tuple(int(n) for n in np.bincount(self.targets, minlength=len(self.classes)))

    @property
    def problem(self) -> Problem:
        """What a recipe has to know of these rows."""
        return Problem(self.kind, self.counts, len(self) if self.kind == "multilabel" else None)
