"""What training is for: the quantity of a goal, computed from logits, higher being better."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from imbalanced_losses import _checks, metrics
from imbalanced_losses.metrics._top import recall_within_budget
from imbalanced_losses.recipes import GOALS, Goal, Problem
from imbalanced_losses.recipes._recipe import DEFAULT_BUDGET

_TITLES: dict[Goal, str] = {
    "average_precision": "average precision",
    "partial_auc": "partial AUC up to {budget:.4g} false alarms per negative",
    "recall_at_fpr": "recall at {budget:.4g} false alarms per negative",
    "recall_at_budget": "recall with {budget:.4g} alerts per row",
    "balanced_accuracy": "balanced accuracy",
    "tail_accuracy": "accuracy on tail classes",
    "log_loss": "log-likelihood per row",
}
BUDGETED: tuple[Goal, ...] = ("partial_auc", "recall_at_fpr", "recall_at_budget")


def bounds_of(goal: Goal) -> tuple[float, float]:
    """The lowest and the highest number that the quantity of a goal can be."""
    return (-math.inf, 0.0) if goal == "log_loss" else (0.0, 1.0)


@dataclass(frozen=True)
class Judge:
    """The quantity of one goal on one problem.

    Attributes:
        goal: One of `recipes.GOALS`.
        problem: Of the training rows: the kind, and which classes are the tail.
        budget: For partial AUC and the recalls: the false-positive rate or share of alerts up to
            which they look, in (0, 1); None: 0.01.
    """

    goal: Goal
    problem: Problem
    budget: float | None = None

    def __post_init__(self) -> None:
        _checks.one_of("goal", self.goal, GOALS)
        budget = DEFAULT_BUDGET if self.budget is None else self.budget
        _checks.settle(self, budget=_checks.number("budget", budget, above=0, below=1))

    @property
    def title(self) -> str:
        """What a table calls it."""
        return _TITLES[self.goal].format(budget=self.budget)

    @torch.no_grad()
    def __call__(
        self, logits: Tensor, targets: Tensor, sample_weight: Tensor | None = None
    ) -> float:
        """The quantity, the mean over the classes where it is defined; NaN where for none.

        Args:
            logits: `[N, problem.outputs]`.
            targets: Class indices `[N]` for multiclass problems, else zeros and ones of the
                logits' shape.
            sample_weight: Weight of each row, `[N]`.
        """
        values = self.per_class(logits, targets, sample_weight)
        return float(values.nanmean())

    @torch.no_grad()
    def per_class(
        self, logits: Tensor, targets: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        """The quantity of each class or label, `[C]` in float64, NaN where it is undefined.

        Binary problems have one, that of the positive class.
        """
        z, exclusive = logits.double(), self.problem.kind == "multiclass"
        budget = self.budget
        assert budget is not None
        if self.goal == "log_loss":
            return _log_likelihood(z, targets, sample_weight, exclusive)
        if self.goal == "balanced_accuracy":
            return metrics.balanced_accuracy(
                z,
                targets,
                threshold=None if exclusive else 0.0,
                average="none",
                sample_weight=sample_weight,
            )
        if self.goal == "tail_accuracy":
            return self._tail_accuracy(z, targets, sample_weight)
        # Rows are ranked by probability, in which the other classes' logits count too.
        scores = z.log_softmax(1) if exclusive else z
        if self.goal == "average_precision":
            return metrics.average_precision(
                scores, targets, average="none", sample_weight=sample_weight
            )
        if self.goal == "partial_auc":
            return metrics.partial_auc(scores, targets, beta=budget, sample_weight=sample_weight)
        if self.goal == "recall_at_fpr":
            return metrics.recall_at_fpr(scores, targets, budget, sample_weight=sample_weight)
        # A net with dead units, or a small tree, ties rows; they may not buy alerts.
        return recall_within_budget(scores, targets, budget, sample_weight)

    def _tail_accuracy(self, z: Tensor, targets: Tensor, sample_weight: Tensor | None) -> Tensor:
        """Recall of the rarest third of the classes; of the positives for binary problems."""
        if self.problem.kind != "multiclass":
            found = (z > 0) & (targets == 1)
            weight = torch.ones(len(z)) if sample_weight is None else sample_weight
            mass = weight.double().to(z.device).unsqueeze(1)
            return (found * mass).sum(0) / ((targets == 1) * mass).sum(0)
        counts = torch.tensor(self.problem.counts)
        tail = max(1, round(len(counts) / 3))
        below = int(counts.sort().values[tail - 1].ceil()) + 1
        return metrics.tail_accuracy(
            z, targets, counts, below=below, average="none", sample_weight=sample_weight
        )


def _log_likelihood(
    z: Tensor, targets: Tensor, sample_weight: Tensor | None, exclusive: bool
) -> Tensor:
    """Mean log-likelihood: `[1]` where classes exclude each other, else one for each label."""
    if exclusive:
        values = -F.cross_entropy(z, targets, reduction="none").unsqueeze(1)
    else:
        values = -F.binary_cross_entropy_with_logits(z, targets.to(z), reduction="none")
    weight = torch.ones(len(z)) if sample_weight is None else sample_weight
    mass = weight.to(z).unsqueeze(1)
    return (values * mass).sum(0) / mass.sum()
