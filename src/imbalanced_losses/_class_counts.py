"""Counting rows per class: targets in any accepted form -> counts."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from numbers import Number
from typing import Any, TypeAlias

import torch
from torch import Tensor

Targets: TypeAlias = Tensor | Iterable[Any]


def count_classes(targets: Any, num_classes: int | None, ignore_index: int) -> Tensor:
    """Count the rows of each class: int64 `[C]`, on the device of the targets."""
    return _add_up(_class_counts(b, num_classes, ignore_index) for b in _batches(targets))


def count_positives(targets: Any, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Count the positives and the valid rows of each label: int64 `[C]` each."""
    positives, rows = _add_up(_label_counts(b, ignore_index) for b in _batches(targets))
    return positives, rows


def count_outputs(
    targets: Any, outputs: int, sigmoid: bool, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """Count the positives and the rows behind each output of a classifier: float64, on the CPU.

    Targets are class indices, unless the outputs are sigmoids and there is either one of them or
    the targets are multi-hot `[N, outputs]`.
    """
    stream = _batches(targets)
    first = next(stream, torch.empty(0))
    stream = chain([first], stream)
    if sigmoid and outputs == 1:
        counts = _add_up(_label_counts(b.reshape(-1, 1), ignore_index) for b in stream)
    elif sigmoid and first.ndim == 2 and first.shape[1] == outputs:
        counts = _add_up(_label_counts(b, ignore_index) for b in stream)
    else:
        found = _add_up(_class_counts(b, outputs, ignore_index) for b in stream)
        counts = torch.stack([found, found.sum().expand_as(found)])
    positives, rows = counts.cpu().double()
    return positives, rows


def as_counts(counts: Any, length: int | None, of: str) -> Tensor:
    """Return `counts` as a tensor `[C]`; an error names `of`, whose `length` it must have."""
    tensor = _as_tensor("counts", counts)
    if tensor is None:
        raise TypeError(
            f"counts must be a tensor, an array or a list; got {type(counts).__name__}."
        )
    if tensor.ndim != 1 or tensor.numel() == 0:
        raise ValueError(f"counts must have shape [C]; got {list(tensor.shape)}.")
    if length is not None and tensor.numel() != length:
        raise ValueError(f"counts must match {of}: {length}; got {tensor.numel()} counts.")
    if not (tensor.isfinite() & (tensor >= 0)).all() or not tensor.any():
        raise ValueError(f"counts must be at least 0, finite and not all 0; got {tensor.tolist()}.")
    return tensor


def _class_counts(batch: Tensor, num_classes: int | None, ignore_index: int) -> Tensor:
    """Rows of each class in one batch."""
    indices = batch.long().flatten()
    if batch.is_floating_point() and not batch.flatten().equal(indices.to(batch.dtype)):
        raise ValueError(
            "targets must be class indices; got fractional or non-finite numbers. "
            "Class probabilities can be summed over rows and passed as counts=."
        )
    indices = indices[indices != ignore_index]
    wrong = indices < 0
    if num_classes is not None:
        wrong |= indices >= num_classes
    if wrong.any():
        bound = "at least 0" if num_classes is None else f"in [0, {num_classes})"
        raise ValueError(
            f"targets must be class indices {bound}, or ignore_index={ignore_index}; "
            f"got {indices[wrong][0].item()}."
        )
    return torch.bincount(indices, minlength=num_classes or 0)


def _label_counts(batch: Tensor, ignore_index: int) -> Tensor:
    """Positives and valid rows of each label in one binary or multi-hot batch: `[2, C]`."""
    if batch.ndim < 2:
        batch = batch.reshape(-1, 1)
    if batch.ndim > 2:
        raise ValueError(
            f"targets must be binary [N] or multi-hot [N, C]; got shape {list(batch.shape)}. "
            "Flatten dense targets to [N, C] first."
        )
    valid = batch != ignore_index
    positive = valid & (batch == 1)
    wrong = valid & (batch != 0) & (batch != 1)
    if wrong.any():
        raise ValueError(
            f"targets must be 0, 1 or ignore_index={ignore_index}; got {batch[wrong][0].item()}."
        )
    return torch.stack([positive.sum(0), valid.sum(0)])


def _add_up(parts: Iterable[Tensor]) -> Tensor:
    """Sum the counts of all batches; a batch that lacks the last classes is padded with zeros."""
    total: Tensor | None = None
    for part in parts:
        if total is None:
            total = part
            continue
        more = part.to(total.device)
        if more.ndim == 2 and more.shape != total.shape:
            raise ValueError(
                "targets must have the same number of labels in every batch; "
                f"got {total.shape[1]} and {more.shape[1]}."
            )
        if more.shape[-1] > total.shape[-1]:
            total, more = more, total
        total[..., : more.shape[-1]] += more
    if total is None or not total.any():
        raise ValueError(
            "targets must hold at least one row that is not ignored; got none. "
            "(A generator can be read only once.)"
        )
    return total


def _is_numbers(value: object) -> bool:
    """Whether `value` is a number or a (nested) list of numbers."""
    if isinstance(value, list | tuple):
        return all(map(_is_numbers, value))
    return isinstance(value, Number)


def _as_tensor(name: str, value: Any) -> Tensor | None:
    """A tensor, array, number or list of numbers as a tensor; None for anything else."""
    if isinstance(value, Tensor):
        tensor = value.detach()
    elif hasattr(value, "__array__") or _is_numbers(value):
        try:
            # The copy admits read-only arrays and negative strides.
            value = value.__array__().copy() if hasattr(value, "__array__") else value
            tensor = torch.as_tensor(value)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name} must be numbers in a regular shape: {error}") from error
    else:
        return None
    if tensor.is_complex():
        raise TypeError(f"{name} must be real numbers; got {tensor.dtype}.")
    return tensor if tensor.is_floating_point() else tensor.long()


def _batches(targets: Any) -> Iterator[Tensor]:
    """Yield `targets` itself where it is one tensor-like, else the targets of each of its batches.

    Integers and booleans come as int64, floats as they are.
    """
    whole = _as_tensor("targets", targets)
    if whole is not None:
        yield whole
        return
    if isinstance(targets, Mapping) or not isinstance(targets, Iterable):
        raise TypeError(
            "targets must be a tensor, an array, a list of numbers or an iterable of batches; "
            f"got {type(targets).__name__}."
        )
    for batch in targets:
        if isinstance(batch, list | tuple) and not _is_numbers(batch):
            batch = batch[-1]
        tensor = _as_tensor("targets", batch)
        if tensor is None:
            raise TypeError(
                "a batch must be a tensor, an array or a list of numbers, or a tuple or list that "
                f"ends in one; got {type(batch).__name__}. Iterate over the targets alone: "
                "(batch['target'] for batch in loader)."
            )
        yield tensor
