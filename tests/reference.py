"""The ranking losses as their formulas read, in float64, one class and one row at a time.

Slow and plain on purpose. A `Class` holds the pooled rows of one class; `smooth_ap`,
`recall_at_quantile` and `pauc_at_budget` turn one into `(value, valid)`, the value being the
quantity itself, so that the loss is 1 - value. `RankingLoss` does what a loss module does around
that: one-vs-rest targets, log-odds, the rows of earlier batches, the reduction. Torch operations
only carry the gradient.
"""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass
class Class:
    """Pooled rows of one class, each field `[M]`."""

    scores: Tensor
    positive: Tensor
    valid: Tensor
    weight: Tensor | None = None
    iid: Tensor | None = None
    live: Tensor | None = None

    def __post_init__(self) -> None:
        ones = torch.ones(len(self.scores))
        self.weight = ones.double() if self.weight is None else self.weight
        self.iid = ones.bool() if self.iid is None else self.iid
        self.live = ones.bool() if self.live is None else self.live

    def rows(self, keep: Callable[[int], bool]) -> list[int]:
        return [i for i in range(len(self.scores)) if self.valid[i] and keep(i)]

    @property
    def positives(self) -> list[int]:
        return self.rows(lambda i: self.positive[i])

    @property
    def negatives(self) -> list[int]:
        return self.rows(lambda i: not self.positive[i])


class Value(NamedTuple):
    value: Tensor
    valid: bool
    diagnostics: dict[str, float] | None = None


INVALID = Value(torch.tensor(math.nan, dtype=torch.float64), False)


def smooth_ap(pool: Class, temperature: float = 0.01, tau_scale: str = "none") -> Value:
    if not pool.positives or not pool.negatives:
        return INVALID
    temperature = temperature * unit_of(pool, tau_scale)

    def soft_rank(i: int, rows: list[int]) -> Tensor:
        others = [j for j in rows if j != i]
        return 1 + torch.sigmoid((pool.scores[others] - pool.scores[i]) / temperature).sum()

    everyone = pool.positives + pool.negatives
    terms = [soft_rank(i, pool.positives) / soft_rank(i, everyone) for i in pool.positives]
    return weighted_mean(terms, pool.weight[pool.positives])


def recall_at_quantile(
    pool: Class,
    quantile: float = 0.005,
    temperature: float = 0.01,
    quantile_interpolation: str = "higher",
    tau_scale: str = "none",
    threshold_gradient: bool = False,
) -> Value:
    if not pool.positives:
        return INVALID
    everyone = pool.rows(lambda _: True)
    threshold = quantile_of(pool.scores[everyone], 1 - quantile, quantile_interpolation)
    tau = temperature * unit_of(pool, tau_scale)
    moving = moving_threshold(threshold, pool, everyone, tau) if threshold_gradient else threshold

    def term(i: int) -> Tensor:
        return torch.sigmoid((pool.scores[i] - (moving if pool.live[i] else threshold)) / tau)

    terms = [term(i) for i in pool.positives]
    return weighted_mean(terms, pool.weight[pool.positives])


