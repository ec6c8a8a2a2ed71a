"""Quantiles of masked rows, for all classes and levels at once, without a limit on the length."""

from collections.abc import Sequence

import torch
from torch import Tensor

from imbalanced_losses._ops.constants import constants
from imbalanced_losses._ops.masks import row_counts
from imbalanced_losses._ops.runtime import readable

INTERPOLATIONS = ("higher", "linear", "lower", "midpoint", "nearest")

# The largest values of a row are sought in groups of this many, or at once where there are few.
_GROUP = 16
_FEW_TO_SEARCH = 2**13
# Deep in the rows, up to `_FEW` values in all are sorted, which takes few operations; of a row that
# is alone and not `_SHORT`, each rank is selected by itself. More are spread over at most
# `_MOST_BINS` bins for each row, whose range a sample of the size `_SAMPLE` tells.
_FEW = 2**13
_SHORT = 2048
_MOST_BINS = 1024
_SAMPLE = 64
# Values that are spread over bins at a time, so that a core keeps the temporaries in its cache.
_CELLS = 2**18


def masked_quantiles(
    values: Tensor, member: Tensor, levels: Sequence[float], interpolation: str
) -> Tensor:
    """Quantiles of the members of each row, as `torch.quantile` defines them.

    Args:
        values: `[C, M]`, without gradient; no member is NaN.
        member: `[C, M]` bool.
        levels: Q numbers within [0, 1].
        interpolation: One of INTERPOLATIONS.

    Returns:
        `[C, Q]`; NaN for a row without members.
    """
    rows = values.shape[1]
    if rows == 0:
        return values.new_full((len(values), len(levels)), torch.nan)
    count = row_counts(member)
    # In float32 the position would be off by whole rows from 2^24 members on.
    position = (count - 1) * constants(list, tuple(levels), values, dtype=torch.float64)
    # (1 - 0.9) * 10 is below 1 in floating point; the row that is meant is row 1. A row without
    # members, at -1 or above, has rank 0: `long` drops the fraction.
    slack = 1e-12 * rows
    if interpolation == "nearest":
        rank = position.clamp(min=0).round().long()
    elif interpolation == "higher":
        rank = (position + (1 - slack)).long()
    else:
        rank = (position + slack).long()
    if interpolation in ("linear", "midpoint"):
        upper_rank = (position + (1 - slack)).long()
        both = _order_statistics(
            values, member, count, torch.cat((rank, upper_rank), 1), min(levels)
        )
        lower, upper = both.chunk(2, 1)
        fraction = 0.5 if interpolation == "midpoint" else (position - rank).to(values.dtype)
        return lower.lerp(upper, fraction)
    return _order_statistics(values, member, count, rank, min(levels))


def _order_statistics(
    values: Tensor, member: Tensor, count: Tensor, rank: Tensor, lowest: float
) -> Tensor:
    """Members at `rank` `[C, Q]` from the smallest, of which none is below level `lowest`.

    Near the largest members, where the levels of an alert budget lie, only those are looked at. NaN
    for a row without members.
    """
    rows = values.shape[1]
    # A row of n members has the level at (1 - lowest) * (n - 1) from the end, which grows with n;
    # the whole length is deep enough for all. In integers, for lengths may be symbolic.
    depth = rows * (int((1 - lowest) * 2**20) + 1) // 2**20 + 2
    if 2 * _GROUP * depth <= rows:
        fewest = int(count.min()) if readable(values) else 0
        if fewest < rows:
            values = torch.where(member, values, -torch.inf)
        found = _largest(values, depth).gather(1, (count - 1 - rank).clamp(min=0))
        return found if fewest > 0 else found.masked_fill(count == 0, torch.nan)
    if readable(values) and values.numel() > _FEW:
        parts = (torch.split(t, max(1, _CELLS // rows)) for t in (values, member, count, rank))
        found = torch.cat([_from_bins(*part) for part in zip(*parts, strict=True)])
        return found.masked_fill(count == 0, torch.nan)
    if len(values) == 1 and rows > _SHORT and readable(values) and count.any():
        members = values.masked_select(member)
        return torch.stack([members.kthvalue(1 + k).values for k in rank[0].tolist()]).unsqueeze(0)
    return torch.where(member, values, torch.nan).sort(1).values.gather(1, rank)


def _largest(values: Tensor, depth: int) -> Tensor:
    """The `depth` largest values of each row, in descending order.

    The `depth` groups with the largest maxima hold `depth` values that none outside exceeds: two
    short searches take the place of a long one, except where a search costs a launch.
    """
    if values.device.type == "cpu" and not (readable(values) and values.numel() <= _FEW_TO_SEARCH):
        groups = values.shape[1] // _GROUP
        grouped = values[:, : groups * _GROUP].view(len(values), _GROUP, groups)
        best = grouped.amax(1, keepdim=True).topk(depth, sorted=False).indices
        inside = grouped.gather(2, best.expand(-1, _GROUP, -1)).flatten(1)
        values = torch.cat((inside, values[:, groups * _GROUP :]), 1)
    return values.topk(depth).values


def _from_bins(values: Tensor, member: Tensor, count: Tensor, rank: Tensor) -> Tensor:
    """Members at `rank` `[C, Q]`: only the bins that hold them are sorted.

    Reads how much that is, so for readable tensors alone.
    """
    classes, rows = values.shape
    width = min(_MOST_BINS, 1 + rows // 8)
    # All bins of all rows in one line, behind one for the cells that are no members.
    total = 1 + classes * width
    first = torch.arange(1, total, width, dtype=torch.int32).unsqueeze(1)
    bins = _bins(values, width).add_(first).mul_(member).flatten()
    held = torch.bincount(bins, minlength=total)[1:].view(classes, width)
    # Only a row without members has no bin for the rank.
    chosen = torch.searchsorted(held.cumsum(1), rank, right=True).clamp_(max=width - 1)
    wanted = torch.zeros(total, dtype=torch.bool)
    wanted[1:].view(classes, width).scatter_(1, chosen, True)
    kept = values.take(wanted.index_select(0, bins).nonzero().squeeze(1))
    dropped = held.scatter(1, chosen, 0).cumsum(1)
    left = count - dropped[:, -1:]
    # The rows follow each other in `kept`; NaN, which sorts last, fills those that keep fewer.
    inside = torch.arange(max(1, int(left.max()))) < left
    short = values.new_full(inside.shape, torch.nan).masked_scatter_(inside, kept)
    return short.sort(1).values.gather(1, rank - dropped.gather(1, chosen))


def _bins(values: Tensor, width: int) -> Tensor:
    """Bins `[C, M]` int32 in [0, width) of one size, never lower for a larger value of a row.

    That suffices for exact results; bad bins only leave much to sort. They span three times the
    inner three quarters of a sample, for normal scores about seven standard deviations: an outlier
    falls into the outermost bin and does not crowd the others into few.
    """
    sample = values[:, :: -(-values.shape[1] // _SAMPLE)].sort(1).values
    eighth = sample.shape[1] // 8
    low, high = sample[:, eighth, None], sample[:, -1 - eighth, None]
    span = high - low
    # Where the span is 0, so is the value itself, and 0 * inf goes to the top like all above it.
    place = (values - (low - span)).mul_(width / 3 / span)
    return place.nan_to_num_(width - 1).clamp_(0, width - 1).to(torch.int32)
