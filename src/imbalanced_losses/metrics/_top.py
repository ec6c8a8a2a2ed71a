"""Quantities of the highest scores: what a fixed number of alerts finds."""

import torch
from torch import Tensor

from imbalanced_losses._checks import integer, number, one_of
from imbalanced_losses._ops.quantile import INTERPOLATIONS, masked_quantiles
from imbalanced_losses.metrics._cells import (
    ArrayLike,
    Average,
    Cells,
    Curve,
    averaged,
    binary_cells,
    curve_of,
)


@torch.no_grad()
def recall_at_quantile(
    scores: ArrayLike,
    targets: ArrayLike,
    quantile: float = 0.005,
    *,
    interpolation: str = "higher",
    average: Average = "none",
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
) -> Tensor:
    """Recall at an alert budget: the share of positives among the top `quantile` of all rows.

        recall = share of the positives with s_i >= theta,
        theta = the 1 - quantile quantile of all scores,

    with `torch.quantile`'s meaning of `interpolation`. With weights, of total W and of which the
    smallest is w, theta is the lowest score with at most `quantile` (W - w) above it, which for
    equal weights is the same. Undefined without a positive.

    Args:
        scores: See the top of `imbalanced_losses.metrics`, as for the other arguments.
        targets: Class indices or multi-hot.
        quantile: Share of the rows that raises an alert, within [0, 1].
        interpolation: `"higher"`, `"linear"`, `"lower"`, `"midpoint"` or `"nearest"`.
        average: `"none"` or `"macro"`.
        sample_weight: Weight of a row, a position or a cell each; with `"higher"` only.
        ignore_index: Target value of the cells to leave out.

    Returns:
        `[C]`, or a scalar for `[N]` scores or `"macro"`, within [0, 1].

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For an option out of range, shapes that do not fit, or targets or weights out
            of range (CPU only).

    Examples:
        >>> import torch
        >>> from imbalanced_losses.metrics import recall_at_quantile
        >>> recall_at_quantile(torch.arange(10.0), torch.arange(10) % 5 == 4, quantile=0.2)
        tensor(0.5000)
    """
    quantile = number("quantile", quantile, at_least=0, at_most=1)
    one_of("interpolation", interpolation, INTERPOLATIONS)
    if sample_weight is not None and interpolation != "higher":
        raise ValueError(
            'interpolation must be "higher" with sample_weight, for between weighted rows there '
            f"is no agreed quantile; got {interpolation!r}."
        )
    given, cells = binary_cells(scores, targets, sample_weight, ignore_index)
    if interpolation == "higher":
        values = recall_at_quantile_of(cells, quantile)
    else:
        threshold = masked_quantiles(cells.scores, cells.valid, [1 - quantile], interpolation)
        found = (cells.positive & (cells.scores >= threshold)).sum(1)
        values = found.double() / cells.positive.sum(1)
    return averaged(values, average, given)


def recall_at_quantile_of(cells: Cells, quantile: float) -> Tensor:
    """Recall of each class, `[C]` in float64; rows that tie at the threshold all raise an alert."""
    curve = curve_of(cells)
    room, _ = _room_left(cells, curve, quantile)
    return (curve.positive * (room >= 0)).sum(1) / curve.positive.sum(1)


def recall_within_budget(
    scores: Tensor, targets: Tensor, budget: float, sample_weight: Tensor | None = None
) -> Tensor:
    """Recall of each class, `[C]` in float64, where a tie raises no more alerts than there is room.

    The mean over the orders of tied rows, so that a score that tells nothing finds no more than the
    budget. Without ties at the threshold it is `recall_at_quantile`.
    """
    _, cells = binary_cells(scores, targets, sample_weight, ignore_index=-100)
    curve = curve_of(cells)
    room, smallest = _room_left(cells, curve, budget)
    tie = curve.true_positives + curve.false_positives - curve.above
    left = ((room / smallest).floor() + 1) * smallest  # in whole rows
    share = (left / tie.clamp(min=torch.finfo(tie.dtype).tiny)).clamp(0, 1)
    alone = curve.rows - curve.rows_above <= 1
    share = torch.where(alone, 1.0, share) * (room >= 0)
    return (curve.positive * share).sum(1) / curve.positive.sum(1)


def _room_left(cells: Cells, curve: Curve, quantile: float) -> tuple[Tensor, Tensor]:
    """Alerts that are left at each row after those above it `[C, M]`, and the smallest weight."""
    total = cells.weight.sum(1, keepdim=True)
    # Weight of a row each: a cell may stand for several.
    smallest = (cells.weight / cells.multiplicity).nan_to_num(nan=torch.inf).amin(1, keepdim=True)
    # (1 - 0.9) * 10 is below 1 in floating point; the row that is meant is row 1.
    return quantile * (total - smallest) + 1e-12 * total - curve.above, smallest


@torch.no_grad()
def precision_at_k(
    scores: ArrayLike,
    targets: ArrayLike,
    k: int,
    *,
    average: Average = "none",
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
) -> Tensor:
    """Precision at k: the share of positives among the k highest scores.

        precision = sum of y_i u_i / sum of u_i

    where u_i is 1 for rows that are surely among the k highest, 0 for those that surely are not,
    and for rows that tie at the k-th place the share of the tie that is: the mean over every
    order of the tied rows (McSherry and Najork, "Computing Information Retrieval Performance
    Measures Efficiently in the Presence of Tied Scores", ECIR 2008,
    https://doi.org/10.1007/978-3-540-78646-7_38). Undefined without a positive, and with fewer
    than k rows. `sample_weight` multiplies u_i; k counts rows, whatever their weight.

    Args:
        scores: See the top of `imbalanced_losses.metrics`, as for the other arguments.
        targets: Class indices or multi-hot.
        k: Number of alerts, at least 1.
        average: `"none"` or `"macro"`.
        sample_weight: Weight of a row, a position or a cell each.
        ignore_index: Target value of the cells to leave out.

    Returns:
        `[C]`, or a scalar for `[N]` scores or `"macro"`, within [0, 1].

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For an option out of range, shapes that do not fit, or targets or weights out
            of range (CPU only).

    Examples:
        >>> import torch
        >>> from imbalanced_losses.metrics import precision_at_k
        >>> precision_at_k(torch.tensor([0.9, 0.8, 0.8, 0.6]), torch.tensor([1, 0, 1, 0]), k=2)
        tensor(0.7500)
    """
    k = integer("k", k, at_least=1)
    given, cells = binary_cells(scores, targets, sample_weight, ignore_index)
    return averaged(precision_at_k_of(cells, k), average, given)


def precision_at_k_of(cells: Cells, k: int) -> Tensor:
    """Precision of each class, `[C]` in float64."""
    curve = curve_of(cells)
    share = share_of_ties(curve, k)
    values = (curve.positive * share).sum(1) / ((curve.positive + curve.negative) * share).sum(1)
    return values.where((cells.multiplicity.sum(1) >= k) & cells.positive.any(1), torch.nan)


def share_of_ties(curve: Curve, k: int | Tensor) -> Tensor:
    """How much of each row is among the k highest, in the mean over every order of tied rows."""
    tied = (curve.rows - curve.rows_above).clamp(min=1)
    return ((k - curve.rows_above) / tied).clamp(0, 1)
