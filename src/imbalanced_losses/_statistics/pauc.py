"""Partial AUC over a band of false-positive rates."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from imbalanced_losses import _checks
from imbalanced_losses._ops.quantile import INTERPOLATIONS, masked_quantiles
from imbalanced_losses._ops.soft_counts.blocks import soft_counts
from imbalanced_losses._ops.soft_step import soft_step
from imbalanced_losses._pool import Pool, Selection, select
from imbalanced_losses._statistics.per_class import (
    PADDING,
    POINTWISE,
    PerClass,
    by_size,
    mean_of,
    shares_of,
)

_SMALLEST_SCALE = 1e-12
# Up to so many pairs with the negatives of the band, choosing the positives costs more.
_FEW_PAIRS = 2**14


class PAUCSettings(NamedTuple):
    """The options of `PAUCAtBudgetLoss` that its statistic reads."""

    alpha: float = 0.0
    beta: float = 0.005
    surrogate: str = "trapezoid"
    n_knots: int = 2
    tau_scale: str = "iqr"
    pos_numerator: str = "pool"
    budget_basis: str = "fpr"
    quantile_interpolation: str = "higher"

    def checked(self) -> "PAUCSettings":
        """These settings, or an error that names the one that is out of range."""
        _checks.number("alpha", self.alpha, at_least=0, below=1)
        _checks.number("beta", self.beta, above=self.alpha, at_most=1)
        _checks.one_of("surrogate", self.surrogate, ("trapezoid", "pairwise"))
        _checks.integer("n_knots", self.n_knots, at_least=2)
        _checks.one_of("tau_scale", self.tau_scale, ("iqr", "band"))
        _checks.one_of("pos_numerator", self.pos_numerator, ("pool", "live"))
        _checks.one_of("budget_basis", self.budget_basis, ("fpr", "population"))
        _checks.one_of("quantile_interpolation", self.quantile_interpolation, INTERPOLATIONS)
        return self


class PAUCDiagnostics(NamedTuple):
    """Health of the band, `[C]` each, detached; NaN where the class has no reference rows."""

    t_alpha: Tensor  # score threshold at false-positive rate alpha
    t_beta: Tensor  # score threshold at false-positive rate beta
    tau_eff: Tensor  # temperature * scale
    band_neg_count: Tensor  # iid negatives between the two thresholds
    pauc_var: Tensor  # variance over the numerator's rows of their share of the band
    grad_pos_count: Tensor  # live positives, the ones that carry gradient


def pauc_at_budget(
    pool: Pool, temperature: Tensor, settings: PAUCSettings, *, diagnose: bool = False
) -> PerClass:
    """1 - the mean over the numerator's positives of the share of the band they outrank.

    A class is valid with a numerator, an iid negative, a scale above 1e-12 and, for the pairwise
    surrogate, a negative inside the band. `PAUCDiagnostics` come where they are asked for.
    """
    statistic = partial(_pauc, temperature=temperature, settings=settings, diagnose=diagnose)
    return by_size(pool, statistic, padding=PADDING)


def _pauc(pool: Pool, temperature: Tensor, settings: PAUCSettings, *, diagnose: bool) -> PerClass:
    scores = pool.scores.detach()
    negative = pool.valid & ~pool.positive
    iid_negative = negative & pool.iid
    reference = iid_negative if settings.budget_basis == "fpr" else pool.valid & pool.iid
    knots, scale = _thresholds(scores, reference, settings)
    tau = temperature * scale
    usable = scale > _SMALLEST_SCALE
    safe_tau = tau.where(usable, 1.0)
    if pool.poisoned is not None:
        # Scale and band of a poisoned class mean nothing: they do not keep its NaN from showing.
        usable = usable | pool.poisoned
    if settings.budget_basis == "population" or pool.poisoned is not None:
        usable = usable & iid_negative.any(1)  # else no reference, hence no scale
    positive = pool.positive & pool.live if settings.pos_numerator == "live" else pool.positive
    if settings.surrogate == "pairwise":
        band = select(pool, negative & _in_band(scores, knots))
        numerator = select(pool, positive, above=_FEW_PAIRS // max(1, band.inside.shape[1]))
        terms, per_class = _pairwise(pool, numerator, band, safe_tau, usable)
    else:
        numerator = select(pool, positive, above=POINTWISE)
        # Without a reference the knots are NaN.
        safe_knots = knots.where(usable.unsqueeze(1), 0.0)
        terms, slopes = _trapezoid(numerator.scores, safe_knots, safe_tau, slope=pool.wants_slope)
        per_class = mean_of(numerator, terms, slopes, usable)
    if not diagnose:
        return per_class
    diagnostics = PAUCDiagnostics(
        knots[:, 0],
        knots[:, -1],
        tau,
        (iid_negative & _in_band(scores, knots)).sum(1),
        _variance(terms, numerator.inside),
        (pool.positive & pool.live).sum(1),
    )
    return per_class._replace(diagnostics=diagnostics)


def _in_band(scores: Tensor, knots: Tensor) -> Tensor:
    return (scores >= knots[:, -1:]) & (scores <= knots[:, :1])


def _thresholds(scores: Tensor, reference: Tensor, settings: PAUCSettings) -> tuple[Tensor, Tensor]:
    """Scores at the knots `[C, n_knots]`, from alpha to beta, and the scale `[C]` of tau."""
    alpha, beta = settings.alpha, settings.beta
    inner = range(1, settings.n_knots - 1)
    rates = [alpha, *(alpha + (beta - alpha) * k / (settings.n_knots - 1) for k in inner), beta]
    ends = [0.25, 0.75] if settings.tau_scale == "iqr" else []
    levels = [*(1 - rate for rate in rates), *ends]
    quantiles = masked_quantiles(scores, reference, levels, settings.quantile_interpolation)
    knots = quantiles[:, : settings.n_knots]
    low, high = (quantiles[:, -2], quantiles[:, -1]) if ends else (knots[:, -1], knots[:, 0])
    return knots, high - low


def _trapezoid(scores: Tensor, knots: Tensor, tau: Tensor, *, slope: bool) -> tuple[Tensor, Tensor]:
    """Trapezoidal mean over the knots of sigma((s - t) / tau), `[C, M]`, and its derivative."""
    difference = scores.unsqueeze(1) - knots.unsqueeze(2)
    above, slopes = soft_step(difference, tau.view(-1, 1, 1), slope=slope)
    return _mean_of_knots(above), _mean_of_knots(slopes) if slope else slopes


def _mean_of_knots(steps: Tensor) -> Tensor:
    ends = steps[:, :: steps.shape[1] - 1].mean(1)  # each of half the weight
    return ends if steps.shape[1] == 2 else (steps.sum(1) - ends) / (steps.shape[1] - 1)


def _pairwise(
    pool: Pool, numerator: Selection, band: Selection, tau: Tensor, usable: Tensor
) -> tuple[Tensor, PerClass]:
    """Means over the band j of sigma((s_i - s_j) / tau), `[C, K]`, and 1 - their mean over i."""
    inside = band.inside.to(pool.scores.dtype)
    size = inside.sum(1, keepdim=True)
    some = size.squeeze(1) > 0
    usable = usable & (some if pool.poisoned is None else some | pool.poisoned)
    shares, valid = shares_of(numerator.mass(), usable)
    # Soft counts are of rows above, which are those that are not outranked.
    counts, pull = soft_counts(numerator.scores, band.scores, inside.unsqueeze(1), tau)
    size = size.clamp(min=1)
    missed = counts.squeeze(1) / size
    value = (shares * missed).sum(1)
    if pool.wants_slope:
        by_numerator, by_band = pull((shares / size).unsqueeze(1))
        slope = band.add_to_(numerator.slope(by_numerator), by_band)
    else:
        slope = value.new_empty(len(value), 0)
    return 1 - missed, PerClass(value, valid, slope)


def _variance(terms: Tensor, member: Tensor) -> Tensor:
    count = member.sum(1)
    mean = (terms * member).sum(1) / count.clamp(min=1)
    squares = ((terms - mean.unsqueeze(1)).square() * member).sum(1)
    return torch.where(count > 0, squares / count.clamp(min=1), torch.nan)
