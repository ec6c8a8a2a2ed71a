"""Partial AUC over a band of false-positive rates."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from imbalanced_losses import _checks
from imbalanced_losses._kernel.quantile import INTERPOLATIONS, masked_quantiles
from imbalanced_losses._kernel.soft_rank import soft_counts
from imbalanced_losses._kernel.soft_step import soft_step
from imbalanced_losses._pool import Pool, Selection, select
from imbalanced_losses._statistics.per_class import (
    PADDING,
    POINTWISE,
    PerClass,
    by_size,
    loss_of,
)

_SMALLEST_SCALE = 1e-12


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
) -> tuple[PerClass, PAUCDiagnostics | None]:
    """1 - the mean over the numerator's positives of the share of the band they outrank.

    A class is valid with a numerator, an iid negative, a scale above 1e-12 and, for the pairwise
    surrogate, a negative inside the band. Diagnostics come where they are asked for.
    """
    statistic = partial(_pauc, temperature=temperature, settings=settings, diagnose=diagnose)
    value, valid, *diagnostics = by_size(pool, statistic, padding=PADDING)
    return PerClass(value, valid), PAUCDiagnostics(*diagnostics) if diagnose else None


def _pauc(
    pool: Pool, temperature: Tensor, settings: PAUCSettings, *, diagnose: bool
) -> tuple[Tensor, ...]:
    negative = pool.valid & ~pool.positive
    iid_negative = negative & pool.iid
    with torch.no_grad():
        reference = iid_negative if settings.budget_basis == "fpr" else pool.valid & pool.iid
        knots, scale = _thresholds(pool.scores, reference, settings)
        tau = temperature * scale
        no_scale = ~(scale > _SMALLEST_SCALE)
        safe_tau = tau.masked_fill(no_scale, 1.0)
    positive = pool.positive & pool.live if settings.pos_numerator == "live" else pool.positive
    if settings.surrogate == "pairwise":
        numerator, band = select(pool, positive, negative & _in_band(pool.scores, knots))
        usable = ~no_scale & band.inside.any(1)
        terms = _share_outranked(numerator.scores, band, safe_tau)
    else:
        (numerator,) = select(pool, positive, above=POINTWISE)
        safe_knots = knots.masked_fill(no_scale.unsqueeze(1), 0.0)
        terms = _trapezoid(numerator.scores, safe_knots, safe_tau)
        usable = ~no_scale
    if pool.poisoned is not None:
        # Scale and band of a poisoned class mean nothing: they do not keep its NaN from showing.
        usable = usable | pool.poisoned
    if settings.budget_basis == "population" or pool.poisoned is not None:
        usable = usable & iid_negative.any(1)  # else no reference, hence no scale
    per_class = loss_of(pool, terms, numerator.mass, usable)
    if not diagnose:
        return per_class
    return *per_class, *PAUCDiagnostics(
        knots[:, 0],
        knots[:, -1],
        tau,
        (iid_negative & _in_band(pool.scores, knots)).sum(1),
        _variance(terms.detach(), numerator.inside),
        (pool.positive & pool.live).sum(1),
    )


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


def _trapezoid(scores: Tensor, knots: Tensor, tau: Tensor) -> Tensor:
    """Trapezoidal mean over the knots of sigma((s - t) / tau), `[C, M]`."""
    above = soft_step((scores.unsqueeze(1) - knots.unsqueeze(2)) / tau.view(-1, 1, 1))
    intervals = knots.shape[1] - 1
    return (above[:, :-1] + above[:, 1:]).sum(1) / (2 * intervals)


def _share_outranked(scores: Tensor, band: Selection, tau: Tensor) -> Tensor:
    """Mean over the rows j of the band of sigma((s_i - s_j) / tau), `[C, K]` like `scores`."""
    inside = band.inside.to(scores.dtype)
    # Soft counts are of rows above; mirrored scores turn them into rows below.
    below = -band.scores
    mirrored = below if scores is band.scores else -scores
    outranked = soft_counts(mirrored, below, inside.unsqueeze(1), tau).squeeze(1)
    return outranked / inside.sum(1, keepdim=True).clamp(min=1)


def _variance(terms: Tensor, member: Tensor) -> Tensor:
    count = member.sum(1)
    mean = (terms * member).sum(1) / count.clamp(min=1)
    squares = ((terms - mean.unsqueeze(1)).square() * member).sum(1)
    return torch.where(count > 0, squares / count.clamp(min=1), torch.nan)
