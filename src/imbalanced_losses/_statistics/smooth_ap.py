"""Smooth average precision (Brown, Xie, Kalogeiton and Zisserman, ECCV 2020)."""

from functools import partial

from torch import Tensor

from imbalanced_losses._kernel.soft_rank import soft_counts
from imbalanced_losses._pool import Pool, select
from imbalanced_losses._statistics.per_class import PerClass, by_size, loss_of

# Padded positives that cost less than a part of the classes more.
_PADDING = 2**11


def smooth_ap(pool: Pool, temperature: Tensor) -> PerClass:
    """1 - the mean over positives of soft rank among positives / soft rank among all.

    A class is valid with at least one positive and one negative.
    """
    return PerClass(*by_size(pool, partial(_smooth_ap, temperature=temperature), padding=_PADDING))


def _smooth_ap(pool: Pool, temperature: Tensor) -> PerClass:
    (positives,) = select(pool, pool.positive)
    dtype, scores = pool.scores.dtype, positives.scores
    everyone = pool.valid.to(dtype)
    # A row counts itself as sigma(0) = 1/2 where its own rank is 1.
    rank = 0.5 + soft_counts(scores, pool.scores, everyone, temperature, pool.movable)
    rank_among_positives = 0.5 + soft_counts(
        scores, scores, positives.inside.to(dtype), temperature
    )
    has_negative = positives.inside.sum(1) < everyone.sum(1)
    return loss_of(pool, rank_among_positives / rank, positives.mass, has_negative)
