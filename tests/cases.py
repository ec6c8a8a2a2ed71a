"""Every public loss with representative settings: what the contract suite runs over."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

import reference
from eight_lines import PlainAUCLoss
from imbalanced_losses import (
    AsymmetricLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    LossWarmupWrapper,
    PairwiseAUCLoss,
    PAUCAtBudgetLoss,
    PrecisionAtRecallLoss,
    RecallAtPrecisionLoss,
    RecallAtQuantileLoss,
    SigmoidFocalLoss,
    SmoothAPLoss,
    SoftmaxFocalLoss,
    TPRAtFPRLoss,
    functional,
)
from imbalanced_losses.losses._ranking import RankingLoss
from imbalanced_losses.losses.operating_point import OperatingPointLoss

IGNORED = -100
RANKING = (SmoothAPLoss, RecallAtQuantileLoss, PAUCAtBudgetLoss, PairwiseAUCLoss)
# Of each ranking loss its statistic in the oracle, and its function of one batch.
STATISTICS = {
    SmoothAPLoss: reference.smooth_ap,
    RecallAtQuantileLoss: reference.recall_at_quantile,
    PAUCAtBudgetLoss: reference.pauc_at_budget,
    PairwiseAUCLoss: reference.pairwise_auc,
}
FUNCTIONS = {
    SmoothAPLoss: functional.smooth_ap_loss,
    RecallAtQuantileLoss: functional.recall_at_quantile_loss,
    PAUCAtBudgetLoss: functional.pauc_at_budget_loss,
    PairwiseAUCLoss: functional.pairwise_auc_loss,
}


def permanent_mix(reduction="mean", **settings) -> nn.Module:
    """Half focal loss, half Smooth-AP, told once that training has begun."""
    loss = LossWarmupWrapper(
        SoftmaxFocalLoss(reduction=reduction),
        SmoothAPLoss(3, reduction=reduction, **settings),
        temp_start=0.2,
        temp_decay_steps=10,
        final_main_weight=0.5,
    )
    loss.on_train_batch_start(0)
    return loss


@dataclass(frozen=True)
class Case:
    """One loss, its settings, and the form of targets it is tested with."""

    loss: Callable[..., nn.Module]
    form: str  # index, dense, probabilities, binary, multi_hot or soft
    settings: dict[str, object] = field(default_factory=dict)

    @property
    def ranks(self) -> bool:
        return isinstance(self.loss, type) and issubclass(self.loss, RankingLoss)

    @property
    def subsamples(self) -> bool:
        return self.ranks and not issubclass(self.loss, OperatingPointLoss)

    @property
    def mixes(self) -> bool:
        return self.loss is permanent_mix

    @property
    def classes(self) -> int:
        return 1 if self.form == "binary" else 3

    @property
    def ignores(self) -> bool:
        return self.form != "probabilities"

    def build(self, **changes: object) -> nn.Module:
        """The loss, in the middle of a run if it keeps rows of earlier batches."""
        sizes = {"num_classes": self.classes, "queue_size": 20} if self.ranks else {}
        return self.loss(**{**sizes, **self.settings, **changes})

    def batch(self, seed: int = 0, rows: int = 16, dtype=torch.float32) -> tuple[Tensor, Tensor]:
        """Logits and targets; from 12 rows on every class has a positive and a negative."""
        generator = torch.Generator().manual_seed(seed)
        shape = (rows, self.classes, *([2] if self.form == "dense" else []))
        logits = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        classes = torch.arange(rows) % 4 % self.classes
        some = torch.rand(shape, generator=generator)
        targets = {
            "index": classes,
            "dense": torch.stack((classes, classes.flip(0)), 1),
            "probabilities": some.softmax(1),
            "binary": (torch.arange(rows) % 4 == 1).long(),
            "multi_hot": (torch.arange(rows)[:, None] % 5 == torch.arange(3)).long(),
            "soft": some,
        }[self.form]
        return logits, targets

    def midway(self, **changes: object) -> nn.Module:
        """The loss after two batches."""
        loss = self.build(**changes)
        for seed in (100, 101):
            loss(*self.batch(seed, rows=14))
        return loss


CASES = {
    "softmax_focal": Case(SoftmaxFocalLoss, "index", {"alpha": [0.25, 0.5, 2.0]}),
    "softmax_focal-dense": Case(
        SoftmaxFocalLoss, "dense", {"gamma": 0.5, "label_smoothing": 0.1, "alpha": [1.0, 2.0, 4.0]}
    ),
    "softmax_focal-probabilities": Case(SoftmaxFocalLoss, "probabilities", {"gamma": 1.0}),
    "softmax_focal-mean_positive": Case(SoftmaxFocalLoss, "index", {"reduction": "mean_positive"}),
    "sigmoid_focal": Case(SigmoidFocalLoss, "multi_hot", {"ignore_index": IGNORED}),
    "sigmoid_focal-soft": Case(
        SigmoidFocalLoss, "soft", {"ignore_index": IGNORED, "gamma": 0.5, "alpha": [0.2, 0.5, 0.9]}
    ),
    "logit_adjusted": Case(LogitAdjustedLoss, "index", {"class_counts": [50, 9, 1], "tau": 1.5}),
    "logit_adjusted-dense": Case(
        LogitAdjustedLoss, "dense", {"class_counts": [50, 9, 1], "label_smoothing": 0.1}
    ),
    "ldam": Case(
        LDAMLoss, "index", {"class_counts": [50, 9, 1], "scale": 4.0, "weight": [1.0, 2.0, 4.0]}
    ),
    "ldam-probabilities": Case(
        LDAMLoss, "probabilities", {"class_counts": [50, 9, 1], "scale": 2.0}
    ),
    "asymmetric": Case(AsymmetricLoss, "multi_hot", {"ignore_index": IGNORED}),
    "asymmetric-soft": Case(
        AsymmetricLoss, "soft", {"ignore_index": IGNORED, "gamma_neg": 0.5, "clip": 0.0}
    ),
    "smooth_ap": Case(SmoothAPLoss, "index", {"temperature": 0.1}),
    "smooth_ap-log_odds": Case(SmoothAPLoss, "index", {"temperature": 0.1, "scores": "log_odds"}),
    "smooth_ap-binary": Case(SmoothAPLoss, "binary", {"temperature": 0.1}),
    "smooth_ap-std": Case(SmoothAPLoss, "index", {"temperature": 0.2, "tau_scale": "std"}),
    "smooth_ap-multi_hot": Case(SmoothAPLoss, "multi_hot", {"temperature": 0.1}),
    "recall": Case(RecallAtQuantileLoss, "index", {"quantile": 0.3, "temperature": 0.1}),
    "recall-multi_hot": Case(
        RecallAtQuantileLoss,
        "multi_hot",
        {"quantile": 0.25, "temperature": 0.1, "quantile_interpolation": "linear"},
    ),
    "recall-moving": Case(
        RecallAtQuantileLoss,
        "index",
        {"quantile": 0.3, "temperature": 0.2, "tau_scale": "iqr", "threshold_gradient": True},
    ),
    "pauc-trapezoid": Case(PAUCAtBudgetLoss, "index", {"beta": 0.5, "n_knots": 3}),
    "pauc-trapezoid-moving": Case(
        PAUCAtBudgetLoss, "multi_hot", {"beta": 0.5, "n_knots": 3, "threshold_gradient": True}
    ),
    "pauc-population-log_odds": Case(
        PAUCAtBudgetLoss,
        "index",
        {"beta": 0.5, "budget_basis": "population", "scores": "log_odds", "temperature": 0.5},
    ),
    "pauc-pairwise": Case(
        PAUCAtBudgetLoss,
        "binary",
        {"beta": 0.5, "surrogate": "pairwise", "tau_scale": "band", "pos_numerator": "live"},
    ),
    "pauc-pairwise-multi_hot": Case(
        PAUCAtBudgetLoss, "multi_hot", {"alpha": 0.1, "beta": 0.7, "surrogate": "pairwise"}
    ),
    "pairwise_auc": Case(PairwiseAUCLoss, "index", {"margin": 0.7}),
    "pairwise_auc-logistic": Case(
        PairwiseAUCLoss, "multi_hot", {"surrogate": "logistic", "temperature": 0.3}
    ),
    "recall_at_precision": Case(RecallAtPrecisionLoss, "index", {"precision": 0.6}),
    "precision_at_recall": Case(
        PrecisionAtRecallLoss, "multi_hot", {"recall": 0.7, "surrogate": "hinge"}
    ),
    "tpr_at_fpr": Case(TPRAtFPRLoss, "binary", {"fpr": 0.2, "temperature": 0.5}),
    "eight_lines": Case(PlainAUCLoss, "index", {"temperature": 0.3}),
    "eight_lines-multi_hot": Case(PlainAUCLoss, "multi_hot", {"temperature": 0.3}),
    "warmup": Case(permanent_mix, "index", {"queue_size": 20}),
}


def every(**wanted: object) -> pytest.MarkDecorator:
    """Parametrise a test over the cases, or over those with these properties."""
    chosen = {
        name: case
        for name, case in CASES.items()
        if all(getattr(case, key) == value for key, value in wanted.items())
    }
    return pytest.mark.parametrize("case", chosen.values(), ids=chosen)


def step(loss: nn.Module, logits: Tensor, targets: Tensor, **keywords: object):
    """Value and gradient of one call."""
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, targets, **keywords)
    value.sum().backward()
    return value.detach(), logits.grad


def state(loss: nn.Module) -> dict[str, Tensor]:
    """A copy of all that a checkpoint would hold."""
    return copy.deepcopy(loss.state_dict())


def remembered(loss: nn.Module) -> list[object]:
    """What the ranking losses in a module hold of earlier batches, as numbers."""
    ranking = [part for part in loss.modules() if isinstance(part, RankingLoss)]
    return copy.deepcopy([(part.queue.rows, part.own) for part in ranking])


def assert_same(actual, expected) -> None:
    """Equal bit for bit; NaN equals NaN."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)
