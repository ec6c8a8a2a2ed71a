"""Partial AUC over a band of false-positive rates."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from imbalanced_losses import _checks
from imbalanced_losses._ops.quantile import INTERPOLATIONS, masked_quantiles
from imbalanced_losses._ops.soft_counts import soft_counts
from imbalanced_losses._ops.soft_step import soft_step, step_slope
from imbalanced_losses._pool.pool import Pool
from imbalanced_losses._pool.select import Selection, select
from imbalanced_losses.losses._module import Setting
from imbalanced_losses.losses._per_class import (
    PADDING,
    POINTWISE,
    PerClass,
    Statistic,
    by_size,
    one_minus_mean,
    shares_of,
)
from imbalanced_losses.losses._ranking import RankingLoss, ranking_loss
from imbalanced_losses.losses._spread import SMALLEST_SCALE
from imbalanced_losses.losses._threshold import slope_through, thresholds_of

__all__ = ["PAUCAtBudgetLoss", "pauc_at_budget_loss"]

# Up to so many pairs with the negatives of the band, choosing the positives costs more.
_FEW_PAIRS = 2**14


class PAUCDiagnostics(NamedTuple):
    """Health of the band, `[C]` each, detached; NaN where the class has no reference rows."""

    t_alpha: Tensor  # score threshold at false-positive rate alpha
    t_beta: Tensor  # score threshold at false-positive rate beta
    tau_eff: Tensor  # temperature * scale
    band_neg_count: Tensor  # iid negatives between the two thresholds
    pauc_var: Tensor  # variance over the numerator's rows of their share of the band
    grad_pos_count: Tensor  # live positives, the ones that carry gradient


@dataclass(frozen=True)
class PAUCAtBudget(Statistic):
    """Mean over the numerator's positives of the share of the band that they outrank.

    A class is valid with a numerator, an iid negative, a scale above 1e-12 and, for the pairwise
    surrogate, a negative inside the band.
    """

    alpha: float = 0.0
    beta: float = 0.005
    surrogate: str = "trapezoid"
    n_knots: int = 2
    tau_scale: str = "iqr"
    pos_numerator: str = "pool"
    budget_basis: str = "fpr"
    quantile_interpolation: str = "higher"
    threshold_gradient: bool = False
    # Whether a call is to return `PAUCDiagnostics` too.
    diagnose: bool = field(default=False, repr=False)
    forms_slope: ClassVar[bool] = True

    def __post_init__(self) -> None:
        alpha = _checks.number("alpha", self.alpha, at_least=0, below=1)
        beta = _checks.number("beta", self.beta, above=alpha, at_most=1)
        n_knots = _checks.integer("n_knots", self.n_knots, at_least=2)
        _checks.settle(self, alpha=alpha, beta=beta, n_knots=n_knots)
        _checks.one_of("surrogate", self.surrogate, ("trapezoid", "pairwise"))
        _checks.one_of("tau_scale", self.tau_scale, ("iqr", "band"))
        _checks.one_of("pos_numerator", self.pos_numerator, ("pool", "live"))
        _checks.one_of("budget_basis", self.budget_basis, ("fpr", "population"))
        _checks.one_of("quantile_interpolation", self.quantile_interpolation, INTERPOLATIONS)
        _checks.flag("threshold_gradient", self.threshold_gradient)
        if self.threshold_gradient and self.surrogate == "pairwise":
            raise ValueError(
                'threshold_gradient=True needs surrogate="trapezoid"; got surrogate="pairwise", '
                "whose gradient moves the negatives in the band already. Leave it False."
            )

    @property
    def diagnostic_dtypes(self) -> tuple[torch.dtype | None, ...]:
        """Of `PAUCDiagnostics`: two are counts."""
        return (None, None, None, torch.int64, None, torch.int64) if self.diagnose else ()

    def __call__(self, pool: Pool, temperature: Tensor) -> PerClass:
        """1 - pAUC of every class."""
        group = partial(_pauc, temperature=temperature, settings=self)
        return by_size(pool, group, padding=PADDING)


def _pauc(pool: Pool, temperature: Tensor, settings: PAUCAtBudget) -> PerClass:
    scores = pool.fixed_scores
    negative = pool.negative
    iid_negative = negative & pool.iid
    reference = iid_negative if settings.budget_basis == "fpr" else pool.valid & pool.iid
    knots, scale = _thresholds(scores, reference, settings)
    tau = temperature * scale
    usable = scale > SMALLEST_SCALE
    safe_tau = tau.where(usable, 1.0)
    if pool.nonfinite is not None:
        # Scale and band of a nonfinite class mean nothing: they do not keep its NaN from showing.
        usable = usable | pool.nonfinite
    if settings.budget_basis == "population" or pool.nonfinite is not None:
        usable = usable & iid_negative.any(1)  # else no reference, hence no scale
    positive = pool.positive & pool.live if settings.pos_numerator == "live" else pool.positive
    band = None
    if settings.surrogate == "pairwise":
        band = select(pool, negative & _in_band(scores, knots))
        numerator = select(pool, positive, above=_FEW_PAIRS // max(1, band.inside.shape[1]))
        terms, per_class = _pairwise(pool, numerator, band, safe_tau, usable)
    else:
        numerator = select(pool, positive, above=POINTWISE)
        moved_by = reference if settings.threshold_gradient else None
        theta = torch.cat(knots, 1)
        terms, per_class = _trapezoid(pool, numerator, theta, safe_tau, usable, moved_by)
    if not settings.diagnose:
        return per_class
    if band is not None:
        terms = terms / band.inside.sum(1, keepdim=True).clamp(min=1)
    diagnostics = PAUCDiagnostics(
        knots[0].squeeze(1),
        knots[-1].squeeze(1),
        tau,
        (iid_negative & _in_band(scores, knots)).sum(1),
        _variance(terms, numerator.inside),
        (pool.positive & pool.live).sum(1),
    )
    return per_class._replace(diagnostics=diagnostics)


def _in_band(scores: Tensor, knots: tuple[Tensor, ...]) -> Tensor:
    return scores == scores.clamp(knots[-1], knots[0])  # nowhere, where the knots are NaN


def _thresholds(
    scores: Tensor, reference: Tensor, settings: PAUCAtBudget
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Scores at the knots, `[C, 1]` each, from alpha to beta, and the scale `[C]` of tau."""
    alpha, beta = settings.alpha, settings.beta
    inner = range(1, settings.n_knots - 1)
    rates = [alpha, *(alpha + (beta - alpha) * k / (settings.n_knots - 1) for k in inner), beta]
    ends = [0.25, 0.75] if settings.tau_scale == "iqr" else []
    levels = [*(1 - rate for rate in rates), *ends]
    quantiles = masked_quantiles(scores, reference, levels, settings.quantile_interpolation)
    columns = torch.split(quantiles, 1, 1)
    knots = columns[: settings.n_knots]
    low, high = columns[-2:] if ends else (knots[-1], knots[0])
    return knots, (high - low).squeeze(1)


