"""Soft recall above a quantile of all scores."""

from functools import partial

from torch import Tensor

from imbalanced_losses import _checks
from imbalanced_losses._ops.quantile import INTERPOLATIONS, masked_quantiles
from imbalanced_losses._ops.soft_step import soft_step
from imbalanced_losses._pool import Pool, select
from imbalanced_losses._statistics.per_class import (
    PADDING,
    POINTWISE,
    PerClass,
    by_size,
    mean_of,
)


def check_recall(quantile: float, interpolation: str) -> None:
    """Raise unless these are options of `recall_at_quantile`."""
    _checks.number("quantile", quantile, above=0, below=1)
    _checks.one_of("quantile_interpolation", interpolation, INTERPOLATIONS)


def recall_at_quantile(
    pool: Pool, temperature: Tensor, *, quantile: float, interpolation: str
) -> PerClass:
    """1 - the mean over positives of sigma((s - theta) / tau), theta the 1 - quantile quantile.

    A class is valid with at least one positive.
    """
    statistic = partial(
        _recall, temperature=temperature, quantile=quantile, interpolation=interpolation
    )
    return by_size(pool, statistic, padding=PADDING)


def _recall(pool: Pool, temperature: Tensor, quantile: float, interpolation: str) -> PerClass:
    positives = select(pool, pool.positive, above=POINTWISE)
    theta = masked_quantiles(pool.scores.detach(), pool.valid, [1 - quantile], interpolation)
    theta = theta.nan_to_num(0.0)  # a class without rows
    found, slopes = soft_step(positives.scores - theta, temperature, slope=pool.wants_slope)
    return mean_of(positives, found, slopes)
