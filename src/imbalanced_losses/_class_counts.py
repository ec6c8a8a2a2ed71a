"""Counting rows per class: targets in any accepted form -> counts.

A form that could mean two things is an error that names the way to say which one is meant.
"""

from collections.abc import Iterable, Iterator, Mapping, Set
from numbers import Number
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

Targets: TypeAlias = Tensor | Iterable[Any]


class Reading(NamedTuple):
    """How labels are found in a batch, and which of them do not count."""

    ignore_index: int
    label_key: str


def count_classes(
    targets: Any, how: Reading, num_classes: int | None = None, *, from_layer: bool = False
) -> Tensor:
    """Count the rows of each class: int64 `[C]`, on the device of the targets.

    Zeros and ones that may be multi-hot are an error. A user who passes `num_classes` says that
    they are class indices; a number that comes `from_layer` says nothing of the targets.
    """
    tables: set[int] = set()
    one_hot = True

    def counted() -> Iterator[Tensor]:
        nonlocal one_hot
        for labels, maybe_row in _batches(targets, how, rows_of_numbers=False):
            table = labels.unsqueeze(0) if maybe_row and labels.ndim == 1 else labels
            tables.add(table.shape[1] if table.ndim > 1 else 1)
            if table.ndim > 1 and num_classes == 2:
                one_hot = one_hot and bool(((table == 1).sum(1) == 1).all())
            yield _class_counts(labels, num_classes, how.ignore_index)

    total = _add_up(counted())
    # Multi-hot rows have one length. One column reads the same either way.
    width = tables.pop() if len(tables) == 1 else 1
    alike = width > 1 and num_classes in (None, width) and not bool(total[2:].any())
    if alike and (from_layer or num_classes != 2 or one_hot):
        fix = "pass num_classes=2" if num_classes is None else "flatten them to [N]"
        other = "activation='sigmoid'" if from_layer else "pos_weight"
        raise ValueError(
            "targets must be class indices beyond doubt; got zeros and ones in shape "
            f"[N, {width}, ...], which may be multi-hot labels. If they are class indices, {fix}; "
            f"if they are one-hot, pass targets.argmax(1); if they are multi-hot, use {other}."
        )
    return total


def count_positives(
    targets: Any, how: Reading, outputs: int | None = None
) -> tuple[Tensor, Tensor]:
    """Count the positives and the valid rows of each label: int64 `[C]` each.

    Targets are multi-hot `[N, C, ...]`, with C = `outputs` where that is given, else also `[N]`.
    """

    def counted() -> Iterator[Tensor]:
        for labels, maybe_row in _batches(targets, how, rows_of_numbers=True):
            shape = list(labels.shape)
            if outputs is not None and (labels.ndim < 2 or shape[1] != outputs):
                raise ValueError(
                    f"targets must be multi-hot [N, {outputs}, ...], one label per output of the "
                    f"layer, for activation='sigmoid'; got shape {shape}. If they are class "
                    "indices, pass counts=, the rows of each class."
                )
            if maybe_row and labels.ndim == 1 and len(labels) > 1:
                raise ValueError(
                    f"a batch must have shape [N, C, ...]; got {shape}, which may be rows of one "
                    "label or the labels of one row. Pass batches [N, 1] or [1, C], or all targets "
                    "in one tensor."
                )
            table = labels if labels.ndim > 1 else labels.reshape(-1, 1)
            yield _label_counts(table, how.ignore_index)

    positives, rows = _add_up(counted())
    return positives, rows


def count_ones(targets: Any, how: Reading) -> tuple[Tensor, Tensor]:
    """Count the ones and the valid cells of zeros and ones of any shape: int64 `[1]` each."""
    batches = _batches(targets, how, rows_of_numbers=False)
    positives, rows = _add_up(
        _label_counts(labels.reshape(-1, 1), how.ignore_index) for labels, _ in batches
    )
    return positives, rows


def class_indices(targets: Any, ignore_index: int) -> Tensor:
    """Return the class indices `[N]` of a whole data set, int64 on the CPU."""
    labels = _as_tensor("targets", targets)
    if labels is None:
        fix = ""
        if isinstance(targets, Sampler):
            fix = (
                " A trainer put its own sampler in their place; for Lightning's pass "
                "Trainer(use_distributed_sampler=False)."
            )
        raise TypeError(
            "targets must be the class indices of the data set's rows, as a tensor, an array or a "
            f"list of numbers; got {type(targets).__name__}.{fix}"
        )
    if labels.ndim != 1:
        raise ValueError(
            f"targets must be class indices of shape [N], one per row; got {list(labels.shape)}. "
            "Flatten a column with targets.flatten(); rows with several labels (multi-hot) have no "
            "single class to be drawn by."
        )
    _class_counts(labels, None, ignore_index)
    return labels.cpu().long()


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


def _class_counts(labels: Tensor, num_classes: int | None, ignore_index: int) -> Tensor:
    """Rows of each class in one batch."""
    indices = labels.long().flatten()
    if labels.is_floating_point() and not labels.flatten().equal(indices.to(labels.dtype)):
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


def _label_counts(table: Tensor, ignore_index: int) -> Tensor:
    """Positives and valid rows of each label in one batch `[N, C, ...]`: `[2, C]`."""
    table = table.transpose(0, 1).flatten(1)
    valid = table != ignore_index
    positive = valid & (table == 1)
    wrong = valid & (table != 0) & (table != 1)
    if wrong.any():
        raise ValueError(
            f"targets must be 0, 1 or ignore_index={ignore_index}; got {table[wrong][0].item()}."
        )
    return torch.stack([positive.sum(1), valid.sum(1)])


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