def pauc_at_budget(
    pool: Class,
    alpha: float = 0.0,
    beta: float = 0.005,
    surrogate: str = "trapezoid",
    n_knots: int = 2,
    tau_scale: str = "iqr",
    pos_numerator: str = "pool",
    budget_basis: str = "fpr",
    temperature: float = 0.1,
    quantile_interpolation: str = "higher",
    threshold_gradient: bool = False,
) -> Value:
    iid_negatives = [j for j in pool.negatives if pool.iid[j]]
    iid_rows = pool.rows(lambda i: pool.iid[i])
    numerator = [i for i in pool.positives if pos_numerator == "pool" or pool.live[i]]
    if not iid_negatives or not numerator:
        return INVALID

    reference_rows = iid_negatives if budget_basis == "fpr" else iid_rows
    reference = pool.scores[reference_rows]

    def threshold(rate: float) -> Tensor:
        return quantile_of(reference, 1 - rate, quantile_interpolation)

    t_alpha, t_beta = threshold(alpha), threshold(beta)
    scale = threshold(0.25) - threshold(0.75) if tau_scale == "iqr" else t_alpha - t_beta
    band = [j for j in pool.negatives if t_beta <= pool.scores[j] <= t_alpha]
    if scale <= 1e-12 or (surrogate == "pairwise" and not band):
        return INVALID
    tau = temperature * scale

    def pairwise_term(i: int) -> Tensor:
        return torch.sigmoid((pool.scores[i] - pool.scores[band]) / tau).mean()

    knots = [threshold(alpha + (beta - alpha) * k / (n_knots - 1)) for k in range(n_knots)]
    knot_weights = [0.5 if k in (0, n_knots - 1) else 1.0 for k in range(n_knots)]

    moving = [moving_threshold(t, pool, reference_rows, tau) for t in knots]

    def trapezoid_term(i: int) -> Tensor:
        seen = moving if threshold_gradient and pool.live[i] else knots
        parts = [
            w * torch.sigmoid((pool.scores[i] - t) / tau)
            for t, w in zip(seen, knot_weights, strict=True)
        ]
        return torch.stack(parts).sum() / sum(knot_weights)

    term = pairwise_term if surrogate == "pairwise" else trapezoid_term
    terms = [term(i) for i in numerator]
    diagnostics = {
        "t_alpha": float(t_alpha),
        "t_beta": float(t_beta),
        "tau_eff": float(tau),
        "band_neg_count": sum(j in iid_negatives for j in band),
        "pauc_var": float(torch.stack(terms).detach().var(correction=0)),
        "grad_pos_count": sum(bool(pool.live[i]) for i in pool.positives),
    }
    return weighted_mean(terms, pool.weight[numerator])._replace(diagnostics=diagnostics)


def pairwise_auc(
    pool: Class,
    surrogate: str = "squared_hinge",
    margin: float = 1.0,
    temperature: float = 1.0,
) -> Value:
    if not pool.positives or not pool.negatives:
        return INVALID

    def term(score: Tensor) -> Tensor:
        difference = (score - pool.scores[pool.negatives]) / temperature
        if surrogate == "squared_hinge":
            return 1 - (margin - difference).clamp(min=0).square().mean()
        return torch.sigmoid(difference).mean()

    terms = [term(pool.scores[i]) for i in pool.positives]
    return weighted_mean(terms, pool.weight[pool.positives])


def weighted_mean(terms: list[Tensor], weight: Tensor) -> Value:
    if weight.sum() == 0:
        return INVALID
    return Value((torch.stack(terms) * weight).sum() / weight.sum(), True)


def quantile_of(values: Tensor, level: float, interpolation: str) -> Tensor:
    return torch.quantile(values.detach(), level, interpolation=interpolation)


def unit_of(pool: Class, tau_scale: str) -> float:
    """What a temperature is a share of; 1 where the scores have no spread."""
    scores = pool.scores.detach()[pool.rows(lambda _: True)].tolist()
    if tau_scale == "std":
        spread = statistics.pstdev(scores)
    elif tau_scale == "iqr":
        values = torch.tensor(scores, dtype=torch.float64)
        spread = float(quantile_of(values, 0.75, "linear") - quantile_of(values, 0.25, "linear"))
    else:
        return 1.0
    return spread if spread > 1e-12 else 1.0


def kernel_weights(threshold: Tensor, scores: list[Tensor], tau: float) -> list[Tensor]:
    """sigma'((s - threshold) / tau) over its sum, by exponents taken from the largest."""
    away = [(score - threshold) / tau for score in scores]
    logs = [torch.nn.functional.logsigmoid(x) + torch.nn.functional.logsigmoid(-x) for x in away]
    top = max(log.item() for log in logs)
    kernels = [torch.exp(log - top) for log in logs]
    return [kernel / sum(kernels) for kernel in kernels]