def _trapezoid(
    pool: Pool,
    numerator: Selection,
    knots: Tensor,
    tau: Tensor,
    usable: Tensor,
    moved_by: Tensor | None,
) -> tuple[Tensor, PerClass]:
    """Means over the knots k of sigma((s_i - t_k) / tau), `[C, K]`, and 1 - their mean over i.

    The live ones of the rows `moved_by` `[C, M]` move the knots; None: they stand still.
    """
    knots = knots.where(usable.unsqueeze(1), 0.0)  # without a reference they are NaN
    seen = knots.unsqueeze(2)
    if moved_by is not None:
        seen = thresholds_of(numerator, knots, tau, moved_by)
    steps = soft_step(numerator.scores.unsqueeze(1) - seen, tau.view(-1, 1, 1))
    terms = _mean_of_knots(steps)
    if not pool.wants_slope:
        return terms, one_minus_mean(numerator, terms, None, usable)
    by_knot = step_slope(steps, tau.view(-1, 1, 1))
    per_class = one_minus_mean(numerator, terms, _mean_of_knots(by_knot), usable)
    if moved_by is not None:
        gaps = knots.shape[1] - 1
        by_knot = by_knot / gaps
        by_knot[:, ::gaps] /= 2  # both ends
        pushed = slope_through(numerator, by_knot, knots, tau, moved_by, usable)
        per_class = per_class.plus_slope(pushed)
    return terms, per_class


