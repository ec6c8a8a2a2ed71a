"""A recipe: plain data, and what it makes of a problem."""

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from imbalanced_losses import _checks, calibration
from imbalanced_losses.class_weights import class_weights, init_prior_bias
from imbalanced_losses.losses import (
    AsymmetricLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    PairwiseAUCLoss,
    PAUCAtBudgetLoss,
    RecallAtQuantileLoss,
    SigmoidFocalLoss,
    SmoothAPLoss,
    SoftmaxFocalLoss,
)
from imbalanced_losses.mixing import MixedLoss
from imbalanced_losses.recipes._problem import KINDS, Kind, Problem

Pointwise: TypeAlias = Literal["cross_entropy", "focal", "logit_adjusted", "ldam", "asymmetric"]
Ranking: TypeAlias = Literal["smooth_ap", "pauc", "recall", "pairwise_auc"]

# Cross-entropy is alone for this share of the training, since ranks of random scores teach nothing.
_WARMUP_SHARE = 0.1
# The queue holds about so many positives of the rarest class, within the bounds.
_QUEUED_POSITIVES = 8
_QUEUE_BOUNDS = (1024, 16_384)
DEFAULT_BUDGET = 0.01


@dataclass(frozen=True)
class Recipe:
    """One way to train. Everything that is not said here stays as it is for all recipes.

    `init_layer`, `build_loss` and `undo` do their part of it. `sampler`, `average`, `members` and
    `adjust` are for the training loop to do, as `RareClassClassifier` does.

    Attributes:
        name: Its key in `RECIPES`.
        title: What a table calls it.
        pointwise: The loss of single rows.
        weights: `method` of `class_weights` for that loss, or None.
        ranking: A ranking loss beside it, mixed by `MixedLoss`, or None.
        ratio: Of the gradients, see `MixedLoss`.
        prior_bias: Whether the output layer starts from the class frequencies.
        sampler: Order of the training rows: `"shuffled"`, `"stratified"` (no batch without a
            positive) or `"balanced"` (classes drawn alike).
        average: Decay of a running average of the weights that is used after training; 0: none.
        members: Nets whose probabilities are averaged.
        adjust: Whether the decision is that of `adjust_logits`, with the `choose_tau` of validation
            rows.
        kinds: The problems that it is for.
    """

    name: str
    title: str
    pointwise: Pointwise = "cross_entropy"
    weights: Literal["balanced", "sqrt_inverse"] | None = None
    ranking: Ranking | None = None
    ratio: float = 1.0
    prior_bias: bool = True
    sampler: Literal["shuffled", "stratified", "balanced"] = "shuffled"
    average: float = 0.0
    members: int = 1
    adjust: bool = False
    kinds: tuple[Kind, ...] = KINDS

    def build_loss(self, problem: Problem, *, steps: int, budget: float | None = None) -> nn.Module:
        """The loss, called as `loss(logits, targets, sample_weight=...)`.

        Args:
            problem: Of the training rows. Logits have shape `[N, problem.outputs]`, of maps and
                sequences `[N, problem.outputs, d1, ...]`; targets are class indices `[N]` or
                `[N, d1, ...]` for multiclass problems, and zeros and ones of the logits' shape for
                the other two.
            steps: Training steps in all; a ranking loss joins after the first tenth.
            budget: Highest false-positive rate or share of alerts that counts, in (0, 1); used by
                `"pauc"` and `"recall"`. None: 0.01.

        Raises:
            ValueError: The recipe is not for this kind of problem, or an argument is out of range.
        """
        self._suits(problem)
        steps = _checks.integer("steps", steps, at_least=1)
        share = DEFAULT_BUDGET if budget is None else budget
        share = _checks.number("budget", share, above=0, below=1)
        pointwise = self._pointwise(problem)
        if self.ranking is None:
            return pointwise
        ranking = self._ranking(problem, share)
        warmup = math.ceil(_WARMUP_SHARE * steps)
        return MixedLoss(pointwise, ranking, self.ratio, warmup_steps=warmup)

    def init_layer(self, layer: nn.Module, problem: Problem) -> nn.Module:
        """Set the output layer's bias in place, where the recipe does so, and return the layer.

        Raises:
            ValueError: The layer has no bias or another number of outputs than the problem.
        """
        self._suits(problem)
        if not self.prior_bias:
            return layer
        if problem.kind == "multiclass":
            return init_prior_bias(layer, counts=problem.counts)
        return init_prior_bias(
            layer, counts=problem.positives, total=problem.rows, activation="sigmoid"
        )

    def undo(self, logits: Tensor, problem: Problem) -> Tensor:
        """Logits whose sigmoid or softmax estimates probabilities, from those of the trained model.

        What class weights, the focal loss, logit adjustment and balanced sampling do to
        probabilities is known and taken back. LDAM, the asymmetric loss and the ranking losses have
        no known inverse: calibrate on validation rows after them.
        """
        self._suits(problem)
        activation: Literal["softmax", "sigmoid"] = (
            "softmax" if problem.kind == "multiclass" else "sigmoid"
        )
        if self.pointwise == "focal":
            return calibration.undo_focal(logits, activation=activation)
        if self.pointwise == "logit_adjusted":
            return calibration.undo_logit_adjustment(logits, problem.counts)
        if self.weights is not None:
            weights = self._weights(problem)
            return calibration.undo_class_weights(logits, weights, activation=activation)
        if self.sampler == "balanced":
            even = 1 / len(problem.counts)
            if problem.kind == "binary":
                return calibration.undo_resampling(
                    logits, [even], problem.rates, activation=activation
                )
            return calibration.undo_resampling(
                logits, [even] * problem.outputs, problem.rates, activation=activation
            )
        return logits

    def _suits(self, problem: Problem) -> None:
        if problem.kind not in self.kinds:
            raise ValueError(
                f"recipe {self.name!r} is for {' and '.join(self.kinds)} problems; got a "
                f"{problem.kind} one. Use for_problem to find those that suit."
            )

    def _weights(self, problem: Problem) -> Tensor:
        """Weight of each class; for one logit per label, of its positives against its negatives."""
        if problem.kind == "multiclass":
            assert self.weights is not None
            return class_weights(counts=problem.counts, method=self.weights, normalize="mean")
        odds = torch.tensor([(1 - rate) / rate for rate in problem.rates])
        return odds.sqrt() if self.weights == "sqrt_inverse" else odds

    def _pointwise(self, problem: Problem) -> nn.Module:
        softmax = problem.kind == "multiclass"
        if self.pointwise == "focal":
            return SoftmaxFocalLoss() if softmax else SigmoidFocalLoss(alpha=None)
        if self.pointwise == "logit_adjusted":
            return LogitAdjustedLoss(problem.counts)
        if self.pointwise == "ldam":
            return LDAMLoss(problem.counts)
        if self.pointwise == "asymmetric":
            return AsymmetricLoss()
        # At gamma 0 a focal loss is cross-entropy exactly, and takes weights of rows.
        if softmax:
            alpha = None if self.weights is None else self._weights(problem)
            return SoftmaxFocalLoss(alpha=alpha, gamma=0.0)
        if self.weights is None:
            return SigmoidFocalLoss(alpha=None, gamma=0.0)
        odds = self._weights(problem)
        return SigmoidFocalLoss(alpha=odds / (1 + odds), gamma=0.0)

    def _ranking(self, problem: Problem, budget: float) -> nn.Module:
        low, high = _QUEUE_BOUNDS
        settings: dict[str, Any] = {
            "queue_size": int(min(max(low, _QUEUED_POSITIVES / min(problem.rates)), high)),
            "scores": "log_odds" if problem.kind == "multiclass" else "logits",
        }
        outputs = problem.outputs
        if self.ranking == "smooth_ap":
            return SmoothAPLoss(outputs, temperature=0.2, tau_scale="std", **settings)
        if self.ranking == "pauc":
            return PAUCAtBudgetLoss(outputs, beta=budget, surrogate="pairwise", **settings)
        if self.ranking == "recall":
            return RecallAtQuantileLoss(
                outputs,
                quantile=budget,
                temperature=0.2,
                tau_scale="std",
                threshold_gradient=True,
                **settings,
            )
        return PairwiseAUCLoss(outputs, **settings)
