"""The ranking losses of one batch: no queue, no state, the batch alone is the pool."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from imbalanced_losses import _checks
from imbalanced_losses._outcome import outcome
from imbalanced_losses._pool import Pool, finite_rows, pool_of
from imbalanced_losses._ranking import REDUCTIONS, check_scores
from imbalanced_losses._statistics.pauc import PAUCSettings, pauc_at_budget
from imbalanced_losses._statistics.per_class import PerClass
from imbalanced_losses._statistics.recall import check_recall, recall_at_quantile
from imbalanced_losses._statistics.smooth_ap import smooth_ap
from imbalanced_losses._targets import one_vs_rest


def smooth_ap_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    temperature: float = 0.01,
    reduction: str = "mean",
    ignore_index: int = -100,
    scores: str = "logits",
    sample_weight: Tensor | None = None,
) -> Tensor:
    r"""1 - Smooth-AP of the batch, one-vs-rest for every class.

    For one class with scores s, positives P and sigma the logistic function,

        R_all(i) = 1 + sum over j != i of sigma((s_j - s_i) / tau),
        R_pos(i) the same over the positives j,
        AP = mean over i in P of R_pos(i) / R_all(i),

    which tends to the average precision as tau -> 0 (Brown, Xie, Kalogeiton and Zisserman,
    "Smooth-AP: Smoothing the Path Towards Large-Scale Image Retrieval", ECCV 2020). Computed to
    rounding in O(M log M).

    Args:
        logits: `[N, C]`, or `[N]` for a binary problem; any floating dtype. Computed in float32 or
            float64.
        targets: Class indices `[N]` or `[N, 1]`, 0/1 where C = 1, or multi-hot `[N, C]`.
        temperature: tau > 0, in units of the score.
        reduction: `"mean"` or `"sum"` over the valid classes, or `"none"`.
        ignore_index: Rows, or cells of multi-hot targets, with this target do not count.
        scores: `"logits"`, or `"log_odds"` to rank z_c - logsumexp of the other logits, the
            log-odds of the softmax probability.
        sample_weight: `[N]`, non-negative, weighs the positives' terms; ranks do not see it.

    Returns:
        A scalar in [0, 1] for `"mean"`, or `[C]` for `"none"` with NaN for classes without a
        positive or without a negative. No valid class: zero, attached to the graph.

    Raises:
        TypeError: For a wrong dtype or setting.
        ValueError: For a wrong shape, a setting out of range or, on CPU, a target out of range.

    Example:
        >>> import torch
        >>> from imbalanced_losses.functional import smooth_ap_loss
        >>> smooth_ap_loss(torch.tensor([0.9, 0.8, 0.1]), torch.tensor([1, 0, 1]))
        tensor(0.1667)
    """
    batch = _batch(logits, targets, None, sample_weight, reduction, ignore_index, scores)
    return _loss(smooth_ap, *batch, temperature, reduction)


def recall_at_quantile_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    quantile: float = 0.005,
    temperature: float = 0.01,
    reduction: str = "mean",
    ignore_index: int = -100,
    quantile_interpolation: str = "higher",
    scores: str = "logits",
    sample_weight: Tensor | None = None,
) -> Tensor:
    r"""1 - soft recall above the 1 - quantile quantile of all scores, one-vs-rest.

    For one class with scores s and positives P,

        theta = quantile(s, 1 - quantile), without gradient,
        recall = mean over i in P of sigma((s_i - theta) / tau),

    a smooth form of recall at an alert budget (accuracy at the top: Boyd, Cortes, Mohri and
    Radovanovic, "Accuracy at the Top", NeurIPS 2012).

    Args:
        logits: `[N, C]`, or `[N]` for a binary problem; any floating dtype. Computed in float32 or
            float64.
        targets: Class indices `[N]` or `[N, 1]`, 0/1 where C = 1, or multi-hot `[N, C]`.
        quantile: Share of the rows that raises an alert, in (0, 1).
        temperature: tau > 0, in units of the score.
        reduction: `"mean"` or `"sum"` over the valid classes, or `"none"`.
        ignore_index: Rows, or cells of multi-hot targets, with this target do not count.
        quantile_interpolation: `"higher"`, `"linear"`, `"lower"`, `"midpoint"` or `"nearest"`.
        scores: `"logits"` or `"log_odds"`, as in `smooth_ap_loss`.
        sample_weight: `[N]`, non-negative, weighs the positives' terms; theta does not see it.

    Returns:
        A scalar in [0, 1] for `"mean"`, or `[C]` for `"none"` with NaN for classes without a
        positive. No valid class: zero, attached to the graph.

    Raises:
        TypeError: For a wrong dtype or setting.
        ValueError: For a wrong shape, a setting out of range or, on CPU, a target out of range.

    Example:
        >>> import torch
        >>> from imbalanced_losses.functional import recall_at_quantile_loss
        >>> recall_at_quantile_loss(
        ...     torch.tensor([0.9, 0.5, 0.1]), torch.tensor([1, 0, 1]), quantile=0.5
        ... )
        tensor(0.5000)
    """
    check_recall(quantile, quantile_interpolation)
    batch = _batch(logits, targets, None, sample_weight, reduction, ignore_index, scores)
    statistic = partial(recall_at_quantile, quantile=quantile, interpolation=quantile_interpolation)
    return _loss(statistic, *batch, temperature, reduction)


def pauc_at_budget_loss(
    logits: Tensor,
    targets: Tensor,
    iid_mask: Tensor | None = None,
    *,
    alpha: float = 0.0,
    beta: float = 0.005,
    surrogate: str = "trapezoid",
    n_knots: int = 2,
    tau_scale: str = "iqr",
    budget_basis: str = "fpr",
    temperature: float = 0.1,
    reduction: str = "mean",
    ignore_index: int = -100,
    quantile_interpolation: str = "higher",
    scores: str = "logits",
    sample_weight: Tensor | None = None,
) -> Tensor:
    r"""1 - partial AUC over the band [alpha, beta] of false-positive rates, one-vs-rest.

    For one class let t(f) be the 1 - f quantile of the reference scores, tau = temperature * scale
    with scale the inter-quartile range of the reference or t(alpha) - t(beta); all of these without
    gradient. Then

        trapezoid: the mean over the positives i, and over equally spaced f from alpha to beta with
            half weight at both ends, of sigma((s_i - t(f)) / tau);
        pairwise: the mean over the positives i and the negatives j with
            t(beta) <= s_j <= t(alpha), of sigma((s_i - s_j) / tau).

    Both are smooth forms of the normalised partial area under the ROC curve (Narasimhan and
    Agarwal, "A Structural SVM Based Approach for Optimizing Partial AUC", ICML 2013).

    Args:
        logits: `[N, C]`, or `[N]` for a binary problem; any floating dtype. Computed in float32 or
            float64.
        targets: Class indices `[N]` or `[N, 1]`, 0/1 where C = 1, or multi-hot `[N, C]`.
        iid_mask: `[N]` bool; only these rows set thresholds and scale. None means all.
        alpha: Lower end of the band, in [0, beta).
        beta: Upper end of the band, at most 1.
        surrogate: `"trapezoid"` or `"pairwise"`.
        n_knots: Knots of the trapezoid, at least 2.
        tau_scale: `"iqr"` or `"band"`.
        budget_basis: Reference rows: iid negatives (`"fpr"`) or all iid rows (`"population"`).
        temperature: Width of the soft step, > 0, as a share of the scale.
        reduction: `"mean"` or `"sum"` over the valid classes, or `"none"`.
        ignore_index: Rows, or cells of multi-hot targets, with this target do not count.
        quantile_interpolation: `"higher"`, `"linear"`, `"lower"`, `"midpoint"` or `"nearest"`.
        scores: `"logits"` or `"log_odds"`, as in `smooth_ap_loss`.
        sample_weight: `[N]`, non-negative, weighs the positives' terms; thresholds do not see it.

    Returns:
        A scalar in [0, 1] for `"mean"`, or `[C]` for `"none"` with NaN for classes without a
        positive, an iid negative, a scale above 1e-12 or (pairwise) a negative in the band. No
        valid class: zero, attached to the graph.

    Raises:
        TypeError: For a wrong dtype or setting.
        ValueError: For a wrong shape, a setting out of range or, on CPU, a target out of range.

    Example:
        >>> import torch
        >>> from imbalanced_losses.functional import pauc_at_budget_loss
        >>> logits, targets = torch.tensor([0.5, 0.9, 0.1, -0.1]), torch.tensor([1, 0, 0, 0])
        >>> pauc_at_budget_loss(logits, targets, beta=0.5, surrogate="pairwise")
        tensor(0.5000)
    """
    settings = PAUCSettings(
        alpha=alpha,
        beta=beta,
        surrogate=surrogate,
        n_knots=n_knots,
        tau_scale=tau_scale,
        budget_basis=budget_basis,
        quantile_interpolation=quantile_interpolation,
    ).checked()
    batch = _batch(logits, targets, iid_mask, sample_weight, reduction, ignore_index, scores)
    return _loss(partial(pauc_at_budget, settings=settings), *batch, temperature, reduction)


def _batch(
    logits: Tensor,
    targets: Tensor,
    iid_mask: Tensor | None,
    sample_weight: Tensor | None,
    reduction: str,
    ignore_index: int,
    scores: str,
) -> tuple[Pool, Tensor]:
    """A pool of the batch alone, and its scores `[C, N]` on the graph."""
    num_classes = logits.shape[1] if logits.dim() == 2 else 1
    _checks.one_of("reduction", reduction, REDUCTIONS)
    _checks.integer("ignore_index", ignore_index)
    check_scores(scores, num_classes)
    rows = one_vs_rest(
        logits,
        targets,
        iid_mask,
        sample_weight,
        num_classes=num_classes,
        ignore_index=ignore_index,
        log_odds=scores == "log_odds",
    )
    rows, broken = finite_rows(rows)
    return pool_of(rows, rows.weight.shape[0], broken), rows.scores


def _loss(
    statistic: Callable[[Pool, Tensor], PerClass],
    pool: Pool,
    scores: Tensor,
    temperature: float,
    reduction: str,
) -> Tensor:
    _checks.number("temperature", temperature, above=0)
    tau = torch.full((), temperature, dtype=pool.scores.dtype, device=pool.scores.device)
    return outcome(statistic, pool, tau, scores, reduction).loss
