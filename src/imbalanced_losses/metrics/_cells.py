"""What all metrics share: any accepted input to one binary problem per class, and back."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from imbalanced_losses._checks import layout_fix, one_of, weights
from imbalanced_losses._pool.rows import IGNORED, one_vs_rest

# A tensor, a NumPy array or what else knows `__array__`, or a (nested) list of numbers.
ArrayLike: TypeAlias = Tensor | Sequence[Any] | Any
Average: TypeAlias = Literal["none", "macro"]


class Cells(NamedTuple):
    """Rows of C one-vs-rest problems, all `[C, M]`."""

    scores: Tensor  # float64, not NaN where valid
    positive: Tensor  # bool, False where not valid
    valid: Tensor  # bool
    weight: Tensor  # float64, 0 where not valid
    multiplicity: Tensor  # float64: how many rows a cell stands for, 0 where not valid


def binary_cells(
    scores: ArrayLike, targets: ArrayLike, sample_weight: ArrayLike | None, ignore_index: int
) -> tuple[Tensor, Cells]:
    """Return the scores as a tensor, and what stands in them as binary problems."""
    given, scores, targets, weight = rows_of(scores, targets, sample_weight)
    classes = scores.shape[1] if scores.dim() == 2 else 1
    rows = one_vs_rest(
        scores, targets, num_classes=classes, ignore_index=ignore_index, log_odds=False
    )
    return given, cells_of(rows.scores, rows.label, weight)


def cells_of(scores: Tensor, label: Tensor, weight: Tensor | None) -> Cells:
    """Scores and labels `[C, N]`, with weights `[N]` or `[N, C]`, as cells."""
    # One ignored row more changes nothing, and gives every reduction a result for an empty batch.
    scores = F.pad(scores, (0, 1)).double()
    label = F.pad(label, (0, 1), value=IGNORED)
    valid = label != IGNORED
    if weight is not None:
        weight = F.pad(weight.t() if weight.dim() == 2 else weight[None], (0, 1))
        valid = valid & (weight > 0)
    # A class with a NaN score has no ranking: without a valid row it comes out as undefined.
    valid = valid & ~(scores.isnan() & valid).any(1, keepdim=True)
    once = valid.double()
    weight = once if weight is None else weight * once
    return Cells(scores, (label == 1) & valid, valid, weight, once)


def rows_of(
    scores: ArrayLike, targets: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The scores as they are, and without dimensions behind the classes: scores, targets, weights.

    Scores `[N, C]` or `[N]` and weights `[N, C]` or `[N]` in float64; the targets class indices
    `[N]` or multi-hot, with values as they came.
    """
    given = as_tensor("scores", scores)
    if not given.is_floating_point():
        raise TypeError(
            f"scores must be of a floating dtype; got {given.dtype}. Pass logits or probabilities, "
            "not predicted classes."
        )
    if given.dim() == 0:
        raise ValueError("scores must have shape [N], [N, C] or [N, C, d1, ...]; got a number.")
    work = where_float64_is(given)
    targets = as_tensor("targets", targets, like=work)
    weight = None
    if sample_weight is not None:
        weight = as_tensor("sample_weight", sample_weight, like=work)
        weight = _row_weights(weight, given.shape).double()
    work = work.double()
    if work.dim() > 2:
        work, targets = _one_row_per_position(work, targets)
    return given, work, targets, weight


def where_float64_is(tensor: Tensor) -> Tensor:
    """The tensor, on the CPU if it comes from Apple's accelerator, which knows no float64."""
    return tensor.cpu() if tensor.device.type == "mps" else tensor


def as_tensor(name: str, value: ArrayLike, like: Tensor | None = None) -> Tensor:
    """The value as a tensor without gradient, beside `like`; floats of a list are float64."""
    if isinstance(value, Tensor):
        tensor = value.detach()
        return tensor if like is None else tensor.to(like.device)
    device = torch.device("cpu") if like is None else like.device
    try:
        if hasattr(value, "__array__"):
            # The copy admits read-only arrays and negative strides.
            return torch.as_tensor(value.__array__().copy(), device=device)
        tensor = torch.tensor(value, device=device)
        # A list has no dtype of its own, and torch's default one may be coarse.
        if tensor.is_floating_point():
            tensor = torch.tensor(value, dtype=torch.float64, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{name} must be a tensor, an array or a list of numbers in a regular shape; got "
            f"{type(value).__name__}: {error}"
        ) from error
    return tensor


