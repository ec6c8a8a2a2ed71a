"""The floor of a case: the work that its mathematics needs, over what this machine does at best."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.cases import Case
from benchmarks.ceilings import Ceilings
from imbalanced_losses._kernel import soft_rank


@dataclass(frozen=True)
class Work:
    """What forward and backward cannot do without.

    Attributes:
        bytes_moved: Read from or written to memory.
        exponentials: Elements that pass through exp.
        sigmoids: Elements that pass through a sigmoid.
        sorted: Elements of the rows that are sorted.
        selected: Elements from which the highest few are selected.
        quartered: Elements from which the highest quarter is selected.
        row: Length of such a row.
        operators: Small operators launched one after another, with their backward.
    """

    bytes_moved: float = 0
    exponentials: float = 0
    sigmoids: float = 0
    sorted: float = 0
    selected: float = 0
    quartered: float = 0
    row: int = 1
    operators: int = 0

    def milliseconds(self, ceilings: Ceilings) -> float:
        """Memory and arithmetic overlap; sorts come before; launches can hide behind neither."""
        streaming = self.bytes_moved * ceilings("copy", self.bytes_moved / 2)
        arithmetic = self.exponentials * ceilings("exp", self.exponentials)
        arithmetic += self.sigmoids * ceilings("sigmoid", self.sigmoids)
        ordering = self.sorted * ceilings("sort", self.row)
        ordering += self.selected * ceilings("top", self.row)
        ordering += self.quartered * ceilings("quarter", self.row)
        launching = self.operators * ceilings("step")
        return max(max(streaming, arithmetic) + ordering, launching) / 1e6


def _smooth_ap(case: Case) -> Work:
    """One sort; per row K exponentials as a source on either side; near pairs where it is seen.

    A row is seen if it is a positive, whose rank counts, or live, whose gradient does: L sigmoids
    of its block and K exponentials on either side.
    """
    terms, block = soft_rank.TERMS[torch.float32], soft_rank.BLOCK
    cells = case.classes * case.rows
    seen = case.classes * (case.positive_rows + case.shape[0])
    return Work(
        bytes_moved=4 * 2 * cells,
        exponentials=2 * terms * (cells + seen),
        sigmoids=block * seen,
        sorted=cells,
        row=case.rows,
        operators=10,
    )


def _recall(case: Case) -> Work:
    """One selection, and a sigmoid per positive."""
    cells = case.classes * case.rows
    return Work(
        bytes_moved=4 * cells,
        sigmoids=case.classes * case.positive_rows,
        selected=cells,
        row=case.rows,
        operators=5,
    )


def _partial_auc(case: Case) -> Work:
    """Three selections (the band and two quartiles); sigmoids per positive and knot or pair."""
    cells = case.classes * case.rows
    positives = case.classes * case.positive_rows
    band = max(1.0, 0.005 * (case.rows - case.positive_rows))
    knots = 2 if "trapezoid" in case.settings.values() else band
    return Work(
        bytes_moved=4 * cells,
        sigmoids=positives * knots,
        selected=cells,
        quartered=2 * cells,
        row=case.rows,
        operators=8,
    )


def _focal(case: Case) -> Work:
    """Logits read once, gradient written once, an exponential per cell."""
    cells = 1
    for size in case.shape:
        cells *= size
    size = torch.empty(0, dtype=getattr(torch, case.dtype)).element_size()
    return Work(bytes_moved=2 * size * cells, exponentials=cells, operators=2)


WORK: dict[str, Callable[[Case], Work]] = {
    "SmoothAPLoss": _smooth_ap,
    "RecallAtQuantileLoss": _recall,
    "PAUCAtBudgetLoss": _partial_auc,
    "SoftmaxFocalLoss": _focal,
    "SigmoidFocalLoss": _focal,
}


def work_of(case: Case) -> Work:
    """What the case's mathematics needs."""
    return WORK[case.loss](case)


def pass_of(case: Case, ceilings: Ceilings) -> float:
    """Milliseconds of one pass, read or write, over the case's logits."""
    size = _focal(case).bytes_moved / 2
    return size * ceilings("copy", size) / 1e6
