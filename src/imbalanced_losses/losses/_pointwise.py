"""The road of every pointwise loss: cells -> weights -> reduction; its function and its module."""

import copy
from contextlib import nullcontext
from dataclasses import dataclass, fields
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor

from imbalanced_losses import _checks
from imbalanced_losses.distributed import (
    describe,
    failing_together,
    resolve_gather,
    sum_across_ranks,
)
from imbalanced_losses.losses._module import Loss, Setting

REDUCTIONS = ("none", "mean", "sum", "mean_positive")


class Cells(NamedTuple):
    """What each cell of the targets costs: a position of exclusive classes, or a binary decision.

    Where only the sum was asked for, `value` may be that.
    """

    value: Tensor  # the targets' shape, 0 where not valid; float32 or float64
    valid: Tensor | None  # mask of the cells that count; None: all
    number: int  # of cells, valid or not
    classes: int | None = None  # C of exclusive classes, on which all ranks agree; None: any shape


class Criterion:
    """What a pointwise loss asks of each cell: a frozen dataclass whose fields are its settings.

    `__post_init__` checks them, once. A field that is a tensor follows the module's device.
    """

    def cells(self, logits: Tensor, targets: Tensor, *, total: bool) -> Cells:
        """Check a batch, and cost its cells. With `total` only their sum will be read."""
        raise NotImplementedError

    def positive(self, logits: Tensor, targets: Tensor) -> Tensor:
        """How much of each cell is positive, in [0, 1]: what `"mean_positive"` divides by."""
        raise NotImplementedError


@dataclass(frozen=True)
class PointwiseSettings:
    """What every pointwise loss can be told, its function and its module alike."""

    reduction: str = "mean"
    gather_distributed: bool | None = None

    def __post_init__(self) -> None:
        _checks.one_of("reduction", self.reduction, REDUCTIONS)
        _checks.flag("gather_distributed", self.gather_distributed, optional=True)


def pointwise_loss(
    criterion: Criterion,
    settings: PointwiseSettings,
    logits: Tensor,
    targets: Tensor,
    sample_weight: Tensor | None,
) -> Tensor:
    """The reduced loss of a batch, over all ranks where it gathers."""
    reduction = settings.reduction
    gathers = resolve_gather(settings.gather_distributed) and reduction != "none"
    with failing_together(logits) if gathers else nullcontext():
        total = reduction != "none" and sample_weight is None
        value, valid, number, classes = criterion.cells(logits, targets, total=total)
        weight = None if sample_weight is None else _cell_weights(sample_weight, value)
        positive = criterion.positive(logits, targets) if reduction == "mean_positive" else None
    call = None
    if gathers:
        sizes = ["..."] if classes is None else [classes]
        call = describe(type(criterion).__name__, logits.dtype, sizes, sample_weight=weight)
    return _reduce(
        value, reduction, number, valid=valid, weight=weight, positive=positive, call=call
    )


class PointwiseLoss(Loss):
    """The module of a criterion and its settings.

    A subclass has a constructor that names the settings, and inherits the rest.

    Args:
        criterion: What each cell costs.
        reduction: `"none"`, `"sum"`, `"mean"` over the valid cells, or `"mean_positive"`: the sum
            over all valid cells divided by how many of them are positive, at least 1.
        gather_distributed: None sums over the ranks whenever a process group of several is live
            at the call, True raises where there is none, False stays local.

    Raises:
        TypeError: For a setting of a wrong type.
        ValueError: For a setting out of range.
    """

    reduction = Setting[str]("settings")
    gather_distributed = Setting["bool | None"]("settings")

    def __init__(
        self, criterion: Criterion, *, reduction: str = "mean", gather_distributed: bool | None
    ) -> None:
        super().__init__()
        self.criterion = criterion
        self.settings = PointwiseSettings(reduction, gather_distributed)

    def forward(
        self, inputs: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Loss of logits `inputs` against `targets`; shapes and errors as in the function."""
        return pointwise_loss(self.criterion, self.settings, inputs, targets, sample_weight)

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        criterion: Any = self.criterion
        shown = [(f.name, getattr(criterion, f.name)) for f in fields(criterion)]
        return ", ".join(
            f"{name}={_readable(value)}" for name, value in (*shown, ("reduction", self.reduction))
        )

    def _held(self) -> Tensor | None:
        return next((value for value in vars(self.criterion).values() if _is_tensor(value)), None)

    def _move(self, device: torch.device) -> None:
        self.criterion = copy.copy(self.criterion)
        for name, value in vars(self.criterion).items():
            if _is_tensor(value):
                _checks.settle(self.criterion, **{name: value.to(device)})


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def _readable(value: object) -> str:
    if isinstance(value, Tensor):
        return repr([round(float(number), 4) for number in value])
    return repr(value)


def _cell_weights(sample_weight: Tensor, cells: Tensor) -> Tensor:
    """`sample_weight` in the shape of `cells`; it has one weight per cell or one per row."""
    _checks.tensor("sample_weight", sample_weight)
    rows, ones = cells.shape[:1], (1,) * (cells.ndim - 1)
    if sample_weight.ndim != cells.ndim:
        shape, words = rows, "[N], one per row,"
    elif sample_weight.shape == (*rows, *ones):
        shape, words = sample_weight.shape, "[N, 1, ...], one per row,"
    else:
        shape = cells.shape
        words = "of the cells (or [N], [N, 1, ...]: one per row; else use expand_as)"
    _checks.weights(sample_weight, shape, words)
    weight = sample_weight.detach().to(cells.dtype)
    return (weight if weight.ndim == cells.ndim else weight.view(-1, *ones)).expand_as(cells)


def _reduce(
    cells: Tensor,
    reduction: str,
    count: int,
    *,
    valid: Tensor | None,
    weight: Tensor | None,
    positive: Tensor | None,
    call: str | None,
) -> Tensor:
    """Weighted `cells` as they are (`none`), their `sum`, or their mean over a mass.

    There are `count` cells; without a `weight`, `cells` may be their sum already. `valid`, `weight`
    and `positive` have the cells' shape or are None, which stands for ones; invalid cells are 0
    already. A cell adds the product of the three to the mass, so `positive` (for `mean_positive`)
    changes the denominator only. Without any mass the mean is the sum of nothing: 0, attached to
    the graph. Without weights the mass counts, and counts at least 1. Given the `call` that all
    ranks are to make, both sums run over them; `none` never travels.
    """
    if weight is not None:
        cells = cells * weight
    if reduction == "none":
        return cells
    shares = [share.to(cells.dtype) for share in (valid, weight, positive) if share is not None]
    numerator = cells.sum() if cells.ndim else cells
    if reduction == "mean" and not shares and call is None:
        # Unlike mean(), whose gradient is written out cell by cell.
        return numerator / max(count, 1)
    mass = reduce(torch.mul, shares).sum() if shares else cells.new_full((), count)
    if call is not None:
        numerator, mass = sum_across_ranks(numerator, mass, call)
    if reduction == "sum":
        return numerator
    return numerator / (mass.clamp(min=1) if weight is None else mass.where(mass > 0, 1))
