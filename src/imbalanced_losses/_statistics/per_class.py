"""What every ranking statistic returns."""

from typing import NamedTuple

import torch
from torch import Tensor

from imbalanced_losses._pool import Pool

# Up to so many cells, a few operations on each cost less than choosing the positives.
POINTWISE = 2**13


class PerClass(NamedTuple):
    """One loss per class; where not `valid`, the value is finite and means nothing."""

    value: Tensor  # [C]
    valid: Tensor  # [C] bool


def loss_of(pool: Pool, terms: Tensor, mass: Tensor, usable: Tensor | bool = True) -> PerClass:
    """1 - the mean of `terms` `[C, K]` under `mass` `[C, K]`.

    A class is valid if it is `usable` and has mass. A valid class with a score that is not finite
    is NaN, in its gradient as well, so that a diverging step is seen by whoever watches either.
    """
    total = mass.sum(1)
    valid = (total > 0) & usable
    mean = (mass * terms).sum(1) / total.masked_fill(~valid, 1.0)
    if pool.poisoned is not None:
        mean = mean * torch.where(valid & pool.poisoned, torch.nan, 1.0)
    return PerClass(1 - mean, valid)