def moving_threshold(threshold: Tensor, pool: Class, rows: list[int], tau: float) -> Tensor:
    """The same number, whose derivative in the score of a live row is the weight of its kernel."""
    scores = [pool.scores[j] for j in rows if pool.live[j]]
    moved = (
        [
            weight.detach() * (score - score.detach())
            for weight, score in zip(kernel_weights(threshold, scores, tau), scores, strict=True)
        ]
        if scores
        else []
    )
    return threshold + sum(moved)


def log_odds(logits: Tensor) -> Tensor:
    """`[N, C]` log-odds of the softmax probability: each logit against all the others."""
    columns = []
    for c in range(logits.shape[1]):
        others = [k for k in range(logits.shape[1]) if k != c]
        columns.append(logits[:, c] - torch.logsumexp(logits[:, others], dim=1))
    return torch.stack(columns, dim=1)


def one_vs_rest(targets: Tensor, classes: int, ignore_index: int = -100) -> tuple[Tensor, Tensor]:
    """Class indices or multi-hot targets as positives and validity, both `[N, C]` and bool."""
    if targets.ndim == 2 and targets.shape[1] == classes > 1:
        return targets == 1, targets != ignore_index
    rows = targets.reshape(-1)
    valid = (rows != ignore_index)[:, None].expand(-1, classes)
    if classes == 1:
        return (rows == 1)[:, None], valid
    return torch.stack([rows == c for c in range(classes)], dim=1), valid


class Outcome(NamedTuple):
    loss: Tensor
    per_class: Tensor
    valid: Tensor
    diagnostics: list[dict[str, float] | None]


@dataclass
class RankingLoss:
    """A ranking loss over the present rows and the last `queue_size` of the earlier ones.

    `statistic` is one of the functions above and `settings` are its keyword arguments.
    """

    statistic: Callable[..., Value]
    settings: dict[str, object]
    queue_size: int = 0
    reduction: str = "mean"
    ignore_index: int = -100
    scores: str = "logits"

    def __post_init__(self) -> None:
        self.past: list[tuple[Tensor, ...]] = []

    def __call__(
        self,
        logits: Tensor,
        targets: Tensor,
        iid_mask: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Outcome:
        logits = logits.double().reshape(len(logits), -1)
        rows = len(logits)
        scores = log_odds(logits) if self.scores == "log_odds" else logits
        positive, valid = one_vs_rest(targets, logits.shape[1], self.ignore_index)
        iid = torch.ones(rows).bool() if iid_mask is None else iid_mask.bool()
        weight = torch.ones(rows).double() if sample_weight is None else sample_weight.double()

        batch = list(zip(scores, positive, valid, weight, iid, strict=True))
        pool = [torch.stack(column) for column in zip(*batch, *self.past, strict=True)]
        live = torch.arange(len(pool[0])) < rows
        values = [
            self.statistic(
                Class(pool[0][:, c], pool[1][:, c], pool[2][:, c], pool[3], pool[4], live),
                **self.settings,
            )
            for c in range(logits.shape[1])
        ]
        if valid.any():
            self.remember(batch)
        return self.reduce(values, logits)

    def remember(self, batch: list[tuple[Tensor, ...]]) -> None:
        for score, positive, valid, *rest in batch:
            kept = valid & score.isfinite().all()
            self.past.insert(0, (score.detach().nan_to_num(), positive, kept, *rest))
        self.past = self.past[: self.queue_size]

    def reduce(self, values: list[Value], logits: Tensor) -> Outcome:
        per_class = torch.stack([1 - value.value for value in values])
        valid = torch.tensor([value.valid for value in values])
        diagnostics = [value.diagnostics for value in values]
        if self.reduction == "none":
            return Outcome(per_class, per_class, valid, diagnostics)
        losses = [per_class[c] for c in range(len(values)) if valid[c]]
        total = sum(losses) if losses else logits.sum() * 0
        if self.reduction == "mean":
            total = total / max(len(losses), 1)
        return Outcome(total, per_class, valid, diagnostics)
