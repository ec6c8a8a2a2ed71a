"""Checks of settings and of tensors, all with one style of message."""

import math
import sys
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from imbalanced_losses._ops.runtime import is_plain, is_transformed, readable


def one_of(name: str, value: object, options: Sequence[str]) -> None:
    """Raise unless `value` is one of the strings in `options`."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}; got {value!r}.")


def number(
    name: str,
    value: Any,
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    at_most: float = math.inf,
    below: float = math.inf,
) -> float:
    """The value as a plain number, or an error unless it is finite, real and within the bounds.

    NumPy's numbers and tensors without dimensions are numbers too.
    """
    given = _without_dimensions(value)
    if isinstance(given, bool) or not isinstance(given, int | Real):
        raise TypeError(f"{name} must be a number; got {value!r} of type {type(value).__name__}.")
    plain = given if isinstance(given, int) else float(given)
    if at_least <= plain <= at_most and above < plain < below:
        return plain
    bounds = {"at least": at_least, "above": above, "at most": at_most, "below": below}
    wanted = [f"{word} {bound:g}" for word, bound in bounds.items() if math.isfinite(bound)]
    raise ValueError(f"{name} must be {' and '.join(wanted) or 'finite'}; got {plain!r}.")


def integer(name: str, value: Any, *, at_least: int | None = None) -> int:
    """The value as an int, or an error unless it is one (no bool) and at least `at_least`."""
    plain: Any = _without_dimensions(value)
    if isinstance(plain, bool) or not isinstance(plain, Integral):
        raise TypeError(f"{name} must be an int; got {value!r} of type {type(value).__name__}.")
    if at_least is not None and plain < at_least:
        raise ValueError(f"{name} must be at least {at_least}; got {plain}.")
    return int(plain)


def settle(settings: object, **checked: object) -> None:
    """Give fields of a frozen object the plain values that their checks returned."""
    for name, value in checked.items():
        object.__setattr__(settings, name, value)


def _without_dimensions(value: Any) -> Any:
    """What a tensor or an array without dimensions holds; anything else as it is."""
    if isinstance(value, int | float) or getattr(value, "ndim", None) != 0:
        return value
    return value.item()


def flag(name: str, value: object, *, optional: bool = False) -> None:
    """Raise unless `value` is a bool, or None where `optional`."""
    if not isinstance(value, bool) and not (optional and value is None):
        wanted = "True, False or None" if optional else "True or False"
        raise TypeError(f"{name} must be {wanted}; got {value!r}.")


def tensor(name: str, value: object) -> None:
    """Raise unless the value is a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor; got {type(value).__name__}.")


def weights(sample_weight: Tensor, shape: tuple[int, ...], words: str) -> None:
    """Raise unless the weights have this shape and are finite and not negative."""
    tensor("sample_weight", sample_weight)
    if sample_weight.is_complex() or sample_weight.dtype == torch.bool:
        raise TypeError(f"sample_weight must be of a real dtype; got {sample_weight.dtype}.")
    if sample_weight.shape != shape:
        raise ValueError(
            f"sample_weight must have shape {words} = {list(shape)}; got "
            f"{list(sample_weight.shape)}."
        )
    holds(
        sample_weight.isfinite() & (sample_weight >= 0),
        sample_weight,
        "sample_weight must be finite and not negative",
    )


def seen_within(values: Tensor, low: float, high: float) -> bool:
    """Whether all values are seen to lie in [low, high]; False where they cannot be read."""
    if not readable(values):
        return False
    if values.numel() == 0:
        return True
    least, most = torch.aminmax(values)
    return bool(low <= least.item() and most.item() <= high)


def holds(condition: Tensor, values: Tensor, rule: str) -> None:
    """Raise a ValueError naming the first of `values` for which the condition fails.

    Reading the outcome would stall an accelerator and break a compiled graph; there the check is an
    assertion that runs with the other kernels.
    """
    if not readable(values):
        if not is_transformed(values):
            torch._assert_async(condition.all(), rule)
    elif not condition.all():
        first = values[~condition][0].item()
        raise ValueError(f"{rule}; got {first}.")


def between(rule: str, values: Tensor, low: float, high: float) -> None:
    """Raise unless all values lie in [low, high]; skipped where nothing can be raised."""
    if is_plain(values) and not seen_within(values, low, high):
        holds((values >= low) & (values <= high), values, rule)


def floating_logits(logits: Tensor) -> None:
    """Raise unless these are logits of a floating dtype."""
    tensor("logits", logits)
    if not logits.is_floating_point():
        raise TypeError(f"logits must be of a floating dtype; got {logits.dtype}.")


