"""Focal losses cell by cell: which targets are meant, which cells count, and what each costs.

A cell is one position of softmax targets, or one entry of sigmoid targets.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from imbalanced_losses._ops.focal import (
    sigmoid_focal,
    softmax_focal,
    softmax_focal_expected,
)
from imbalanced_losses._ops.runtime import is_plain, readable
from imbalanced_losses._targets import (
    check_sample_weight,
    check_tensor,
    check_values,
    seen_within,
)


def sigmoid_focal_cells(
    logits: Tensor,
    targets: Tensor,
    *,
    alpha: float | None,
    gamma: float,
    ignore_index: int | None,
    total: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Losses of the targets' shape, 0 where ignored, and the mask of valid cells (None: all).

    Where only their `total` is asked for, it may stand in the place of the losses.
    """
    _check_logits(logits, dims=0)
    check_tensor("targets", targets)
    if targets.shape != logits.shape:
        raise ValueError(
            f"targets must have the shape of the logits, {tuple(logits.shape)}; got "
            f"{tuple(targets.shape)}. Reshape one of them: nothing is broadcast."
        )
    if targets.is_complex():
        raise TypeError(f"targets must be float, int or bool; got {targets.dtype}.")
    dtype = torch.promote_types(logits.dtype, torch.float32)
    targets, valid = _split_ignored(targets.detach().to(dtype), 1, ignore_index)
    logits = logits.to(dtype)
    if valid is None:
        return sigmoid_focal(logits, targets, alpha, gamma, total=total), None
    cells = sigmoid_focal(logits.masked_fill(~valid, 0), targets, alpha, gamma)
    return cells.masked_fill(~valid, 0), valid


