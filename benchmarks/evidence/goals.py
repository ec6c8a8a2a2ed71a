"""The goals: what a model is judged by, for many models at once.

Scores are `[N, S, C]` for S models: C = 1 logit in a binary task, C logits in a multiclass one. The
ranking goals are those of `imbalanced_losses.metrics`, of each class against the rest and in the
mean over the classes; in a multiclass task what is ranked is the class's probability.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from imbalanced_losses._training.fit import mean_logits
from imbalanced_losses.calibration import calibration_error
from imbalanced_losses.metrics import average_precision, partial_auc, recall_at_fpr
from imbalanced_losses.metrics._top import recall_within_budget

# Shifts of the decision that are tried on validation rows, in units of the log prior.
SHIFTS = tuple(step / 10 for step in range(21))


class Goal(NamedTuple):
    """A quantity to raise, or to lower; `ranked` where only the order of the scores matters."""

    of: Callable[[Tensor, Tensor], Tensor]
    ranked: bool = False
    sign: int = 1


def by_class(scores: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Each class against the rest: what is ranked and the targets, `[N, S * C]`."""
    rows, models, classes = scores.shape
    if classes == 1:
        return scores.flatten(1), y[:, None].expand(rows, models)
    targets = F.one_hot(y, classes)[:, None].expand(rows, models, classes)
    return log_odds(scores).flatten(1), targets.reshape(rows, -1)


def log_odds(logits: Tensor) -> Tensor:
    """Log-odds of the softmax probabilities along the last dimension."""
    others = torch.stack(
        [
            torch.cat([logits[..., :c], logits[..., c + 1 :]], -1).logsumexp(-1)
            for c in range(logits.shape[-1])
        ],
        -1,
    )
    return logits - others


def _macro(metric: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    def of(scores: Tensor, y: Tensor) -> Tensor:
        ranked, targets = by_class(scores, y)
        return metric(ranked, targets).view(scores.shape[1:]).nanmean(1)

    return of


def _recalls(scores: Tensor, y: Tensor) -> Tensor:
    """Share of each class's rows that are decided right, `[S, classes]`; NaN without a row."""
    classes = scores.shape[2]
    chosen = (scores[..., 0] > 0).long() if classes == 1 else scores.argmax(2)
    targets = F.one_hot(y, max(classes, 2)).to(scores.dtype)
    return (chosen == y[:, None]).to(scores.dtype).t() @ targets / targets.sum(0)


def balanced_accuracy(scores: Tensor, y: Tensor) -> Tensor:
    """Mean of the classes' recalls at argmax, or at the logit 0."""
    return _recalls(scores, y).nanmean(1)


def tail_accuracy(scores: Tensor, y: Tensor) -> Tensor:
    """Recall of the rare class, or its mean over the rarest third of the classes here."""
    recalls = _recalls(scores, y)
    counts = torch.bincount(y, minlength=recalls.shape[1])
    present = counts > 0
    tail = counts.masked_fill(~present, counts.max() + 1).argsort(stable=True)
    return recalls[:, tail[: max(1, int(present.sum()) // 3)]].mean(1)


def log_loss(scores: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy, in nats."""
    rows, models, classes = scores.shape
    if classes == 1:
        targets = y[:, None].expand(rows, models).to(scores.dtype)
        cells = F.binary_cross_entropy_with_logits(scores[..., 0], targets, reduction="none")
    else:
        cells = -scores.log_softmax(2).gather(2, y[:, None, None].expand(rows, models, 1))[..., 0]
    return cells.mean(0)


def _calibration(scores: Tensor, y: Tensor) -> Tensor:
    classes = scores.shape[2]
    chances = scores.sigmoid() if classes == 1 else scores.softmax(2)
    errors = calibration_error(chances.flatten(1), by_class(scores, y)[1])
    return errors.view(scores.shape[1:]).nanmean(1)


GOALS = {
    "average_precision": Goal(_macro(average_precision), ranked=True),
    "recall_at_fpr_0.005": Goal(_macro(lambda s, y: recall_at_fpr(s, y, 0.005)), ranked=True),
    "recall_at_fpr_0.01": Goal(_macro(lambda s, y: recall_at_fpr(s, y, 0.01)), ranked=True),
    "recall_at_alerts_0.01": Goal(
        _macro(lambda s, y: recall_within_budget(s, y, 0.01)), ranked=True
    ),
    "partial_auc_0.01": Goal(_macro(lambda s, y: partial_auc(s, y, beta=0.01)), ranked=True),
    "balanced_accuracy": Goal(balanced_accuracy),
    "tail_accuracy": Goal(tail_accuracy),
    "balanced_accuracy_adjusted": Goal(balanced_accuracy),
    "log_loss": Goal(log_loss, sign=-1),
    "calibration_error": Goal(_calibration, sign=-1),
}
ADJUSTED = "balanced_accuracy_adjusted"


def shifted(scores: Tensor, tau: float | Tensor, prior: Tensor) -> Tensor:
    """Scores whose decision is shifted by tau times the log prior `[classes]`, Menon et al. 2021.

    `tau` is a number, or one for each model `[S]`.
    """
    log_prior = prior.log()
    by = log_prior[1:] - log_prior[:1] if scores.shape[2] == 1 else log_prior
    return scores - torch.as_tensor(tau).unsqueeze(-1) * by


def mean_prediction(scores: Tensor) -> Tensor:
    """Scores whose probabilities are the mean of those of the members, the first dimension."""
    return mean_logits(scores, exclusive=scores.shape[-1] > 1)


def choices(scores: Tensor, y: Tensor, prior: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """For each goal the best candidate of each model by these validation rows.

    Args:
        scores: `[N, S, K, C]` of K candidates for each model.
        y: Classes `[N]`.
        prior: Shares of the classes among the training rows.

    Returns:
        The candidate `[S]` and, for the adjusted decision, its tau `[S]` (0 elsewhere). Of equal
        candidates the one with the higher average precision is taken, then the earlier one; of
        equally good tau the middle one.
    """
    models, candidates = scores.shape[1:3]
    flat = scores.flatten(1, 2)

    def values(goal: Goal, scores: Tensor) -> Tensor:
        return (goal.sign * goal.of(scores, y)).nan_to_num(-torch.inf)

    precision = values(GOALS["average_precision"], flat)
    found = {}
    for name, goal in GOALS.items():
        tau = torch.zeros(models)
        if name == ADJUSTED:
            by_shift = torch.stack([values(goal, shifted(flat, t, prior)) for t in SHIFTS])
            value = by_shift.amax(0)
        else:
            value = precision if name == "average_precision" else values(goal, flat)
        ranked = (value.double() + 1e-6 * precision.double()).view(models, candidates)
        best = ranked.argmax(1)
        if name == ADJUSTED:
            of_best = by_shift.view(len(SHIFTS), models, candidates)[:, torch.arange(models), best]
            is_best = of_best == of_best.amax(0)
            tau = (torch.tensor(SHIFTS)[:, None] * is_best).sum(0) / is_best.sum(0)
        found[name] = (best, tau)
    return found


def results(
    scores: Tensor, y: Tensor, prior: Tensor, chosen: dict[str, tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    """Each goal `[S]` on test rows, by the candidates that `choices` took; scores as there."""
    own = torch.arange(scores.shape[1])
    return {
        name: GOALS[name].of(shifted(scores[:, own, best], tau, prior), y)
        for name, (best, tau) in chosen.items()
    }
