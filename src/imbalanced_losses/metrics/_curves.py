"""Quantities along the whole precision-recall or ROC curve."""

import torch
import torch.nn.functional as F
from torch import Tensor

from imbalanced_losses._checks import flag, number
from imbalanced_losses.metrics._cells import (
    ArrayLike,
    Average,
    Cells,
    averaged,
    binary_cells,
    curve_of,
)


@torch.no_grad()
def average_precision(
    scores: ArrayLike,
    targets: ArrayLike,
    *,
    average: Average = "none",
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
) -> Tensor:
    """Average precision: the mean, over the positives, of the precision at each one's score.

        AP = sum over n of (R_n - R_(n-1)) P_n

    with precision P_n and recall R_n at the n-th distinct score from the top, so that tied rows
    share one point; the same as scikit-learn's `average_precision_score` (the step-wise sum of
    Su, Yuan and Zhu, "A Relationship between the Average Precision and the Area Under the ROC
    Curve", ICTIR 2015, https://doi.org/10.1145/2808194.2809481). Undefined without a positive.

    Args:
        scores: See the top of `imbalanced_losses.metrics`, as for the other arguments.
        targets: Class indices or multi-hot.
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
        >>> from imbalanced_losses.metrics import average_precision
        >>> average_precision(torch.tensor([0.9, 0.8, 0.7]), torch.tensor([1, 0, 1]))
        tensor(0.8333)
    """
    given, cells = binary_cells(scores, targets, sample_weight, ignore_index)
    curve = curve_of(cells)
    alerts = curve.true_positives + curve.false_positives
    precision = curve.true_positives / alerts.clamp(min=torch.finfo(alerts.dtype).tiny)
    values = (precision * curve.positive).sum(1) / curve.positive.sum(1)
    return averaged(values, average, given)


@torch.no_grad()
def recall_at_fpr(
    scores: ArrayLike,
    targets: ArrayLike,
    fpr: float = 0.005,
    *,
    average: Average = "none",
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
) -> Tensor:
    """Recall at a false-positive rate: the most that a threshold finds at no more false alarms.

        recall = max of TPR(theta) over the thresholds theta with FPR(theta) <= fpr

    A threshold lies at a score, so tied rows raise an alert together, and nothing is interpolated:
    the value can be reached. It is a point of the ROC curve of scikit-learn's `roc_curve`; see
    Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 2006,
    https://doi.org/10.1016/j.patrec.2005.10.010. Undefined without a positive or a negative.

    Args:
        scores: See the top of `imbalanced_losses.metrics`, as for the other arguments.
        targets: Class indices or multi-hot.
        fpr: Share of the negatives that may raise an alert, within [0, 1].
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
        >>> from imbalanced_losses.metrics import recall_at_fpr
        >>> recall_at_fpr(torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([1, 0, 1, 0]), fpr=0.5)
        tensor(1.)
    """
    fpr = number("fpr", fpr, at_least=0, at_most=1)
    given, cells = binary_cells(scores, targets, sample_weight, ignore_index)
    curve = curve_of(cells)
    negatives = curve.negative.sum(1, keepdim=True)
    # 0.29 * 100 is below 29 in floating point; 29 false alarms are meant.
    allowed = curve.false_positives <= fpr * negatives * (1 + 1e-12)
    values = (curve.positive * allowed).sum(1) / curve.positive.sum(1)
    return averaged(values.where(negatives.squeeze(1) > 0, torch.nan), average, given)


@torch.no_grad()
def partial_auc(
    scores: ArrayLike,
    targets: ArrayLike,
    alpha: float = 0.0,
    beta: float = 0.005,
    *,
    mcclish: bool = False,
    average: Average = "none",
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
) -> Tensor:
    """Partial area under the ROC curve: the mean recall over false-positive rates in a band.

        pAUC = 1 / (beta - alpha) * integral from alpha to beta of TPR(f) df

    along the piecewise linear ROC curve, so that a tie counts one half. `alpha=0, beta=1` is the
    AUC. With `mcclish=True` it is rescaled so that chance level is 0.5 and perfection 1,

        (1 + (pAUC - m) / (1 - m)) / 2,  m = (alpha + beta) / 2 the pAUC of chance,

    which at `alpha=0` is scikit-learn's `roc_auc_score(max_fpr=beta)` (McClish, "Analyzing a
    Portion of the ROC Curve", Medical Decision Making 1989,
    https://doi.org/10.1177/0272989X8900900307). Undefined without a positive or a negative.

    Args:
        scores: See the top of `imbalanced_losses.metrics`, as for the other arguments.
        targets: Class indices or multi-hot.
        alpha: Lower end of the band of false-positive rates, within [0, 1).
        beta: Upper end of the band, above `alpha` and at most 1.
        mcclish: Rescale as above.
        average: `"none"` or `"macro"`.
        sample_weight: Weight of a row, a position or a cell each.
        ignore_index: Target value of the cells to leave out.

    Returns:
        `[C]`, or a scalar for `[N]` scores or `"macro"`, within [0, 1] (with `mcclish`, at most
        1, and below 0.5 for a ranking worse than chance).

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For a band that is empty or out of range, shapes that do not fit, or targets
            or weights out of range (CPU only).

    Examples:
        >>> import torch
        >>> from imbalanced_losses.metrics import partial_auc
        >>> partial_auc(torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([1, 0, 1, 0]), beta=0.5)
        tensor(0.5000)
    """
    alpha = number("alpha", alpha, at_least=0, below=1)
    beta = number("beta", beta, above=alpha, at_most=1)
    flag("mcclish", mcclish)
    given, cells = binary_cells(scores, targets, sample_weight, ignore_index)
    values = partial_auc_of(cells, alpha, beta)
    if mcclish:
        chance = (alpha + beta) / 2
        values = (1 + (values - chance) / (1 - chance)) / 2
    return averaged(values, average, given)


def partial_auc_of(cells: Cells, alpha: float, beta: float) -> Tensor:
    """Partial AUC of each class, `[C]` in float64."""
    curve = curve_of(cells)
    rate = curve.false_positives / curve.false_positives[:, -1:]
    recall = curve.true_positives / curve.true_positives[:, -1:]
    # Segments between the points of the curve, which starts at (0, 0), cut to the band.
    start, low = F.pad(rate, (1, 0))[:, :-1], F.pad(recall, (1, 0))[:, :-1]
    left, right = start.clamp(alpha, beta), rate.clamp(alpha, beta)
    width = (rate - start).clamp(min=torch.finfo(rate.dtype).tiny)
    middle = ((left + right) / 2 - start) / width
    area = ((right - left) * (low + (recall - low) * middle)).sum(1)
    return area / (beta - alpha)
