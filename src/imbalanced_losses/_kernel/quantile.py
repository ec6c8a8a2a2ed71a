"""Quantiles of masked rows, for all classes and levels at once, without a limit on the length."""

from collections.abc import Sequence

import torch
from torch import Tensor

from imbalanced_losses._eager import readable

# Where a level counts as far from the nearer end.
_DEEP = 1 / 16

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
    result = _select(values, member, last, levels, lower.long())
    if lower is not upper:
        fraction = 0.5 if interpolation == "midpoint" else (position - lower).to(values.dtype)
        result = result.lerp(_select(values, member, last, levels, upper.long()), fraction)
    return torch.where(last >= 0, result, torch.nan)


def _select(
    values: Tensor, member: Tensor, last: Tensor, levels: Sequence[float], rank: Tensor
) -> Tensor:
    """Members at `rank` `[C, Q]`, where the quantiles at `levels` lie, from the nearer end each.

    Levels at an end and levels further in are selected apart, for the latter leave most of the tail
    that they end unsorted.
    """
    outside = ~member
    columns: list[Tensor] = [values] * len(levels)
    for sign in (1, -1):
        near = {q: min(p, 1 - p) for q, p in enumerate(levels) if (1 if p < 0.5 else -1) == sign}
        if not near:
            continue
        from_end = (values if sign > 0 else -values).masked_fill(outside, torch.inf)
        for deep in (False, True):
            shares = {q: share for q, share in near.items() if (share > _DEEP) == deep}
            if shares:
                wanted = torch.cat([rank[:, q : q + 1] for q in shares], 1)
                found = _smallest(
                    from_end,
                    max(shares.values()),
                    wanted if sign > 0 else last - wanted,
                    sort=not deep,
                )
                for column, q in enumerate(shares):
                    columns[q] = found[:, column : column + 1] * sign
    return torch.cat(columns, 1)


def _smallest(values: Tensor, share: float, rank: Tensor, *, sort: bool) -> Tensor:
    """Values of each row at `rank` `[C, q]`, none beyond the quantile at level `share`.

    A row of n members has that quantile at rank share * (n - 1), which grows with n; counting the
    whole length as members is deep enough for all. In integers, for lengths may be symbolic.
    """
    rows = values.shape[1]
    depth = min(rows, rows * (int(share * 1024) + 1) // 1024 + 2)
    # Only a row without members has a rank outside.
    rank = rank.clamp(0, depth - 1)
    if sort or not readable(values):
        return values.topk(depth, largest=False).values.gather(1, rank)
    from_top = depth - 1 - rank
    tail = values.topk(depth, largest=False, sorted=False).values
    return tail.topk(int(from_top.max()) + 1).values.gather(1, from_top)
