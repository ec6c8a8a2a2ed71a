"""Smooth average precision (Brown, Xie, Kalogeiton and Zisserman, ECCV 2020)."""

import torch
from torch import Tensor

from imbalanced_losses._kernel.soft_rank import soft_counts
from imbalanced_losses._pool import Pool
from imbalanced_losses._statistics.per_class import PerClass, loss_of


def smooth_ap(pool: Pool, temperature: Tensor) -> PerClass:
    """1 - the mean over positives of soft rank among positives / soft rank among all.

    A class is valid with at least one positive and one negative.
    """
    # The largest number keeps the order of the rows that count and, unlike infinity, has finite
    # differences; those rows come last and weigh nothing.
    last = torch.finfo(pool.scores.dtype).max
    ascending, order = torch.where(pool.valid, pool.scores, last).sort(1)
    positive = pool.positive.gather(1, order).to(ascending.dtype)
    rows = pool.valid.sum(1, keepdim=True)
    everyone = (torch.arange(order.shape[1], device=order.device) < rows).to(ascending.dtype)
    counts = soft_counts(ascending, torch.stack((everyone, positive), 1), temperature)
    # A row counts itself as sigma(0) = 1/2 where its own rank is 1.
    rank, rank_among_positives = (counts + 0.5).unbind(1)
    positives = pool.positive.sum(1)
    valid = (positives > 0) & (positives < rows.squeeze(1))
    mass = positive * pool.weight[order]
    return loss_of(pool, rank_among_positives / rank, mass, valid)