def _mean_of_knots(steps: Tensor) -> Tensor:
    """Trapezoidal mean over the knots of `[C, n_knots, M]`, `[C, M]`."""
    ends = steps[:, :: steps.shape[1] - 1].mean(1)  # each of half the weight
    return ends if steps.shape[1] == 2 else (steps.sum(1) - ends) / (steps.shape[1] - 1)


def _pairwise(
    pool: Pool, numerator: Selection, band: Selection, tau: Tensor, usable: Tensor
) -> tuple[Tensor, PerClass]:
    """Sums over the band j of sigma((s_j - s_i) / tau), `[C, K]`, and the mean of all pairs."""
    inside = band.inside.to(pool.scores.dtype)
    size = inside.sum(1)
    if pool.nonfinite is not None:
        size = size.masked_fill(pool.nonfinite, 1)  # an empty band hides no NaN
    shares, valid = shares_of(numerator.mass(), usable, partners=size)
    # Soft counts are of rows above, which are those that are not outranked.
    counts, pull = soft_counts(numerator.scores, band.scores, inside.unsqueeze(1), tau)
    missed = counts.squeeze(1)
    loss, slope = (shares * missed).sum(1), None
    if pool.wants_slope:
        by_numerator, by_band = pull(shares.unsqueeze(1))
        slope = band.add_to_(numerator.slope(by_numerator), by_band)
    return missed, PerClass(loss, valid, slope)


def _variance(terms: Tensor, member: Tensor) -> Tensor:
    count = member.sum(1)
    mean = (terms * member).sum(1) / count.clamp(min=1)
    squares = ((terms - mean.unsqueeze(1)).square() * member).sum(1)
    return torch.where(count > 0, squares / count.clamp(min=1), torch.nan)


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
    threshold_gradient: bool = False,
    sample_weight: Tensor | None = None,
) -> Tensor:
    r"""1 - partial AUC over the band [alpha, beta] of false-positive rates, one-vs-rest.

    For one class let t(f) be the 1 - f quantile of the reference scores, tau = temperature * scale
    with scale the inter-quartile range of the reference or t(alpha) - t(beta); scale and tau are
    without gradient. Then

        trapezoid: the mean over the positives i, and over equally spaced f from alpha to beta with
            half weight at both ends, of sigma((s_i - t(f)) / tau);
        pairwise: the mean over the positives i and the negatives j with
            t(beta) <= s_j <= t(alpha), of sigma((s_i - s_j) / tau).

    Both are smooth forms of the normalised partial area under the ROC curve (Narasimhan and
    Agarwal, "A Structural SVM Based Approach for Optimizing Partial AUC", ICML 2013,
    https://proceedings.mlr.press/v28/narasimhan13.html).

    By default the trapezoid's thresholds carry no gradient, and so positives alone do. Raising
    every score then counts as progress, and more weight lowers the recall it is made to raise, on
    the training rows of four real data sets of five. Take `surrogate="pairwise"`, or
    `threshold_gradient=True`: each t(f) then moves with the reference rows around it as in
    `recall_at_quantile_loss`, the gradient sums to zero, and the value stays the same.

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
        threshold_gradient: Whether the trapezoid's thresholds carry gradient.
        sample_weight: `[N]`, non-negative, weighs the positives' terms; thresholds do not see it.

    Returns:
        A scalar in [0, 1] for `"mean"`, or `[C]` for `"none"` with NaN for classes without a
        positive, an iid negative, a scale above 1e-12 or (pairwise) a negative in the band. No
        valid class: zero, attached to the graph.

    Raises:
        TypeError: For a wrong dtype or setting.
        ValueError: For a wrong shape, a setting out of range or, on CPU, a target out of range.

    Examples:
        >>> import torch
        >>> from imbalanced_losses.functional import pauc_at_budget_loss
        >>> logits, targets = torch.tensor([0.5, 0.9, 0.1, -0.1]), torch.tensor([1, 0, 0, 0])
        >>> pauc_at_budget_loss(logits, targets, beta=0.5, surrogate="pairwise")
        tensor(0.5000)
    """
    statistic = PAUCAtBudget(
        alpha=alpha,
        beta=beta,
        surrogate=surrogate,
        n_knots=n_knots,
        tau_scale=tau_scale,
        budget_basis=budget_basis,
        quantile_interpolation=quantile_interpolation,
        threshold_gradient=threshold_gradient,
    )
    return ranking_loss(
        statistic,
        logits,
        targets,
        iid_mask,
        sample_weight,
        temperature=temperature,
        reduction=reduction,
        ignore_index=ignore_index,
        scores=scores,
    )


