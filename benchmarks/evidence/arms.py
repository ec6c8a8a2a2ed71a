"""What is compared: how networks are trained, and how their predictions are read.

A `Recipe` trains one network in each fold and at each learning rate. An `Arm` reads one or several
of them: a network, the average of its weights, or the mean prediction of several.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.evidence.goals import log_odds
from imbalanced_losses import (
    PairwiseAUCLoss,
    PAUCAtBudgetLoss,
    RecallAtQuantileLoss,
    SmoothAPLoss,
)
from imbalanced_losses.functional import (
    ldam_loss,
    sigmoid_focal_loss,
    softmax_focal_loss,
)
from imbalanced_losses.losses._ranking import RankingLoss

BATCH = 256
QUEUE = 512
WARMUP_SHARE = 0.1
# As in MixedLoss.
DECAY, BOUND = 0.95, 1e3

RANKINGS: dict[str, Callable[[int], RankingLoss]] = {
    "smooth_ap": lambda columns: SmoothAPLoss(
        columns, QUEUE, temperature=0.2, tau_scale="std", reduction="sum"
    ),
    "pauc": lambda columns: PAUCAtBudgetLoss(
        columns,
        beta=0.01,
        surrogate="pairwise",
        temperature=0.1,
        queue_size=QUEUE,
        reduction="sum",
    ),
    "pairwise_auc": lambda columns: PairwiseAUCLoss(columns, queue_size=QUEUE, reduction="sum"),
    "recall": lambda columns: RecallAtQuantileLoss(
        columns,
        quantile=0.01,
        queue_size=QUEUE,
        temperature=0.2,
        tau_scale="std",
        threshold_gradient=True,
        reduction="sum",
    ),
    # As the reference documents have them: thresholds without gradient.
    "recall_detached": lambda columns: RecallAtQuantileLoss(
        columns, quantile=0.01, queue_size=QUEUE, temperature=0.05, reduction="sum"
    ),
    "pauc_trapezoid": lambda columns: PAUCAtBudgetLoss(
        columns, beta=0.01, queue_size=QUEUE, reduction="sum"
    ),
}


@dataclass(frozen=True)
class Recipe:
    """How one network is trained.

    Attributes:
        pointwise: "cross_entropy", "focal", "logit_adjusted" or "ldam".
        ranking: A name in `RANKINGS`, or "".
        ratio: Norm of the ranking gradient over the pointwise one; None trains on the ranking loss
            alone. Either way the pointwise loss is alone for a tenth of the steps.
        weight_power: Classes weigh their frequency to minus this.
        smoothing: Of the labels.
        prior_bias: Whether the output layer starts at the log priors.
        seed: Of the initial weights.
        batch: Rows in a batch.
        stratified: Whether each batch holds every class in its share.
        dropout: On the hidden units.
    """

    pointwise: str = "cross_entropy"
    ranking: str = ""
    ratio: float | None = None
    weight_power: float = 0.0
    smoothing: float = 0.0
    prior_bias: bool = True
    seed: int = 0
    batch: int = BATCH
    stratified: bool = False
    dropout: float = 0.0

    @property
    def group(self) -> tuple[int, bool, float]:
        """Recipes of one group see the same batches and can be trained together."""
        return self.batch, self.stratified, self.dropout


@dataclass(frozen=True)
class Arm:
    """Recipes whose mean prediction is read, with averaged weights or the last ones."""

    recipes: tuple[Recipe, ...]
    averaged: bool = False


def _alone(**settings: Any) -> Arm:
    return Arm((Recipe(**settings),))


def _members(*, averaged: bool = False, **settings: Any) -> Arm:
    members = tuple(Recipe(seed=seed, **settings) for seed in range(4))
    return Arm(members, averaged)


_MIX_1: dict[str, Any] = {"ranking": "smooth_ap", "ratio": 1.0}
_MIX_3: dict[str, Any] = {"ranking": "smooth_ap", "ratio": 3.0}

# The reference is `prior_bias`; all but `cross_entropy` start as it does.
BINARY = {
    "prior_bias": _alone(),
    "cross_entropy": _alone(prior_bias=False),
    "class_weights": _alone(weight_power=1.0),
    "sqrt_weights": _alone(weight_power=0.5),
    "focal": _alone(pointwise="focal"),
    "smooth_ap_mix_1": _alone(**_MIX_1),
    "smooth_ap_mix_3": _alone(**_MIX_3),
    "pauc_mix_1": _alone(ranking="pauc", ratio=1.0),
    "pauc_mix_3": _alone(ranking="pauc", ratio=3.0),
    "pairwise_auc_mix_1": _alone(ranking="pairwise_auc", ratio=1.0),
    "recall_mix_1": _alone(ranking="recall", ratio=1.0),
    "smooth_ap_pure": _alone(ranking="smooth_ap"),
    "recall_detached": _alone(ranking="recall_detached"),
    "pauc_trapezoid": _alone(ranking="pauc_trapezoid"),
    "label_smoothing": _alone(smoothing=0.05),
    "weight_average": Arm((Recipe(),), averaged=True),
    "stratified_batches": _alone(stratified=True),
    "batch_64": _alone(batch=64),
    "weight_average_smooth_ap_mix_1": Arm((Recipe(ranking="smooth_ap", ratio=1.0),), averaged=True),
    "weight_average_pauc_mix_1": Arm((Recipe(ranking="pauc", ratio=1.0),), averaged=True),
}
# What a linear model cannot show: its loss has one minimum and no hidden units.
HIDDEN = {
    "dropout": _alone(dropout=0.2),
    "ensemble_4": _members(),
    "ensemble_4_weight_average": _members(averaged=True),
    "ensemble_4_smooth_ap_mix_1": _members(**_MIX_1),
    "ensemble_4_weight_average_smooth_ap_mix_1": _members(averaged=True, **_MIX_1),
}
MULTICLASS = {
    "prior_bias": _alone(),
    "cross_entropy": _alone(prior_bias=False),
    "class_weights": _alone(weight_power=1.0),
    "sqrt_weights": _alone(weight_power=0.5),
    "focal": _alone(pointwise="focal"),
    "logit_adjusted": _alone(pointwise="logit_adjusted"),
    "ldam": _alone(pointwise="ldam"),
    "smooth_ap_mix_1": _alone(**_MIX_1),
    "weight_average": Arm((Recipe(),), averaged=True),
}
# What the linear and the middle model show well enough not to help.
UNHELPFUL = ("pairwise_auc_mix_1", "recall_detached", "pauc_trapezoid")
# What the large network has time for.
LARGE = (
    "prior_bias",
    "class_weights",
    "smooth_ap_mix_1",
    "pauc_mix_1",
    "label_smoothing",
    "weight_average",
    "weight_average_smooth_ap_mix_1",
    "weight_average_pauc_mix_1",
    "dropout",
    "ensemble_4",
    "ensemble_4_weight_average",
)


def arms_of(kind: str, model: str) -> dict[str, Arm]:
    """The arms that a model goes through on tasks of a kind."""
    if kind == "multiclass":
        return MULTICLASS if model == "linear" else {**MULTICLASS, "ensemble_4": _members()}
    if model == "linear":
        return BINARY
    every = {**BINARY, **HIDDEN}
    if model == "mlp128":
        return {name: every[name] for name in LARGE}
    return {name: every[name] for name in every if model != "mlp4" or name not in UNHELPFUL}


class Gradients:
    """Gradients of the losses of recipes `[A]` on the outputs of their networks.

    Args:
        recipes: Of one group.
        counts: Rows of each class among the fitted rows of each fold, `[F, classes]`.
        steps: Training steps, of which the first tenth are without ranking losses.
    """

    def __init__(self, recipes: Sequence[Recipe], counts: Tensor, steps: int) -> None:
        self.recipes, self.counts = recipes, counts
        self.warmup = round(WARMUP_SHARE * steps)
        powers = torch.tensor([recipe.weight_power for recipe in recipes])
        prior = counts / counts.sum(1, keepdim=True)
        weights = prior[:, None] ** -powers[:, None]  # [F, A, classes]
        self.weights = weights / (weights * prior[:, None]).sum(2, keepdim=True)
        self.smoothing = torch.tensor([recipe.smoothing for recipe in recipes])
        adjusted = torch.tensor([recipe.pointwise == "logit_adjusted" for recipe in recipes])
        self.shift = prior.log()[:, None] * adjusted[:, None]  # [F, A, classes]
        self.special = {
            name: [place for place, recipe in enumerate(recipes) if recipe.pointwise == name]
            for name in ("focal", "ldam")
        }
        self.mixes = [
            Mix(
                name,
                [place for place, recipe in enumerate(recipes) if recipe.ranking == name],
                self,
            )
            for name in dict.fromkeys(recipe.ranking for recipe in recipes)
            if name
        ]

    def __call__(self, outputs: Tensor, y: Tensor, step: int) -> Tensor:
        """The gradient `[L, F, A, B, C]` for outputs of that shape and classes `[F, B]`."""
        outputs = outputs.detach()
        gradient = self._cross_entropy(outputs, y)
        for name, places in self.special.items():
            if places:
                gradient[:, :, places] = self._of_special(name, outputs[:, :, places], y)
        if step >= self.warmup:
            for mix in self.mixes:
                gradient[:, :, mix.places] = mix(outputs, gradient, y)
        return gradient

    def _cross_entropy(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Of weighted cross-entropy, in closed form: weight * (probability - target) / B."""
        size = y.shape[1]
        chosen = F.one_hot(y, self.counts.shape[1]).to(outputs.dtype)  # [F, B, classes]
        weight = self.weights @ chosen.transpose(1, 2)  # [F, A, B]
        smoothing = self.smoothing.view(-1, 1, 1)
        target = chosen.unsqueeze(1) * (1 - smoothing) + smoothing / self.counts.shape[1]
        if outputs.shape[-1] == 1:
            gradient = outputs.sigmoid().sub_(target[..., 1:])
        else:
            gradient = (outputs + self.shift.unsqueeze(2)).softmax(-1).sub_(target)
        return gradient.mul_(weight.unsqueeze(-1) / size)

    def _of_special(self, name: str, outputs: Tensor, y: Tensor) -> Tensor:
        size = y.shape[1]
        z = outputs.clone().requires_grad_()
        if outputs.shape[-1] == 1:
            targets = y[:, None, :, None].expand(outputs.shape).to(outputs.dtype)
            loss = sigmoid_focal_loss(z, targets, alpha=None, gamma=2.0, reduction="sum")
        elif name == "focal":
            rows = y[:, None].expand(outputs.shape[:-1]).reshape(-1)
            loss = softmax_focal_loss(z.flatten(0, -2), rows, gamma=2.0, reduction="sum")
        else:
            loss = z.sum() * 0
            for fold, counts in enumerate(self.counts):
                of_fold = z[:, fold]
                rows = y[fold].expand(of_fold.shape[:-1]).reshape(-1)
                flat = of_fold.reshape(-1, of_fold.shape[-1])
                loss = loss + ldam_loss(flat, rows, counts, scale=1.0, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, z)
        return gradient / size


