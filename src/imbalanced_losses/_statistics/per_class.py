"""What every ranking statistic returns."""

from typing import NamedTuple

import torch
from torch import Tensor

from imbalanced_losses._pool import Pool


class PerClass(NamedTuple):
    """One loss per class; where not `valid`, the value is finite and means nothing."""

    value: Tensor  # [C]
    valid: Tensor  # [C] bool


def loss_of(pool: Pool, terms: Tensor, mass: Tensor, valid: Tensor) -> PerClass:
    """1 - the mean of `terms` `[C, M]` under `mass` `[C, M]`.

    A class without mass is not valid. A valid class with a score that is not finite is NaN, in its
    gradient as well, so that a diverging step is seen by whoever watches either.
    """
    total = mass.sum(1)
    valid = valid & (total > 0)
    mean = (mass * terms).sum(1) / torch.where(valid, total, 1.0)
    return PerClass(1 - mean * torch.where(valid & pool.poisoned, torch.nan, 1.0), valid)