class PAUCAtBudgetLoss(RankingLoss):
    """1 - partial AUC over the band [alpha, beta] of false-positive rates.

    The loss of `imbalanced_losses.functional.pauc_at_budget_loss` on a larger pool: the last
    `queue_size` rows take part in thresholds and contrasts, without gradient. The pool should hold
    a few times 1 / `beta` negatives.

    The default trapezoid moves positives only, which raising every score serves: more weight on it
    lowered its own goal on the training rows of four real data sets of five. Take
    `surrogate="pairwise"` or `threshold_gradient=True`.

    Args:
        num_classes: C; 1 for binary problems.
        alpha: Lower end of the band, in [0, beta).
        beta: Upper end of the band, the alert budget, at most 1.
        surrogate: `"trapezoid"` averages soft recall over knots and moves positives only;
            `"pairwise"` contrasts positives with the negatives in the band and moves both; advised.
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
        threshold_gradient: Whether the trapezoid's thresholds move with the live rows of the
            reference around them, as in `RecallAtQuantileLoss`.

    Raises:
        TypeError: For a setting of a wrong type.
        ValueError: For a setting out of range.

    Examples:
        >>> import torch
        >>> from imbalanced_losses import PAUCAtBudgetLoss
        >>> loss_fn = PAUCAtBudgetLoss(num_classes=1, beta=0.5, surrogate="pairwise")
        >>> loss_fn(torch.tensor([0.5, 0.9, 0.1, -0.1]), torch.tensor([1, 0, 0, 0]))
        tensor(0.5000)
    """

    alpha = Setting[float]("statistic")
    beta = Setting[float]("statistic")
    surrogate = Setting[str]("statistic")
    n_knots = Setting[int]("statistic")
    tau_scale = Setting[str]("statistic")
    pos_numerator = Setting[str]("statistic")
    budget_basis = Setting[str]("statistic")
    quantile_interpolation = Setting[str]("statistic")
    threshold_gradient = Setting[bool]("statistic")

    statistic: PAUCAtBudget

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
        threshold_gradient: bool = False,
    ) -> None:
        super().__init__(
            PAUCAtBudget(
                alpha=alpha,
                beta=beta,
                surrogate=surrogate,
                n_knots=n_knots,
                tau_scale=tau_scale,
                pos_numerator=pos_numerator,
                budget_basis=budget_basis,
                quantile_interpolation=quantile_interpolation,
                threshold_gradient=threshold_gradient,
            ),
            num_classes,
            queue_size=queue_size,
            temperature=temperature,
            reduction=reduction,
            ignore_index=ignore_index,
            update_queue_in_eval=update_queue_in_eval,
            gather_distributed=gather_distributed,
            max_pool_size=max_pool_size,
            scores=scores,
        )

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
        statistic = replace(self.statistic, diagnose=True) if return_diagnostics else self.statistic
        outcome = self._outcome(statistic, logits, targets, iid_mask, sample_weight)
        result = outcome.returned(return_per_class=return_per_class)
        if not return_diagnostics:
            return result
        results = result if isinstance(result, tuple) else (result,)
        return (*results, PAUCDiagnostics(*outcome.diagnostics)._asdict())
