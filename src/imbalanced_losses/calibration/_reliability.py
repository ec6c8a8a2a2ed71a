"""Predicted probabilities against what came true."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from imbalanced_losses._checks import flag, integer, one_of
from imbalanced_losses.metrics._cells import (
    ArrayLike,
    Average,
    Cells,
    as_tensor,
    averaged,
    binary_cells,
)


class Reliability(NamedTuple):
    """A reliability diagram, each field `[C, bins]`, or `[bins]` for `[N]` probabilities."""

    confidence: Tensor  # mean predicted probability of the bin; NaN where it is empty
    frequency: Tensor  # share of positives in it; NaN where it is empty
    weight: Tensor  # weight of the rows in it: their number where there are no weights
    rows: Tensor  # number of the rows in it


@torch.no_grad()
def reliability(
    probabilities: ArrayLike,
    targets: ArrayLike,
    *,
    bins: int = 15,
    strategy: Literal["quantile", "uniform"] = "quantile",
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
) -> Reliability:
    """What was predicted against what came true, in bins of the predicted probability.

    With rare classes nearly all probabilities lie in the lowest of equally wide bins, so by default
    each bin holds as many rows as the next: row i of n, from the lowest probability, falls into bin
    floor(i bins / n), tied rows together into the bin of the first of them. See DeGroot and
    Fienberg, "The Comparison and Evaluation of Forecasters", The Statistician 1983,
    https://doi.org/10.2307/2987588.

    Args:
        probabilities: `[N]`, `[N, C]` or `[N, C, d1, ...]`, floating, within [0, 1]; every class is
            one binary problem, as for `imbalanced_losses.metrics`.
        targets: Class indices or multi-hot.
        bins: Number of bins.
        strategy: `"quantile"` for bins of equally many rows, `"uniform"` for equally wide ones.
        sample_weight: Weight of a row, a position or a cell each.
        ignore_index: Target value of the cells to leave out.

    Returns:
        `(confidence, frequency, weight, rows)` of each bin.

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For probabilities outside [0, 1] or NaN, an option out of range, shapes that do
            not fit, or targets or weights out of range (CPU only).

    Examples:
        >>> import torch
        >>> from imbalanced_losses.calibration import reliability
        >>> predicted = torch.tensor([0.1, 0.3, 0.6, 0.8])
        >>> found = reliability(predicted, torch.tensor([0, 0, 1, 1]), bins=2)
        >>> found.confidence, found.frequency
        (tensor([0.2000, 0.7000]), tensor([0., 1.]))
    """
    given, cells = _probabilities(probabilities, targets, sample_weight, ignore_index)
    found = _binned(cells, bins, strategy)
    return Reliability(*(_per_bin(part, given) for part in found))


@torch.no_grad()
def calibration_error(
    probabilities: ArrayLike,
    targets: ArrayLike,
    *,
    norm: Literal["l1", "l2"] = "l1",
    debias: bool = True,
    bins: int = 15,
    strategy: Literal["quantile", "uniform"] = "quantile",
    average: Average = "none",
    ignore_index: int = -100,
) -> Tensor:
    """Expected calibration error: how far predicted probabilities lie from what comes true.

    With share w_b of the rows in bin b, mean probability c_b and share of positives y_b,

        l1: sum of w_b |y_b - c_b|,       l2: sqrt(sum of w_b (y_b - c_b)^2).

    Noise in y_b makes either too large, and for rare classes that can be most of it. With `debias`
    its expectation is taken off: for l2 y_b (1 - y_b) / (n_b - 1) from each square, which leaves no
    bias; for l1 the mean excess of |y - c_b| over |y_b - c_b| for y normal around y_b with variance
    y_b (1 - y_b) / n_b. Kumar, Liang and Ma, "Verified Uncertainty Calibration", NeurIPS 2019,
    https://arxiv.org/abs/1909.10155, section 4.2 for l2 and their code for l1, here in closed form.
    What is left is cut at 0. Bins only see what does not cancel inside them: the error is a lower
    bound. Bins of one row are left out of the debiased l2.

    Args:
        probabilities: As for `reliability`.
        targets: Class indices or multi-hot.
        norm: `"l1"`, the usual ECE, or `"l2"`.
        debias: Take off what noise adds.
        bins: Number of bins.
        strategy: `"quantile"` for bins of equally many rows, `"uniform"` for equally wide ones.
        average: `"macro"` for the mean over the classes, `"none"` for each: the marginal or
            classwise error.
        ignore_index: Target value of the cells to leave out.

    Returns:
        `[C]`, or a scalar for `[N]` probabilities or `"macro"`, within [0, 1]; NaN without a row.

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For probabilities outside [0, 1] or NaN, an option out of range, shapes that do
            not fit, or targets out of range (CPU only).

    Examples:
        >>> import torch
        >>> from imbalanced_losses.calibration import calibration_error
        >>> rows = torch.arange(1000)
        >>> calibration_error(torch.full((1000,), 0.3), rows % 10 < 2, bins=1)
        tensor(0.1000)
    """
    one_of("norm", norm, ("l1", "l2"))
    flag("debias", debias)
    given, cells = _probabilities(probabilities, targets, None, ignore_index)
    confidence, frequency, _, rows = _binned(cells, bins, strategy)
    gap = frequency - confidence
    noise = frequency * (1 - frequency)
    if norm == "l2":
        squares = gap.square()
        if debias:
            squares = squares - noise / (rows - 1)
            rows = rows.where(rows > 1, 0)
        total = _mean_over_bins(squares, rows).clamp(min=0).sqrt()
    else:
        gap = gap.abs()
        if debias:
            spread = (noise / rows).sqrt()
            z = gap / spread
            density = (-z.square() / 2).exp() * math.sqrt(2 / math.pi)
            likely = torch.where(spread > 0, spread * density + gap * torch.erf(z / 2**0.5), gap)
            gap = 2 * gap - likely
        total = _mean_over_bins(gap, rows).clamp(min=0)
    return averaged(total, average, given)


def _per_bin(part: Tensor, given: Tensor) -> Tensor:
    """Bins `[C, B]` as what the caller gets for the probabilities `given`."""
    dtype = torch.promote_types(given.dtype, torch.float32)
    return (part if given.dim() > 1 else part[0]).to(dtype).to(given.device)


def _mean_over_bins(values: Tensor, rows: Tensor) -> Tensor:
    return torch.where(rows > 0, values * rows, 0.0).sum(1) / rows.sum(1)


def _binned(cells: Cells, bins: int, strategy: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Fields of a `Reliability`, each `[C, bins]` in float64."""
    bins = integer("bins", bins, at_least=1)
    one_of("strategy", strategy, ("quantile", "uniform"))
    if strategy == "uniform":
        place = (cells.scores * bins).long().clamp(max=bins - 1)
    else:
        keys = cells.scores.masked_fill(~cells.valid, math.inf).sort(dim=1).values
        below = torch.searchsorted(keys, cells.scores.contiguous())
        count = cells.valid.sum(1, keepdim=True).clamp(min=1)
        place = (below * bins // count).clamp(max=bins - 1)
    place = place.where(cells.valid, 0)

    def total(part: Tensor) -> Tensor:
        return part.new_zeros(len(part), bins).scatter_add_(1, place, part)

    weight = total(cells.weight)
    confidence = total(cells.weight * cells.scores.where(cells.valid, 0.0)) / weight
    frequency = total(cells.weight * cells.positive) / weight
    return confidence, frequency, weight, total(cells.multiplicity)


def _probabilities(
    probabilities: ArrayLike, targets: ArrayLike, weight: ArrayLike | None, ignore_index: int
) -> tuple[Tensor, Cells]:
    given = as_tensor("probabilities", probabilities)
    if not given.is_floating_point():
        raise TypeError(f"probabilities must be of a floating dtype; got {given.dtype}.")
    # An ignored cell may hold anything, and NaN in a valid one would only look like no row.
    filled = given.nan_to_num(nan=-1.0)
    _, cells = binary_cells(filled, targets, weight, ignore_index)
    wrong = cells.valid & ~((cells.scores >= 0) & (cells.scores <= 1))
    if wrong.any():
        first = cells.scores[wrong][0].item()
        raise ValueError(
            "probabilities must lie within [0, 1] and not be NaN; got "
            f"{'NaN or -1' if first == -1 else first}. Logits go through .softmax(1) or .sigmoid()."
        )
    return given, cells
