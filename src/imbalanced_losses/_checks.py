"""Checks of constructor and option values, all with one style of message."""

import math
from collections.abc import Sequence


def one_of(name: str, value: object, options: Sequence[str]) -> None:
    """Raise unless `value` is one of the strings in `options`."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}; got {value!r}.")


def number(
    name: str,
    value: object,
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    at_most: float = math.inf,
    below: float = math.inf,
) -> None:
    """Raise unless `value` is a finite real number within the bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number; got {value!r} of type {type(value).__name__}.")
    if at_least <= value <= at_most and above < value < below:
        return
    bounds = {"at least": at_least, "above": above, "at most": at_most, "below": below}
    wanted = [f"{word} {bound:g}" for word, bound in bounds.items() if math.isfinite(bound)]
    raise ValueError(f"{name} must be {' and '.join(wanted) or 'finite'}; got {value!r}.")


def integer(name: str, value: object, *, at_least: int | None = None) -> None:
    """Raise unless `value` is an int (not a bool), of at least `at_least` where that is given."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int; got {value!r} of type {type(value).__name__}.")
    if at_least is not None and value < at_least:
        raise ValueError(f"{name} must be at least {at_least}; got {value}.")


def flag(name: str, value: object, *, optional: bool = False) -> None:
    """Raise unless `value` is a bool, or None where `optional`."""
    if not isinstance(value, bool) and not (optional and value is None):
        wanted = "True, False or None" if optional else "True or False"
        raise TypeError(f"{name} must be {wanted}; got {value!r}.")
