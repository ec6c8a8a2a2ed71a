"""What a recipe has to know of a problem."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from imbalanced_losses import _checks

Kind: TypeAlias = Literal["binary", "multiclass", "multilabel"]
"""One logit per row; one logit per class, of which one holds; one logit per label."""

KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Problem:
    """What a recipe has to know of the training rows.

    Attributes:
        kind: `"binary"` (one logit per row), `"multiclass"` (one logit per class, of which one
            holds) or `"multilabel"` (one logit per label).
        counts: Rows of each class, `(negatives, positives)` for binary problems; positives of each
            label for multi-label ones. All above 0.
        rows: Number of rows. Needed for multi-label problems; otherwise the sum of the counts.

    Raises:
        TypeError: A setting has the wrong type.
        ValueError: A count is not above 0, their number does not fit the kind, or a label is
            positive in all rows.

    Examples:
        >>> Problem("binary", (980, 20)).rates
        (0.02,)
    """

    kind: Kind
    counts: Sequence[float]
    rows: float | None = None

    def __post_init__(self) -> None:
        _checks.one_of("kind", self.kind, KINDS)
        counts = tuple(_checks.number("counts", n, above=0) for n in self.counts)
        if self.kind == "binary" and len(counts) != 2:
            raise ValueError(
                f"counts of a binary problem must be (negatives, positives); got {counts}."
            )
        if self.kind == "multiclass" and len(counts) < 2:
            raise ValueError(f"counts must hold at least two classes; got {counts}.")
        if self.kind != "multilabel":
            rows: float = sum(counts)
            if self.rows is not None and self.rows != rows:
                raise ValueError(f"rows must be the sum of the counts, {rows:g}; got {self.rows}.")
        elif self.rows is None:
            raise ValueError("rows must be the number of rows for kind='multilabel'; got None.")
        else:
            rows = _checks.number("rows", self.rows, above=0)
            if not counts or max(counts) >= rows:
                raise ValueError(
                    f"counts must hold one count per label, each below rows={rows:g}; got {counts}."
                )
        _checks.settle(self, counts=counts, rows=rows)

    @property
    def outputs(self) -> int:
        """Logits per row."""
        return 1 if self.kind == "binary" else len(self.counts)

    @property
    def positives(self) -> tuple[float, ...]:
        """Rows in which each output's class or label holds."""
        return tuple(self.counts[1:] if self.kind == "binary" else self.counts)

    @property
    def rates(self) -> tuple[float, ...]:
        """Their shares of all rows."""
        assert self.rows is not None
        return tuple(n / self.rows for n in self.positives)
