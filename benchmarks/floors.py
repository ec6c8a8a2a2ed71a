"""The floor of a case: the work that its mathematics needs, over what this machine does at best.

The work is counted for the cheaper of the ways that are known: Smooth-AP through a sort, or pair
by pair where there are few positives.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.cases import Case
from benchmarks.ceilings import Ceilings
from imbalanced_losses._ops.soft_counts import blocks as soft_rank


@dataclass(frozen=True)
class Work:
    """What forward and backward cannot do without.

    Attributes:
        read: Bytes read from memory.
        written: Bytes of the gradient, written to memory of its own.
        exponentials: Elements that pass through exp.
        sigmoids: Elements that pass through a sigmoid.
        sorted: Elements of the rows that are sorted.
        selected: Elements from which an order statistic is selected.
        row: Length of a row that is sorted or selected from.
        operators: Small operators launched one after another, with their backward.
    """

    read: float
    written: float
    exponentials: float = 0
    sigmoids: float = 0
    sorted: float = 0
    selected: float = 0
    row: int = 1
    operators: int = 2

    def milliseconds(self, ceilings: Ceilings) -> float:
        """Memory and arithmetic overlap, ordering comes first, launches hide behind the rest."""
        streaming = self.read * ceilings("copy", self.read)
        streaming += self.written * ceilings("fresh", self.written)
        arithmetic = self.exponentials * ceilings("exp", self.exponentials)
        arithmetic += self.sigmoids * ceilings("sigmoid", self.sigmoids)
        ordering = self.sorted * ceilings("sort", self.row)
        ordering += self.selected * ceilings("top", self.row)
        launching = self.operators * ceilings("step")
        return max(max(streaming, arithmetic) + ordering, launching) / 1e6


def _smooth_ap(case: Case) -> list[Work]:
    """Through a sort, or all pairs of a positive and a row, whose sigmoid gives its slope too.

    After the sort: per row, K exponentials as a source on either side; per row that is seen, L
    sigmoids of its block and K exponentials on either side. A row is seen if it is a positive,
    whose rank counts, or live, whose gradient does.
    """
    terms, block = soft_rank.TERMS[torch.float32], soft_rank.BLOCK
    cells, positives = case.classes * case.rows, case.classes * case.positive_rows
    live = _bytes(case)
    seen = positives + math.prod(case.shape)
    by_sort = Work(
        read=4 * cells,
        written=live,
        exponentials=2 * terms * (cells + seen),
        sigmoids=block * seen,
        sorted=cells,
        row=case.rows,
        operators=10,
    )
    by_pairs = Work(4 * cells, live, sigmoids=positives * case.rows, operators=10)
    return [by_sort, by_pairs]


def _recall(case: Case) -> list[Work]:
    """One selection, and a sigmoid per positive."""
    cells, positives = case.classes * case.rows, case.classes * case.positive_rows
    order = {"selected": cells, "row": case.rows}
    return [Work(4 * cells, _bytes(case), sigmoids=positives, operators=5, **order)]


def _partial_auc(case: Case) -> list[Work]:
    """Three selections (the band and two quartiles); sigmoids per positive and knot or pair."""
    cells, positives = case.classes * case.rows, case.classes * case.positive_rows
    band = max(1.0, 0.005 * (case.rows - case.positive_rows))
    knots = 2 if "trapezoid" in case.settings.values() else band
    order = {"selected": 3 * cells, "row": case.rows}
    return [Work(4 * cells, _bytes(case), sigmoids=positives * knots, operators=8, **order)]


def _focal(case: Case) -> list[Work]:
    """Logits read once, gradient written once, an exponential per cell."""
    return [Work(_bytes(case), _bytes(case), exponentials=math.prod(case.shape))]


WAYS: dict[str, Callable[[Case], list[Work]]] = {
    "SmoothAPLoss": _smooth_ap,
    "RecallAtQuantileLoss": _recall,
    "PAUCAtBudgetLoss": _partial_auc,
    "SoftmaxFocalLoss": _focal,
    "SigmoidFocalLoss": _focal,
}


def floor_of(case: Case, ceilings: Ceilings) -> float:
    """Milliseconds that the case's mathematics needs on a machine with these ceilings."""
    return min(work.milliseconds(ceilings) for work in WAYS[case.loss](case))


def pass_of(case: Case, ceilings: Ceilings) -> float:
    """Milliseconds of one pass, read or write, over the case's logits."""
    size = _bytes(case)
    return size * ceilings("copy", size) / 1e6


def _bytes(case: Case) -> float:
    """Bytes of the case's logits, and of their gradient."""
    dtype: torch.dtype = getattr(torch, case.dtype)
    return math.prod(case.shape) * dtype.itemsize
