"""Quantiles of masked rows, for all classes and levels at once, without a limit on the length."""

from collections.abc import Sequence

import torch
from torch import Tensor

INTERPOLATIONS = ("higher", "linear", "lower", "midpoint", "nearest")


def masked_quantiles(
    values: Tensor, member: Tensor, levels: Sequence[float], interpolation: str
) -> Tensor:
    """Quantiles of the members of each row, as `torch.quantile` defines them.

    Args:
        values: `[C, M]`, finite, without gradient.
        member: `[C, M]` bool.
        levels: Q numbers within [0, 1].
        interpolation: One of INTERPOLATIONS.

    Returns:
        `[C, Q]`; NaN for a row without members.
    """
    if values.shape[1] == 0:
        return values.new_full((len(values), len(levels)), torch.nan)
    count = member.sum(1, keepdim=True)
    ascending = values.masked_fill(~member, torch.inf).sort(1).values
    # In float32 the position would be off by whole rows from 2^24 members on.
    level = torch.tensor(levels, dtype=torch.float64, device=values.device)
    position = level * (count - 1)
    # (1 - 0.9) * 10 is below 1 in floating point; the row that is meant is row 1.
    position = torch.where(
        (position - position.round()).abs() <= 1e-12 * count, position.round(), position
    )
    lower, upper = position.floor(), position.ceil()
    if interpolation == "nearest":
        lower = upper = position.round()
    elif interpolation == "lower":
        upper = lower
    elif interpolation == "higher":
        lower = upper
    fraction = 0.5 if interpolation == "midpoint" else (position - lower).to(values.dtype)
    start = _take(ascending, lower)
    result = start if lower is upper else start.lerp(_take(ascending, upper), fraction)
    return torch.where(count > 0, result, torch.nan)


def _take(ascending: Tensor, position: Tensor) -> Tensor:
    # Only an empty row has a position below 0.
    return ascending.gather(1, position.long().clamp(min=0))