def softmax_focal_cells(
    logits: Tensor,
    targets: Tensor,
    *,
    alpha: Tensor | None,
    gamma: float,
    label_smoothing: float,
    ignore_index: int,
    total: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Losses `[N, ...]`, 0 where ignored, and the mask of valid positions (None: all).

    Where only their `total` is asked for, it may stand in the place of the losses.
    """
    _check_logits(logits, dims=2)
    check_tensor("targets", targets)
    num_classes, shape = logits.shape[1], (logits.shape[0], *logits.shape[2:])
    dtype = torch.promote_types(logits.dtype, torch.float32)
    if alpha is not None:
        if alpha.shape != (num_classes,):
            raise ValueError(
                f"alpha must hold one weight per class: it has {alpha.numel()}, the logits "
                f"{tuple(logits.shape)} have {num_classes} classes in dimension 1."
            )
        alpha = alpha.to(logits.device, dtype)

    if targets.is_floating_point() and targets.shape == logits.shape:
        _check_probabilities(targets)
        columns = None if alpha is None else alpha.view(-1, *[1] * (logits.ndim - 2))
        target = targets.detach().to(dtype)
        return softmax_focal_expected(logits, target, columns, gamma, label_smoothing), None

    _check_class_indices(targets, shape, logits.shape)
    index, valid = _split_ignored(targets.long(), num_classes - 1, ignore_index)
    if label_smoothing == 0:
        cells = softmax_focal(logits, index, valid, gamma, total=total and alpha is None)
    else:
        if valid is not None:
            logits = logits.masked_fill(~valid.unsqueeze(1), 0)
        one_hot = torch.zeros_like(logits).scatter(1, index.unsqueeze(1), 1)
        cells = softmax_focal_expected(logits, one_hot, None, gamma, label_smoothing)
        if valid is not None:
            cells = cells.masked_fill(~valid, 0)
    if alpha is not None:
        cells = cells * alpha[index]
    return cells, valid


def positive_share(targets: Tensor, background_class: int, num_classes: int) -> Tensor:
    """How much of each softmax target is not background: 0 or 1 for class indices."""
    if background_class >= num_classes:
        raise ValueError(
            f"background_class must be below the number of classes, {num_classes}; "
            f"got {background_class}."
        )
    if targets.is_floating_point():
        return 1 - targets.detach().select(1, background_class)
    return targets != background_class


def class_weight_vector(alpha: Tensor | Sequence[float] | Any) -> Tensor:
    """`alpha` as a floating vector, one finite weight >= 0 per class."""
    try:
        vector = torch.as_tensor(alpha).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"alpha must be a list, array or tensor with one weight per class, or None; "
            f"got {alpha!r}."
        ) from error
    if vector.ndim != 1 or vector.numel() == 0 or vector.is_complex():
        raise ValueError(
            "alpha must hold one weight per class in one dimension, or be None; "
            f"got {alpha!r} of shape {tuple(vector.shape)}."
        )
    if not vector.is_floating_point():
        vector = vector.to(torch.get_default_dtype())
    if readable(vector):
        low, high = (float(bound) for bound in torch.aminmax(vector))
        if not (low >= 0 and high < torch.inf):
            raise ValueError(f"alpha must hold finite weights of at least 0; got {alpha!r}.")
    return vector


def cell_weights(sample_weight: Tensor, cells: Tensor) -> Tensor:
    """`sample_weight` in a shape that multiplies `cells`: one weight per cell or per row."""
    check_tensor("sample_weight", sample_weight)
    by_cell = sample_weight.ndim == cells.ndim
    shape = cells.shape if by_cell else cells.shape[:1]
    check_sample_weight(sample_weight, shape, "of a cell each" if by_cell else "[N], one per row,")
    weight = sample_weight.detach().to(cells.dtype)
    return weight if by_cell else weight.view(-1, *[1] * (cells.ndim - 1)).expand_as(cells)


def _split_ignored(
    targets: Tensor, top: int, ignore_index: int | None
) -> tuple[Tensor, Tensor | None]:
    """Targets with 0 in the place of ignored ones, and the mask of the others (None: all)."""
    may_be_target = ignore_index is not None and 0 <= ignore_index <= top
    if not may_be_target and seen_within(targets, 0, top):
        return targets, None
    what = (
        "targets must lie in [0, 1]"
        if targets.is_floating_point()
        else f"targets must be class indices in [0, {top}]"
    )
    if ignore_index is None:
        _check_range(what, targets, 0, top)
        return targets, None
    valid = targets != ignore_index
    targets = targets.masked_fill(~valid, 0)
    _check_range(f"{what} or equal ignore_index={ignore_index}", targets, 0, top)
    return targets, valid


def _check_range(rule: str, values: Tensor, low: float, high: float) -> None:
    if is_plain(values) and not seen_within(values, low, high):
        check_values((values >= low) & (values <= high), values, rule)


def _check_logits(logits: Tensor, dims: int) -> None:
    check_tensor("logits", logits)
    if not logits.is_floating_point():
        raise TypeError(f"logits must be floating point; got {logits.dtype}.")
    if logits.ndim < dims or (dims and logits.shape[1] == 0):
        raise ValueError(
            f"logits must have shape [N, C] or [N, C, d1, ...] with C >= 1; got "
            f"{tuple(logits.shape)}."
        )


def _check_class_indices(targets: Tensor, shape: tuple[int, ...], logits_shape: torch.Size) -> None:
    is_index = not (
        targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool
    )
    if is_index and targets.shape == shape:
        return
    wanted = (
        f"targets must be class indices of shape {shape} or class probabilities of shape "
        f"{tuple(logits_shape)}; got {targets.dtype} of shape {tuple(targets.shape)}."
    )
    if targets.shape == shape:
        raise TypeError(wanted + " Convert class indices with targets.long().")
    fix = " Pass probabilities as floats." if targets.shape == logits_shape else ""
    raise ValueError(wanted + fix)


def _check_probabilities(targets: Tensor) -> None:
    _check_range("targets given as class probabilities must lie in [0, 1]", targets, 0, 1)
    _check_range(
        "targets given as class probabilities must sum to 1 over dimension 1",
        targets.sum(1, dtype=torch.promote_types(targets.dtype, torch.float32)),
        0.99,
        1.01,
    )
