"""Quantiles of masked rows, for all classes and levels at once, without a limit on the length."""

from collections.abc import Sequence

import torch
from torch import Tensor

INTERPOLATIONS = ("higher", "linear", "lower", "midpoint", "nearest")


def masked_quantiles(
    values: Tensor, member: Tensor, levels: Sequence[float], interpolation: str
) -> Tensor:
    """Quantiles of the members of each row, as `torch.quantile` defines them.

    The members are not sorted but selected from the nearer end, which for the levels of an alert
    budget takes a fraction of the time.

    Args:
        values: `[C, M]`, finite, without gradient.
        member: `[C, M]` bool.
        levels: Q numbers within [0, 1].
        interpolation: One of INTERPOLATIONS.

    Returns:
        `[C, Q]`; NaN for a row without members.
    """
    rows = values.shape[1]
    if rows == 0:
        return values.new_full((len(values), len(levels)), torch.nan)
    last = member.sum(1, keepdim=True) - 1
    # In float32 the position would be off by whole rows from 2^24 members on. Column by column,
    # because a tensor made from a list is a copy that an accelerator waits for.
    position = torch.cat([last.double() * level for level in levels], 1)
    # (1 - 0.9) * 10 is below 1 in floating point; the row that is meant is row 1.
    whole = position.round()
    position = torch.where((position - whole).abs() <= 1e-12 * rows, whole, position)
    lower, upper = position.floor(), position.ceil()
    if interpolation == "nearest":
        lower = upper = whole
    elif interpolation == "lower":
        upper = lower
    elif interpolation == "higher":
        lower = upper
    # From the bottom for levels below 1/2, else from the top, as deep as the longest row needs.
    bottom = _smallest(values, member, [p for p in levels if p < 0.5])
    top = -_smallest(-values, member, [1 - p for p in levels if p >= 0.5])
    tails = torch.cat((bottom, top), 1)

    def at(rank: Tensor) -> Tensor:
        from_bottom, from_top = rank.long(), bottom.shape[1] + last - rank.long()
        place = torch.cat(
            [(from_bottom if p < 0.5 else from_top)[:, q : q + 1] for q, p in enumerate(levels)], 1
        )
        # Only a row without members has a place outside.
        return tails.gather(1, place.clamp(0, tails.shape[1] - 1))

    result = at(lower)
    if lower is not upper:
        fraction = 0.5 if interpolation == "midpoint" else (position - lower).to(values.dtype)
        result = result.lerp(at(upper), fraction)
    return torch.where(last >= 0, result, torch.nan)


def _smallest(values: Tensor, member: Tensor, levels: list[float]) -> Tensor:
    """The smallest members of each row, ascending, as many as the quantiles at `levels` may need.

    A row of n members has the quantile at level p at rank p (n - 1), which grows with n; counting
    the whole length as members is deep enough for all. In integers, for lengths may be symbolic.
    """
    if not levels:
        return values[:, :0]
    rows = values.shape[1]
    depth = min(rows, rows * (int(max(levels) * 1024) + 1) // 1024 + 2)
    return values.masked_fill(~member, torch.inf).topk(depth, largest=False).values
