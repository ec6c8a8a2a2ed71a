"""From values, validity and weights to the returned loss."""

from functools import reduce

import torch
from torch import Tensor

from imbalanced_losses.distributed import sum_across_ranks


def reduce_cells(
    cells: Tensor,
    reduction: str,
    count: int,
    *,
    valid: Tensor | None = None,
    weight: Tensor | None = None,
    positive: Tensor | None = None,
    call: str | None = None,
) -> Tensor:
    """Weighted `cells` as they are (`none`), their `sum`, or their mean over a mass.

    There are `count` cells; without a `weight`, `cells` may be their sum already. `valid`, `weight`
    and `positive` have the cells' shape or are None, which stands for ones; invalid cells are 0
    already. A cell adds the product of the three to the mass, so `positive` (for `mean_positive`)
    changes the denominator only. Without any mass the mean is the sum of nothing: 0, attached to
    the graph. Without weights the mass counts, and counts at least 1. Given the `call` that all
    ranks are to make, both sums run over them; `none` never travels.
    """
    if weight is not None:
        cells = cells * weight
    if reduction == "none":
        return cells
    shares = [share.to(cells.dtype) for share in (valid, weight, positive) if share is not None]
    numerator = cells.sum() if cells.ndim else cells
    if reduction == "mean" and not shares and call is None:
        # Unlike mean(), whose gradient is written out cell by cell.
        return numerator / max(count, 1)
    mass = reduce(torch.mul, shares).sum() if shares else cells.new_full((), count)
    if call is not None:
        numerator, mass = sum_across_ranks(numerator, mass, call)
    if reduction == "sum":
        return numerator
    return numerator / (mass.clamp(min=1) if weight is None else mass.where(mass > 0, 1))
