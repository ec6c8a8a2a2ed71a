"""Quantities of decisions, not of rankings: what is right where the model has to choose."""

import torch
from torch import Tensor

from imbalanced_losses._checks import integer, number
from imbalanced_losses._class_counts import as_counts
from imbalanced_losses._pool.rows import IGNORED, one_vs_rest
from imbalanced_losses.metrics._cells import (
    ArrayLike,
    Average,
    as_tensor,
    averaged,
    binary_cells,
    rows_of,
)


@torch.no_grad()
def balanced_accuracy(
    scores: ArrayLike,
    targets: ArrayLike,
    *,
    threshold: float | None = None,
    average: Average = "macro",
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
) -> Tensor:
    """Balanced accuracy: the mean of the recalls of all classes, so that each counts alike.

        balanced accuracy = 1 / C * sum over classes c of (right rows of c) / (rows of c)

    For class indices and C > 1 the decision is the class of the highest score (the first of
    several), and classes without a row do not count, as in scikit-learn's
    `balanced_accuracy_score`. For binary and multi-label targets a score above `threshold` says
    yes, and the two classes of each label are yes and no: (TPR + TNR) / 2. See Brodersen et al.,
    "The Balanced Accuracy and Its Posterior Distribution", ICPR 2010,
    https://doi.org/10.1109/ICPR.2010.764.

    Args:
        scores: See the top of `imbalanced_losses.metrics`, as for the other arguments.
        targets: Class indices or multi-hot.
        threshold: For binary and multi-label targets, and needed there: 0 for logits, 0.5 for
            probabilities, or one from `imbalanced_losses.thresholds`.
        average: `"macro"`, or `"none"` for the recall of each class, and the balanced accuracy of
            each label.
        sample_weight: Weight of a row, a position or (multi-hot) a cell each.
        ignore_index: Target value of the cells to leave out.

    Returns:
        A scalar, or `[C]` for `"none"`, within [0, 1]; NaN for a class without a row, or a label
        without a yes or a no.

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For a threshold that is missing or not used, an option out of range, shapes
            that do not fit, or targets or weights out of range (CPU only).

    Examples:
        >>> import torch
        >>> from imbalanced_losses.metrics import balanced_accuracy
        >>> scores = torch.tensor([[2.0, 1.0], [3.0, 0.0], [1.0, 0.0], [0.0, 4.0], [1.0, 0.0]])
        >>> balanced_accuracy(scores, torch.tensor([0, 0, 0, 1, 1]))
        tensor(0.7500)
    """
    if _is_exclusive(scores, targets):
        if threshold is not None:
            raise ValueError(
                "threshold is for binary and multi-label targets; with class indices the highest "
                f"score decides. Leave it out; got {threshold!r}."
            )
        given, values = _recalls(scores, targets, sample_weight, ignore_index)
        return averaged(values, average, given)
    if threshold is None:
        raise ValueError(
            "threshold must be given for binary and multi-label targets: 0 for logits, 0.5 for "
            "probabilities."
        )
    threshold = number("threshold", threshold)
    given, cells = binary_cells(scores, targets, sample_weight, ignore_index)
    positive = cells.positive * cells.weight
    negative = cells.weight - positive
    yes = cells.scores > threshold
    found = (positive * yes).sum(1) / positive.sum(1)
    spared = (negative * ~yes).sum(1) / negative.sum(1)
    return averaged((found + spared) / 2, average, given)


@torch.no_grad()
def tail_accuracy(
    scores: ArrayLike,
    targets: ArrayLike,
    class_counts: ArrayLike,
    *,
    below: int = 20,
    average: Average = "macro",
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
) -> Tensor:
    """Tail accuracy: the mean of the recalls of the classes that were rare in training.

        tail accuracy = mean over classes c with n_c < below of (right rows of c) / (rows of c)

    with n_c rows of class c in the *training* data: with the default it is the few-shot accuracy
    of Liu et al., "Large-Scale Long-Tailed Recognition in an Open World", CVPR 2019,
    https://arxiv.org/abs/1904.05160 (on test data with as many rows of each class).

    Args:
        scores: `[N, C]` or `[N, C, d1, ...]`, floating; the class of the highest score (the first
            of several) is the decision.
        targets: Class indices.
        class_counts: `[C]`: rows of each class in the training data.
        below: A class with fewer rows than this belongs to the tail.
        average: `"macro"`, or `"none"` for the recall of each class, NaN outside the tail.
        sample_weight: Weight of a row or a position each.
        ignore_index: Target value of the rows to leave out.

    Returns:
        A scalar, or `[C]` for `"none"`, within [0, 1]; NaN where no row is of the tail.

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For an option out of range, counts of which none is below `below`, shapes that
            do not fit, or targets or weights out of range (CPU only).

    Examples:
        >>> import torch
        >>> from imbalanced_losses.metrics import tail_accuracy
        >>> scores = torch.tensor([[2.0, 1.0], [3.0, 0.0], [1.0, 0.0], [0.0, 4.0], [1.0, 0.0]])
        >>> tail_accuracy(scores, torch.tensor([0, 0, 0, 1, 1]), class_counts=[500, 12])
        tensor(0.5000)
    """
    below = integer("below", below, at_least=1)
    if not _is_exclusive(scores, targets):
        raise ValueError(
            "targets must be class indices of at least two classes, for scores [N, C]; got binary "
            "or multi-hot targets."
        )
    given, values = _recalls(scores, targets, sample_weight, ignore_index)
    counts = as_counts(
        as_tensor("class_counts", class_counts), len(values), "the classes of the scores"
    )
    tail = counts < below
    if not tail.any():
        raise ValueError(
            f"class_counts must have a class below {below} rows, the tail; the smallest has "
            f"{counts.min().item():g}. Set below= to what is rare in your data."
        )
    return averaged(values.where(tail.to(values.device), torch.nan), average, given)


def _is_exclusive(scores: ArrayLike, targets: ArrayLike) -> bool:
    """Whether the targets are indices of several classes, by the rule of `one_vs_rest`."""
    _, cells, labels, _ = rows_of(scores, targets, None)
    return cells.dim() == 2 and cells.shape[1] > 1 and labels.shape != cells.shape


def _recalls(
    scores: ArrayLike, targets: ArrayLike, sample_weight: ArrayLike | None, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """The scores as a tensor, and the share of each class's rows that its score decides, `[C]`."""
    given, cells, targets, weight = rows_of(scores, targets, sample_weight)
    classes = cells.shape[1]
    rows = one_vs_rest(
        cells, targets, num_classes=classes, ignore_index=ignore_index, log_odds=False
    )
    if weight is None:
        weight = rows.weight
    elif weight.dim() == 2:
        raise ValueError(
            "sample_weight must be one per row or position where one class is chosen for all "
            "cells of a row; got one per cell."
        )
    mass = (rows.label == 1) * weight
    # Without rows there is no highest score, and with NaN none that means anything.
    if not len(cells):
        return given, torch.full_like(mass.sum(1), torch.nan)
    chosen = cells.argmax(1) == torch.arange(classes, device=cells.device).unsqueeze(1)
    counts = (rows.label[0] != IGNORED) & (weight > 0)
    broken = (cells.isnan().any(1) & counts).any()
    return given, ((mass * chosen).sum(1) / mass.sum(1)).where(~broken, torch.nan)
