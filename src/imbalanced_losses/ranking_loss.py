"""Losses on what is ranked: Smooth-AP, recall at an alert budget, partial AUC.

Each reads one statistic of a pool of rows: the live batch and a memory queue of earlier ones.
Their formulas stand with the pure functions in `imbalanced_losses.functional`.
"""

from functools import partial
from typing import Any

from torch import Tensor

from imbalanced_losses._ranking import PooledLoss
from imbalanced_losses._statistics.pauc import PAUCDiagnostics, PAUCSettings, pauc_at_budget
from imbalanced_losses._statistics.recall import check_recall, recall_at_quantile
from imbalanced_losses._statistics.smooth_ap import smooth_ap

__all__ = ["PAUCAtBudgetLoss", "RecallAtQuantileLoss", "SmoothAPLoss"]


class SmoothAPLoss(PooledLoss):
    """1 - Smooth-AP over the live batch and a memory queue, one-vs-rest for every class.

    The loss of `imbalanced_losses.functional.smooth_ap_loss` on a larger pool: the last
    `queue_size` rows take part in the ranks, without gradient. Cost O(M log M) in time and O(M) in
    memory for a pool of M rows.

    Args:
        num_classes: C; 1 for binary problems.
        queue_size: Rows of earlier batches in the pool; 0 for none.
        temperature: tau > 0, the width of the soft step in units of the score. Also a property.
        reduction: `"mean"` or `"sum"` over the valid classes, or `"none"`.
        ignore_index: Rows, or cells of multi-hot targets, with this target do not count.
        update_queue_in_eval: Whether `eval()` mode writes to the queue; it is frozen otherwise.
        gather_distributed: None pools the rows of all ranks whenever a process group of several
            is live at the call, True raises where there is none, False stays local.
        max_pool_size: Subsample larger pools to this many rows, first a quota of
            `max_pool_size // (2 * observed classes)` for each class, then uniformly. The queue is
            not touched. Warns the first time.
        scores: `"logits"`, or `"log_odds"` to rank the log-odds of the softmax probability,
            z_c - logsumexp of the other logits.

    Raises:
        TypeError: For a setting of a wrong type.
        ValueError: For a setting out of range.

    Example:
        >>> import torch
        >>> from imbalanced_losses import SmoothAPLoss
        >>> loss_fn = SmoothAPLoss(num_classes=1, queue_size=4)
        >>> loss_fn(torch.tensor([0.9, 0.8, 0.1]), torch.tensor([1, 0, 1]))
        tensor(0.1667)
    """

    def __init__(
        self,
        num_classes: int,
        queue_size: int = 1024,
        temperature: float = 0.01,
        reduction: str = "mean",
        ignore_index: int = -100,
        update_queue_in_eval: bool = False,
        gather_distributed: bool | None = None,
        max_pool_size: int | None = None,
        *,
        scores: str = "logits",
    ) -> None:
        super().__init__(
            num_classes,
            queue_size,
            temperature,
            reduction,
            ignore_index,
            update_queue_in_eval,
            gather_distributed,
            max_pool_size,
            scores,
        )

    def forward(
        self,
        logits: Tensor,
        targets: Tensor,
        iid_mask: Tensor | None = None,
        return_per_class: bool = False,
        *,
        sample_weight: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Loss of a batch.

        Args:
            logits: `[N, C]`, or `[N]` where C = 1; any floating dtype.
            targets: Class indices `[N]` or `[N, 1]`, 0/1 where C = 1, or multi-hot `[N, C]`.
            iid_mask: `[N]` bool, kept in the queue; this loss does not read it.
            return_per_class: Whether to return the classes' losses as well.
            sample_weight: `[N]`, non-negative, weighs the positives' terms.

        Returns:
            The loss, or `(loss, per_class [C], valid [C])`, NaN where a class is not valid, that
            is without a positive or without a negative in the pool.

        Raises:
            TypeError: For a wrong dtype.
            ValueError: For a wrong shape or, on CPU, a target out of range.
        """
        outcome = self._outcome(smooth_ap, logits, targets, iid_mask, sample_weight)
        return outcome.returned(return_per_class=return_per_class)


class RecallAtQuantileLoss(PooledLoss):
    """1 - soft recall above the 1 - quantile quantile of all scores in the pool.

    The loss of `imbalanced_losses.functional.recall_at_quantile_loss` on a larger pool: the last
    `queue_size` rows take part in the threshold and, without gradient, in the recall. The pool
    should hold a few times 1 / `quantile` rows.

    Args:
        num_classes: C; 1 for binary problems.
        quantile: Share of the rows that raises an alert, in (0, 1).
        queue_size: Rows of earlier batches in the pool; 0 for none.
        temperature: tau > 0, the width of the soft step in units of the score. Also a property.
        reduction: `"mean"` or `"sum"` over the valid classes, or `"none"`.
        ignore_index: Rows, or cells of multi-hot targets, with this target do not count.
        update_queue_in_eval: Whether `eval()` mode writes to the queue; it is frozen otherwise.
        gather_distributed: As in `SmoothAPLoss`.
        quantile_interpolation: `"higher"` (the threshold is never below the true one),
            `"linear"`, `"lower"`, `"midpoint"` or `"nearest"`, as in `torch.quantile`.
        max_pool_size: As in `SmoothAPLoss`. Mind that a subsample shifts the threshold.
        scores: `"logits"` or `"log_odds"`, as in `SmoothAPLoss`.

    Raises:
        TypeError: For a setting of a wrong type.
        ValueError: For a setting out of range.

    Example:
        >>> import torch
        >>> from imbalanced_losses import RecallAtQuantileLoss
        >>> loss_fn = RecallAtQuantileLoss(num_classes=1, quantile=0.5, queue_size=4)
        >>> loss_fn(torch.tensor([0.9, 0.5, 0.1]), torch.tensor([1, 0, 1]))
        tensor(0.5000)
    """

    def __init__(
        self,
        num_classes: int,
        quantile: float = 0.005,
        queue_size: int = 1024,
        temperature: float = 0.01,
        reduction: str = "mean",
        ignore_index: int = -100,
        update_queue_in_eval: bool = False,
        gather_distributed: bool | None = None,
        quantile_interpolation: str = "higher",
        max_pool_size: int | None = None,
        *,
        scores: str = "logits",
    ) -> None:
        super().__init__(
            num_classes,
            queue_size,
            temperature,
            reduction,
            ignore_index,
            update_queue_in_eval,
            gather_distributed,
            max_pool_size,
            scores,
        )
        check_recall(quantile, quantile_interpolation)
        self.quantile = quantile
        self.quantile_interpolation = quantile_interpolation

    def forward(
        self,
        logits: Tensor,
        targets: Tensor,
        iid_mask: Tensor | None = None,
        return_per_class: bool = False,
        *,
        sample_weight: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Loss of a batch; arguments, returns and errors as in `SmoothAPLoss.forward`.

        A class is valid with at least one positive in the pool.
        """
        statistic = partial(
            recall_at_quantile, quantile=self.quantile, interpolation=self.quantile_interpolation
        )
        outcome = self._outcome(statistic, logits, targets, iid_mask, sample_weight)
        return outcome.returned(return_per_class=return_per_class)

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return f"{super().extra_repr()}, quantile={self.quantile}"


class PAUCAtBudgetLoss(PooledLoss):
    """1 - partial AUC over the band [alpha, beta] of false-positive rates.

    The loss of `imbalanced_losses.functional.pauc_at_budget_loss` on a larger pool: the last
    `queue_size` rows take part in thresholds and contrasts, without gradient. The pool should hold
    a few times 1 / `beta` negatives.

    Args:
        num_classes: C; 1 for binary problems.
        alpha: Lower end of the band, in [0, beta).
        beta: Upper end of the band, the alert budget, at most 1.
        surrogate: `"trapezoid"` averages soft recall over knots and moves positives only;
            `"pairwise"` contrasts positives with the negatives in the band and moves both.
        n_knots: Knots of the trapezoid, at least 2.
        tau_scale: What the temperature is a share of: the inter-quartile range of the reference
            scores (`"iqr"`), or the width of the band in scores (`"band"`).
        pos_numerator: Average over the positives of the `"pool"`, or of the `"live"` batch only,
            which undilutes their gradient.
        budget_basis: The rates count iid negatives (`"fpr"`) or all iid rows (`"population"`).
        queue_size: Rows of earlier batches in the pool; 0 for none.
        temperature: Width of the soft step, > 0, as a share of the scale. Also a property.
        reduction: `"mean"` or `"sum"` over the valid classes, or `"none"`.
        ignore_index: Rows, or cells of multi-hot targets, with this target do not count.
        update_queue_in_eval: Whether `eval()` mode writes to the queue; it is frozen otherwise.
        gather_distributed: As in `SmoothAPLoss`.
        quantile_interpolation: As in `RecallAtQuantileLoss`.
        max_pool_size: As in `SmoothAPLoss`. Mind that a subsample shifts the thresholds.
        scores: `"logits"` or `"log_odds"`, as in `SmoothAPLoss`.

    Raises:
        TypeError: For a setting of a wrong type.
        ValueError: For a setting out of range.

    Example:
        >>> import torch
        >>> from imbalanced_losses import PAUCAtBudgetLoss
        >>> loss_fn = PAUCAtBudgetLoss(num_classes=1, beta=0.5, surrogate="pairwise")
        >>> loss_fn(torch.tensor([0.5, 0.9, 0.1, -0.1]), torch.tensor([1, 0, 0, 0]))
        tensor(0.5000)
    """

    def __init__(
        self,
        num_classes: int,
        alpha: float = 0.0,
        beta: float = 0.005,
        surrogate: str = "trapezoid",
        n_knots: int = 2,
        tau_scale: str = "iqr",
        pos_numerator: str = "pool",
        budget_basis: str = "fpr",
        queue_size: int = 1024,
        temperature: float = 0.1,
        reduction: str = "mean",
        ignore_index: int = -100,
        update_queue_in_eval: bool = False,
        gather_distributed: bool | None = None,
        quantile_interpolation: str = "higher",
        max_pool_size: int | None = None,
        *,
        scores: str = "logits",
    ) -> None:
        super().__init__(
            num_classes,
            queue_size,
            temperature,
            reduction,
            ignore_index,
            update_queue_in_eval,
            gather_distributed,
            max_pool_size,
            scores,
        )
        self.band = PAUCSettings(
            alpha,
            beta,
            surrogate,
            n_knots,
            tau_scale,
            pos_numerator,
            budget_basis,
            quantile_interpolation,
        ).checked()

    def forward(
        self,
        logits: Tensor,
        targets: Tensor,
        iid_mask: Tensor | None = None,
        return_per_class: bool = False,
        return_diagnostics: bool = False,
        *,
        sample_weight: Tensor | None = None,
    ) -> Any:
        """Loss of a batch; errors as in `SmoothAPLoss.forward`.

        Args:
            logits: `[N, C]`, or `[N]` where C = 1; any floating dtype.
            targets: Class indices `[N]` or `[N, 1]`, 0/1 where C = 1, or multi-hot `[N, C]`.
            iid_mask: `[N]` bool; only these rows set thresholds and scale. None means all.
            return_per_class: Whether to return the classes' losses as well.
            return_diagnostics: Whether to append the band's diagnostics.
            sample_weight: `[N]`, non-negative, weighs the positives' terms.

        Returns:
            The loss; `(loss, per_class [C], valid [C])` with `return_per_class`. Diagnostics come
            last, as a dict of detached `[C]` tensors: the thresholds `t_alpha` and `t_beta`, the
            temperature in units of the score `tau_eff`, the iid negatives within the band
            `band_neg_count`, the variance `pauc_var` over the numerator's rows of the share of the
            band they outrank, and the live positives `grad_pos_count`, all ranks counted.
        """
        statistic = partial(pauc_at_budget, settings=self.band, diagnose=return_diagnostics)
        outcome = self._outcome(statistic, logits, targets, iid_mask, sample_weight)
        result = outcome.returned(return_per_class=return_per_class)
        if not return_diagnostics:
            return result
        results = result if isinstance(result, tuple) else (result,)
        return (*results, PAUCDiagnostics(*outcome.diagnostics)._asdict())

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        band = ", ".join(f"{name}={value!r}" for name, value in self.band._asdict().items())
        return f"{super().extra_repr()}, {band}"
