"""A temperature as a share of the spread of the scores, so that it means the same on any model."""

import torch
from torch import Tensor

from imbalanced_losses._ops.masks import row_counts
from imbalanced_losses._ops.quantile import masked_quantiles
from imbalanced_losses._pool.pool import Pool

TAU_SCALES = ("none", "std", "iqr")
# Scores that spread no further are equal but for rounding.
SMALLEST_SCALE = 1e-12


def scaled(temperature: Tensor, pool: Pool, tau_scale: str) -> Tensor:
    """The temperature in units of the score: `[]` as it is for `"none"`, `[C]` otherwise.

    The spread is that of the valid rows of each class, unweighted and without gradient: their
    standard deviation, or their inter-quartile range. Where it is 0, as it is at an initialisation
    that gives all rows one score, there is no unit to speak of: the temperature is taken as it is,
    so that such a class still has a gradient and leaves this state.
    """
    if tau_scale == "none":
        return temperature
    scores = pool.fixed_scores
    if tau_scale == "std":
        spread = standard_deviations(scores, pool.valid)
    else:
        quartiles = masked_quantiles(scores, pool.valid, [0.75, 0.25], "linear")
        spread = quartiles[:, 0] - quartiles[:, 1]
    has_spread = (spread > SMALLEST_SCALE) & (spread < torch.inf)
    return temperature * spread.where(has_spread, 1.0)


def standard_deviations(scores: Tensor, member: Tensor) -> Tensor:
    """Of the members of each row of `[C, M]`, `[C]`; exactly 0 where they are equal."""
    if scores.shape[1] == 0:
        return scores.new_zeros(len(scores))
    # From a member on: a mean of equal scores may differ from them by rounding.
    top = scores.masked_fill(~member, -torch.inf).amax(1, keepdim=True)
    away = (scores - top).masked_fill(~member, 0.0)
    count = row_counts(member).clamp(min=1)
    mean = away.sum(1, keepdim=True) / count
    squares = (away - mean).masked_fill(~member, 0.0).square()
    return (squares.sum(1) / count.squeeze(1)).sqrt()
