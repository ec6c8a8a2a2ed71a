"""Smooth average precision (Brown, Xie, Kalogeiton and Zisserman, ECCV 2020)."""

from functools import partial

import torch
from torch import Tensor

from imbalanced_losses._ops.soft_counts.blocks import soft_counts
from imbalanced_losses._pool import Pool, select
from imbalanced_losses._statistics.per_class import PerClass, by_size, shares_of

# Cells of padding cost more here, where each is a query.
_PADDING = 2**11


def smooth_ap(pool: Pool, temperature: Tensor) -> PerClass:
    """1 - the mean over positives of soft rank among positives / soft rank among all.

    A class is valid with at least one positive and one negative.
    """
    return by_size(pool, partial(_smooth_ap, temperature=temperature), padding=_PADDING)


def _smooth_ap(pool: Pool, temperature: Tensor) -> PerClass:
    positives = select(pool, pool.positive)
    members = torch.stack((pool.valid, pool.positive), 1).to(pool.scores.dtype)
    counts, pull = soft_counts(
        positives.scores, pool.scores, members, temperature, movable=pool.first_live
    )
    # A row counts itself as sigma(0) = 1/2 where its own rank is 1.
    rank, rank_among_positives = (counts + 0.5).unbind(1)
    rows, positive_rows = members.sum(2).unbind(1)
    shares, valid = shares_of(positives.mass(), positive_rows < rows)
    shares = shares / rank
    terms = shares * rank_among_positives
    value = 1 - terms.sum(1)
    if not pool.wants_slope:
        return PerClass(value, valid, terms.new_empty(len(terms), 0))
    by_positive, by_row = pull(torch.stack((terms / rank, -shares), 1))
    return PerClass(value, valid, positives.add_to_(by_row, by_positive))