def class_logits(logits: Tensor) -> tuple[int, torch.Size]:
    """C and the shape of the positions of logits `[N, C, d1, ...]`, or an error."""
    floating_logits(logits)
    if logits.ndim < 2 or logits.shape[1] == 0:
        raise ValueError(
            f"logits must have shape [N, C] or [N, C, d1, ...] with C >= 1; got "
            f"{list(logits.shape)}."
        )
    return logits.shape[1], logits.shape[:1] + logits.shape[2:]


def layout_fix(targets: Tensor, shape: torch.Size, name: str) -> str:
    """What to do where targets fit logits `[N, C, d1, ...]` but for the place of one dimension."""
    if targets.shape == shape[:-1]:
        return f" Classes belong in dimension 1: {name}.movedim(-1, 1)."
    if targets.shape == (*shape[:1], 1, *shape[2:]):
        return " Drop dimension 1: targets.squeeze(1)."
    return ""


def class_indices(targets: Tensor, shape: torch.Size, logits_shape: torch.Size) -> None:
    """Raise unless the targets are class indices of this shape."""
    is_index = not (
        targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool
    )
    if is_index and targets.shape == shape:
        return
    wanted = (
        f"targets must be class indices of shape {list(shape)} or class probabilities of shape "
        f"{list(logits_shape)}; got {targets.dtype} of shape {list(targets.shape)}."
    )
    if targets.shape == shape:
        raise TypeError(wanted + " Convert class indices with targets.long().")
    if targets.shape == logits_shape:
        raise ValueError(wanted + " Pass probabilities as floats.")
    raise ValueError(wanted + layout_fix(targets, logits_shape, "logits"))


def probabilities(targets: Tensor) -> None:
    """Raise unless the targets are probabilities over dimension 1."""
    between("targets given as class probabilities must lie in [0, 1]", targets, 0, 1)
    between(
        "targets given as class probabilities must sum to 1 over dimension 1",
        targets.sum(1, dtype=torch.promote_types(targets.dtype, torch.float32)),
        0.99,
        1.01,
    )


def one_per_class(name: str, vector: Tensor, logits: Tensor) -> None:
    """Raise unless the vector has an element for each class of the logits `[N, C, ...]`."""
    if vector.shape != logits.shape[1:2]:
        have = "none" if logits.ndim < 2 else logits.shape[1]
        raise ValueError(
            f"{name} must hold one number per class or label: it has {vector.numel()}, the logits "
            f"{list(logits.shape)} have {have} in dimension 1."
        )


def class_vector(
    name: str,
    value: Any,
    *,
    of: str = "weight",
    per: str = "class",
    at_most: float = sys.float_info.max,
) -> Tensor:
    """A list, array or tensor as a vector of finite numbers in [0, at_most], one per class.

    A copy in float32, or in float64 where it came so, whatever dtype and device are the default.
    """
    try:
        if isinstance(value, Tensor):
            given = value.detach()
        else:
            dtype = None if hasattr(value, "__array__") else torch.float32
            given = torch.as_tensor(value, dtype=dtype, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{name} must be a list, array or tensor with one {of} per {per}; got {value!r}."
        ) from error
    if given.ndim != 1 or given.numel() == 0 or given.is_complex() or given.is_meta:
        raise ValueError(
            f"{name} must hold one {of} per {per} in one dimension; got {value!r} of shape "
            f"{list(given.shape)}."
        )
    vector = given.to(torch.promote_types(given.dtype, torch.float32), copy=True)
    if readable(vector):
        low, high = (float(bound) for bound in torch.aminmax(vector))
        if not (low >= 0 and high <= at_most):
            bound = "finite numbers of at least 0"
            if at_most < sys.float_info.max:
                bound = f"numbers in [0, {at_most:g}]"
            raise ValueError(f"{name} must hold {bound}, one {of} per {per}; got {value!r}.")
    return vector


def class_masses(name: str, value: Any) -> Tensor:
    """`class_vector` of counts, or of other masses in the same ratio: each above 0."""
    masses = class_vector(name, value, of="count")
    if readable(masses) and not (masses > 0).all():
        raise ValueError(
            f"{name} must be above 0 for every class; class {int(masses.argmin())} has 0. Leave "
            "its output out of the model, or add 1 to every count."
        )
    return masses


def split_ignored(
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
        between(what, targets, 0, top)
        return targets, None
    valid = targets != ignore_index
    targets = targets.masked_fill(~valid, 0)
    between(f"{what} or equal ignore_index={ignore_index}", targets, 0, top)
    return targets, valid
