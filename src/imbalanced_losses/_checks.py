"""Checks of constructor and option values, all with one style of message."""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any


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