def averaged(values: Tensor, average: str, given: Tensor) -> Tensor:
    """Values `[C]` in float64 as what the caller gets for the scores `given`."""
    one_of("average", average, ("none", "macro"))
    dtype = torch.promote_types(given.dtype, torch.float32)
    result = values.nanmean() if average == "macro" else values.reshape(given.shape[1:2])
    return result.to(dtype).to(given.device)


class Curve(NamedTuple):
    """Rows from the highest score to the lowest, all `[C, M]`; those that are not valid come last.

    Tied rows share what is summed: over all rows down to the end of the tie.
    """

    positive: Tensor  # weight of the positives, 0 for other rows
    negative: Tensor  # weight of the negatives
    true_positives: Tensor  # weight of the positives down to here
    false_positives: Tensor  # weight of the negatives
    rows: Tensor  # count of the rows
    above: Tensor  # weight of the rows above the tie
    rows_above: Tensor  # count of the rows above the tie


def curve_of(cells: Cells) -> Curve:
    """Sort the rows and add them up."""
    keys, order = (-cells.scores).masked_fill(~cells.valid, math.inf).sort(dim=1)
    weight, count = cells.weight.gather(1, order), cells.multiplicity.gather(1, order)
    positive = cells.positive.gather(1, order) * weight
    negative = weight - positive
    start, end = _ties(keys)
    found, alarms, rows = (
        F.pad(_running_sum(part), (1, 0)) for part in (positive, negative, count)
    )
    return Curve(
        positive,
        negative,
        found.gather(1, end),
        alarms.gather(1, end),
        rows.gather(1, end),
        (found + alarms).gather(1, start),
        rows.gather(1, start),
    )


def _ties(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Where the tie of each of the sorted keys `[C, M]` begins and, exclusively, ends."""
    changes = keys[:, 1:] != keys[:, :-1]
    place = torch.arange(keys.shape[1], device=keys.device).expand_as(keys)
    start = (place * F.pad(changes, (1, 0), value=True)).cummax(1).values
    end = (place + 1).masked_fill(~F.pad(changes, (0, 1), value=True), keys.shape[1])
    return start, end.flip(1).cummin(1).values.flip(1)


def _running_sum(terms: Tensor) -> Tensor:
    """Sums along the rows, also where torch promises determinism: an accelerator has none then."""
    if terms.device.type == "cpu" or not torch.are_deterministic_algorithms_enabled():
        return terms.cumsum(1)
    return terms.cpu().cumsum(1).to(terms.device)


def _one_row_per_position(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Scores `[N, C, d1, ...]` as `[N d1 ..., C]`, with targets of either form to match."""
    shape = list(scores.shape)
    if targets.shape == scores.shape:
        targets = targets.movedim(1, -1).reshape(-1, shape[1])
    elif list(targets.shape) == [shape[0], *shape[2:]]:
        targets = targets.reshape(-1)
    else:
        raise ValueError(
            f"targets must have shape [N, d1, ...] = {[shape[0], *shape[2:]]}, or multi-hot "
            f"[N, C, d1, ...] = {shape}, as the scores have; got {list(targets.shape)}."
            f"{layout_fix(targets, scores.shape, 'scores')}"
        )
    return scores.movedim(1, -1).reshape(-1, shape[1]), targets


def _row_weights(weight: Tensor, shape: torch.Size) -> Tensor:
    """Weights of a row, a position or a cell each, as `[rows]` or `[rows, C]`."""
    positions = (shape[0], *shape[2:])
    if weight.dim() == len(shape) > 1:
        weights(weight, tuple(shape), "of the scores")
        return weight.movedim(1, -1).reshape(-1, shape[1])
    if weight.dim() == 1:
        weights(weight, (shape[0],), "[N]")
        weight = weight.view(-1, *[1] * (len(positions) - 1)).expand(positions)
    else:
        weights(weight, positions, "[N, d1, ...]")
    return weight.reshape(-1)
