"""Gradients of every recipe's loss on the outputs of stacked networks."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.evidence.arms import Recipe
from benchmarks.evidence.goals import log_odds
from imbalanced_losses import (
    PairwiseAUCLoss,
    PAUCAtBudgetLoss,
    RecallAtQuantileLoss,
    SmoothAPLoss,
)
from imbalanced_losses.functional import ldam_loss, sigmoid_focal_loss, softmax_focal_loss
from imbalanced_losses.losses._ranking import RankingLoss

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