class Mix:
    """One ranking loss for several recipes, scaled as `MixedLoss` scales it for each network.

    Every network is a column of the loss (in a multiclass task, C of them, the log-odds of its
    classes); columns share nothing but the number of their rows.
    """

    def __init__(self, name: str, places: list[int], whole: Gradients) -> None:
        self.name, self.places = name, places
        ratios = [whole.recipes[place].ratio for place in places]
        self.is_alone = torch.tensor([ratio is None for ratio in ratios])
        self.ratio = torch.tensor([ratio or 1.0 for ratio in ratios], dtype=torch.float64)
        self.loss: RankingLoss | None = None
        self.means: Tensor | None = None  # m_p and m_r, [2, L, F, n]
        self.k = self.ratio

    def __call__(self, outputs: Tensor, gradient: Tensor, y: Tensor) -> Tensor:
        """The gradients of the mixed losses `[L, F, n, B, C]`; `gradient` is the pointwise one."""
        pointwise = gradient[:, :, self.places]
        z = outputs[:, :, self.places].requires_grad_()
        classes = z.shape[-1]
        scores = z if classes == 1 else log_odds(z)
        labels = (
            y[:, None, :, None] == torch.arange(classes) if classes > 1 else y[:, None, :, None]
        )
        targets = labels.expand(scores.shape).long()
        columns = scores.movedim(3, 0).flatten(1)
        if self.loss is None:
            self.loss = RANKINGS[self.name](columns.shape[1])
        loss = self.loss(columns, targets.movedim(3, 0).flatten(1)) / classes
        (ranking,) = torch.autograd.grad(loss, z)
        return self.mixed(pointwise, ranking)

    def mixed(self, pointwise: Tensor, ranking: Tensor) -> Tensor:
        """Pointwise gradient + k * ranking gradient, with k anew for each network."""
        squares = torch.stack([g.square().sum((-2, -1)) for g in (pointwise, ranking)]).double()
        if self.means is None:
            self.means, self.k = torch.zeros_like(squares), self.ratio.expand(squares.shape[1:])
        moved = squares.lerp(self.means, DECAY).where(self.means > 0, squares)
        k = self.ratio * (moved[0] / moved[1]).sqrt()
        k = k.clamp(self.ratio / BOUND, self.ratio * BOUND)
        usable = (squares.isfinite() & (squares > 0)).all(0)
        self.means = torch.where(usable, moved, self.means)
        self.k = torch.where(usable, k, self.k)
        sum_of_both = pointwise + self.k.to(ranking)[..., None, None] * ranking
        return torch.where(self.is_alone[:, None, None], ranking, sum_of_both)