def _batches(targets: Any, how: Reading, *, rows_of_numbers: bool) -> Iterator[tuple[Tensor, bool]]:
    """Yield `targets` itself where it is one array, else the labels of each of its batches.

    Beside them stands whether labels in one dimension may be those of a single row. Lists of lists
    of numbers are a table where `rows_of_numbers`; else they are refused where a row may be an
    input with its label.
    """
    whole = _as_tensor("targets", targets)
    if whole is not None:
        if not rows_of_numbers:
            _refuse_pairs(targets)
        yield whole, False
        return
    if isinstance(targets, Mapping | Set) or not isinstance(targets, Iterable):
        raise TypeError(
            "targets must be a tensor, an array, a list of numbers or an iterable of batches, such "
            f"as a DataLoader; got {type(targets).__name__}."
        )
    if isinstance(targets, list | tuple) and len(targets) == 2 and all(map(_is_array, targets)):
        raise ValueError(
            f"targets must be labels alone; got a {type(targets).__name__} of two arrays, which "
            "may be inputs with their labels. Pass the labels; join those of two parts first."
        )
    # Only a loader that batches by itself is sure to yield no single rows.
    maybe_row = not (isinstance(targets, DataLoader) and targets.batch_sampler is not None)
    for i, batch in enumerate(targets):
        labels = _as_tensor("targets", _labels_of(batch, how.label_key, is_first=i == 0))
        if labels is None:
            raise TypeError(
                "a batch must be labels, (inputs, labels) or a mapping, with the labels as a "
                f"tensor, an array or a list of numbers; got {type(batch).__name__}. Iterate over "
                "the labels alone: (batch[1] for batch in loader)."
            )
        yield labels, maybe_row


def _labels_of(batch: Any, label_key: str, *, is_first: bool) -> Any:
    """The labels of a batch: itself, the second of two, or what a mapping has at `label_key`."""
    if isinstance(batch, Mapping):
        if label_key not in batch:
            raise ValueError(
                f"label_key must name the labels of a batch; got {label_key!r}, where a batch has "
                f"{', '.join(map(repr, batch))}."
            )
        return batch[label_key]
    if not isinstance(batch, list | tuple):
        return batch
    kind = type(batch).__name__
    if all(map(_is_number, batch)):
        # In a list cut into pieces only the last piece is shorter, so the first one tells.
        if len(batch) > 1 and (isinstance(batch, tuple) or (is_first and len(batch) == 2)):
            raise ValueError(
                f"a batch must be labels alone or (inputs, labels); got a {kind} of {len(batch)} "
                "numbers, which may be one input with its label. Pass [label for _, label in rows]."
            )
        return batch
    if len(batch) > 2 or (isinstance(batch, list) and _is_numbers(batch)):
        raise ValueError(
            "a batch must be labels, (inputs, labels) or a mapping; got a "
            f"{kind} of {len(batch)}. Pass a table of labels as a tensor; of a longer batch, "
            "iterate over the labels alone: (batch[1] for batch in loader)."
        )
    return batch[-1]


def _refuse_pairs(targets: Any) -> None:
    """Raise where lists of numbers may be inputs with their labels."""
    if not isinstance(targets, list | tuple):
        return
    rows = [row for row in targets if isinstance(row, list | tuple)]
    if rows and (len(rows) == 2 or len(rows[0]) == 2 or isinstance(rows[0], tuple)):
        raise ValueError(
            f"targets must be labels alone; got {len(rows)} rows of {len(rows[0])} numbers in a "
            f"{type(targets).__name__}, which may be inputs with their labels. "
            "Pass [label for _, label in rows], or a table of labels as a tensor."
        )


def _is_number(value: object) -> bool:
    """Whether `value` is a Python or NumPy number, or a tensor or array without dimensions."""
    return isinstance(value, Number) or (
        hasattr(value, "__array__") and getattr(value, "ndim", None) == 0
    )


def _is_numbers(value: object) -> bool:
    """Whether `value` is a number or a (nested) list of numbers."""
    return all(map(_is_numbers, value)) if isinstance(value, list | tuple) else _is_number(value)


def _is_array(value: object) -> bool:
    """Whether `value` is an array, or a list of numbers, with at least one dimension."""
    return (hasattr(value, "__array__") or _is_numbers(value)) and not _is_number(value)


def _as_tensor(name: str, value: Any) -> Tensor | None:
    """A tensor, array, number or list of numbers as a tensor; None for anything else.

    Integers and booleans come as int64. What is no tensor comes on the CPU, in a dtype that holds
    it, whatever the default device and dtype are.
    """
    if isinstance(value, Tensor):
        tensor = value.detach()
    elif hasattr(value, "__array__") or _is_numbers(value):
        try:
            tensor = _from_numbers(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"{name} must be numbers in a regular shape: {error}") from error
    else:
        return None
    if tensor.is_complex():
        raise TypeError(f"{name} must be real numbers; got {tensor.dtype}.")
    if tensor.is_meta:
        raise ValueError(f"{name} must hold values; got a tensor on the meta device.")
    return tensor if tensor.is_floating_point() else tensor.long()


def _from_numbers(value: Any) -> Tensor:
    if hasattr(value, "__array__"):
        array = value.__array__()
        if array.dtype.kind != "O":
            # The copy admits read-only arrays, negative strides and foreign byte orders.
            return torch.as_tensor(array.astype(array.dtype.newbyteorder("=")), device="cpu")
        value = array.tolist()
    value = _plain(value)
    tensor = torch.as_tensor(value, device="cpu")
    if tensor.is_floating_point():
        tensor = torch.as_tensor(value, dtype=torch.float64, device="cpu")
    return tensor


def _plain(value: Any) -> Any:
    """Numbers as Python's own, lists as lists."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value
