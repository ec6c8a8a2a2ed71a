"""The exact quantities that the ranking losses approximate, one-vs-rest for every class.

All take `scores` `[N, C]` or `[N]`, higher meaning more likely positive, with `targets` as class
indices `[N]` (0/1 where there is one class) or multi-hot of the scores' shape. They return one
value per class, `[C]`, or a scalar for `[N]` scores, in the scores' dtype (float32 for half
precision); NaN where the quantity is undefined. Cells equal to `ignore_index` do not count.
Nothing here carries a gradient.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from imbalanced_losses._checks import number, one_of
from imbalanced_losses._ops.quantile import INTERPOLATIONS, masked_quantiles
from imbalanced_losses._pool.rows import IGNORED, one_vs_rest

__all__ = ["average_precision", "partial_auc", "recall_at_quantile"]


@torch.no_grad()
def average_precision(scores: Tensor, targets: Tensor, *, ignore_index: int = -100) -> Tensor:
    """Average precision: the mean, over the positives, of the precision at each one's score.

        AP = sum over n of (R_n - R_(n-1)) P_n

    with precision P_n and recall R_n at the n-th distinct score from the top, so that tied rows
    share one point; the same as scikit-learn's `average_precision_score` (the step-wise sum of
    Su, Yuan and Zhu, "A Relationship between the Average Precision and the Area Under the ROC
    Curve", ICTIR 2015). Undefined without a positive.

    Args:
        scores: `[N, C]` or `[N]`, floating.
        targets: Class indices `[N]`, or multi-hot of the scores' shape.
        ignore_index: Target value of the cells to leave out.

    Returns:
        `[C]`, or a scalar for `[N]` scores, within [0, 1].

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For shapes that do not fit, or targets out of range (CPU only).

    Example:
        >>> import torch
        >>> from imbalanced_losses.metrics import average_precision
        >>> average_precision(torch.tensor([0.9, 0.8, 0.7]), torch.tensor([1, 0, 1]))
        tensor(0.8333)
    """
    curve = _roc_curve(*_one_vs_rest(scores, targets, ignore_index))
    precision = curve.true_positives / (curve.true_positives + curve.false_positives).clamp(min=1)
    total = curve.positive.sum(1)
    return ((precision * curve.positive).sum(1) / total).reshape(scores.shape[1:])


@torch.no_grad()
def recall_at_quantile(
    scores: Tensor,
    targets: Tensor,
    quantile: float = 0.005,
    *,
    interpolation: str = "higher",
    ignore_index: int = -100,
) -> Tensor:
    """Recall at an alert budget: the share of positives among the top `quantile` of all rows.

        recall = share of the positives with s_i >= theta,
        theta = the 1 - quantile quantile of all scores,

    with `torch.quantile`'s meaning of `interpolation`. Undefined without a positive.

    Args:
        scores: `[N, C]` or `[N]`, floating.
        targets: Class indices `[N]`, or multi-hot of the scores' shape.
        quantile: Share of the rows that raises an alert, within [0, 1].
        interpolation: `"higher"`, `"linear"`, `"lower"`, `"midpoint"` or `"nearest"`.
        ignore_index: Target value of the cells to leave out.

    Returns:
        `[C]`, or a scalar for `[N]` scores, within [0, 1].

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For an option out of range, shapes that do not fit, or targets out of range
            (CPU only).

    Example:
        >>> import torch
        >>> from imbalanced_losses.metrics import recall_at_quantile
        >>> recall_at_quantile(torch.arange(10.0), torch.arange(10) % 5 == 4, quantile=0.2)
        tensor(0.5000)
    """
    number("quantile", quantile, at_least=0, at_most=1)
    one_of("interpolation", interpolation, INTERPOLATIONS)
    cells, positive, valid = _one_vs_rest(scores, targets, ignore_index)
    threshold = masked_quantiles(cells, valid, [1 - quantile], interpolation)
    found = (positive & (cells >= threshold)).sum(1)
    return (found / positive.sum(1)).to(cells.dtype).reshape(scores.shape[1:])


@torch.no_grad()
def partial_auc(
    scores: Tensor,
    targets: Tensor,
    alpha: float = 0.0,
    beta: float = 0.005,
    *,
    ignore_index: int = -100,
) -> Tensor:
    """Partial area under the ROC curve: the mean recall over false-positive rates in a band.

        pAUC = 1 / (beta - alpha) * integral from alpha to beta of TPR(f) df

    along the piecewise linear ROC curve, so that a tie counts one half (McClish, "Analyzing a
    Portion of the ROC Curve", Medical Decision Making 1989). `alpha=0, beta=1` is the AUC.
    scikit-learn's `roc_auc_score(max_fpr=beta)` is this at `alpha=0`, rescaled so that chance
    level is 0.5. Undefined without a positive or without a negative.

    Args:
        scores: `[N, C]` or `[N]`, floating.
        targets: Class indices `[N]`, or multi-hot of the scores' shape.
        alpha: Lower end of the band of false-positive rates, within [0, 1).
        beta: Upper end of the band, above `alpha` and at most 1.
        ignore_index: Target value of the cells to leave out.

    Returns:
        `[C]`, or a scalar for `[N]` scores, within [0, 1].

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For a band that is empty or out of range, shapes that do not fit, or targets
            out of range (CPU only).

    Example:
        >>> import torch
        >>> from imbalanced_losses.metrics import partial_auc
        >>> partial_auc(torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([1, 0, 1, 0]), beta=0.5)
        tensor(0.5000)
    """
    number("alpha", alpha, at_least=0, below=1)
    number("beta", beta, above=alpha, at_most=1)
    curve = _roc_curve(*_one_vs_rest(scores, targets, ignore_index))
    rate = curve.false_positives / curve.false_positives[:, -1:]
    recall = curve.true_positives / curve.true_positives[:, -1:]
    # Segments between the points of the curve, which starts at (0, 0), cut to the band.
    start, low = F.pad(rate, (1, 0))[:, :-1], F.pad(recall, (1, 0))[:, :-1]
    left, right = start.clamp(alpha, beta), rate.clamp(alpha, beta)
    width = (rate - start).clamp(min=torch.finfo(rate.dtype).tiny)
    middle = ((left + right) / 2 - start) / width
    area = ((right - left) * (low + (recall - low) * middle)).sum(1)
    return (area / (beta - alpha)).reshape(scores.shape[1:])


class _Curve(NamedTuple):
    """Rows from the highest score to the lowest, and the counts down to the end of each one's tie.

    All `[C, N]`. Invalid rows come last, are not positive and count nothing.
    """

    positive: Tensor
    true_positives: Tensor
    false_positives: Tensor


def _roc_curve(scores: Tensor, positive: Tensor, valid: Tensor) -> _Curve:
    keys, order = (-scores).masked_fill(~valid, math.inf).sort(dim=1)
    positive, negative = positive.gather(1, order), (valid & ~positive).gather(1, order)
    end_of_tie = torch.searchsorted(keys, keys, right=True) - 1
    counts = [hit.cumsum(1).gather(1, end_of_tie).to(scores.dtype) for hit in (positive, negative)]
    return _Curve(positive, *counts)


def _one_vs_rest(
    scores: Tensor, targets: Tensor, ignore_index: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return scores, positives and validity, all `[C, N]`; an invalid cell is not positive."""
    if not scores.is_floating_point():
        raise TypeError(f"scores must be of a floating dtype; got {scores.dtype}.")
    if scores.dim() not in (1, 2):
        raise ValueError(f"scores must have shape [N, C] or [N]; got {list(scores.shape)}.")
    classes = scores.shape[1] if scores.dim() == 2 else 1
    rows = one_vs_rest(
        scores, targets, num_classes=classes, ignore_index=ignore_index, log_odds=False
    )
    # One ignored row more changes nothing, and gives every reduction a result for an empty batch.
    cells = F.pad(rows.scores, (0, 1))
    label = F.pad(rows.label, (0, 1), value=IGNORED)
    valid = label != IGNORED
    # A class with a NaN score has no ranking: without a valid row it comes out as undefined.
    valid = valid & ~(cells.isnan() & valid).any(1, keepdim=True)
    return cells, (label == 1) & valid, valid
