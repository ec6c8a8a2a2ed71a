"""The losses that the demo compares, each built from the training labels and the length of the run.

Temperatures, queue sizes, the mix weight and the pAUC budget were chosen on validation rows (as
`--held-out validation` draws them) of other seeds, never by a test score. All seeds draw from one
small data set, though, so a row that is tested in one may have been validated on in another.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from imbalanced_losses import (
    LossWarmupWrapper,
    PAUCAtBudgetLoss,
    SigmoidFocalLoss,
    SmoothAPLoss,
    SoftmaxFocalLoss,
    class_weights,
)
from imbalanced_losses import pos_weight as positive_weight

from .data import CLASSES


@dataclass(frozen=True)
class Plan:
    """What a loss may know before training starts."""

    targets: Tensor
    """Training labels, int64 `[N]`."""
    epochs: int
    steps_per_epoch: int


@dataclass(frozen=True)
class Strategy:
    """One way to train; everything that is not named here is the same for all of them."""

    name: str
    short: str
    color: str
    build: Callable[[Plan], nn.Module]
    prior_bias: bool = False


# The Okabe-Ito palette, which stays readable with every common form of colour blindness.
# A loss and its binary counterpart share a colour.
GREY, BLUE, ORANGE, GREEN = "#4d4d4d", "#0072B2", "#E69F00", "#009E73"
VERMILION, PURPLE, SKY = "#D55E00", "#CC79A7", "#56B4E9"

BASELINE = "cross-entropy"


def _scheduled(
    plan: Plan,
    warmup_loss: nn.Module,
    main_loss: nn.Module,
    *,
    temperatures: tuple[float, float],
    final_main_weight: float = 1.0,
) -> LossWarmupWrapper:
    """40 % of the epochs warm up, 10 % blend, the rest belongs to the main loss."""
    warmup, blend = max(1, plan.epochs * 2 // 5), max(1, plan.epochs // 10)
    return LossWarmupWrapper(
        warmup_loss,
        main_loss,
        warmup_epochs=warmup,
        blend_epochs=blend,
        temp_start=temperatures[0],
        temp_end=temperatures[1],
        temp_decay_steps=max(1, (plan.epochs - warmup) * plan.steps_per_epoch),
        final_main_weight=final_main_weight,
    )


def _weighted_cross_entropy(plan: Plan) -> nn.Module:
    return nn.CrossEntropyLoss(class_weights(plan.targets, method="balanced", normalize="mean"))


def _weighted_focal(plan: Plan) -> nn.Module:
    weights = class_weights(plan.targets, method="balanced", normalize="mean")
    return SoftmaxFocalLoss(alpha=weights, gamma=2.0)


def _smooth_ap(plan: Plan) -> nn.Module:
    return _scheduled(
        plan,
        nn.CrossEntropyLoss(),
        SmoothAPLoss(CLASSES, queue_size=128, scores="log_odds"),
        temperatures=(1.0, 0.5),
    )


def _mix(plan: Plan) -> nn.Module:
    return _scheduled(
        plan,
        nn.CrossEntropyLoss(),
        SmoothAPLoss(CLASSES, queue_size=128, scores="log_odds"),
        temperatures=(1.0, 0.5),
        final_main_weight=0.3,
    )


def _smooth_ap_binary(plan: Plan) -> nn.Module:
    return _scheduled(
        plan, nn.BCEWithLogitsLoss(), SmoothAPLoss(1, queue_size=1024), temperatures=(2.0, 1.0)
    )


def _pauc_binary(plan: Plan) -> nn.Module:
    loss = PAUCAtBudgetLoss(1, beta=0.02, surrogate="pairwise", queue_size=1024)
    return _scheduled(plan, nn.BCEWithLogitsLoss(), loss, temperatures=(2.0, 1.0))


LONG_TAIL = (
    Strategy(BASELINE, "CE", GREY, lambda plan: nn.CrossEntropyLoss()),
    Strategy("CE + prior bias", "CE+prior", BLUE, lambda plan: nn.CrossEntropyLoss(), True),
    Strategy("class-weighted CE", "weighted", ORANGE, _weighted_cross_entropy),
    Strategy("class-weighted focal", "focal", GREEN, _weighted_focal),
    Strategy("Smooth-AP after warm-up", "Smooth-AP", VERMILION, _smooth_ap),
    Strategy("CE and Smooth-AP mixed", "mix", PURPLE, _mix),
)

RARE_DIGIT = (
    Strategy(BASELINE, "BCE", GREY, lambda plan: nn.BCEWithLogitsLoss()),
    Strategy("BCE + prior bias", "BCE+prior", BLUE, lambda plan: nn.BCEWithLogitsLoss(), True),
    Strategy(
        "positive-weighted BCE",
        "weighted",
        ORANGE,
        lambda plan: nn.BCEWithLogitsLoss(pos_weight=positive_weight(plan.targets[:, None])[0]),
    ),
    Strategy("sigmoid focal", "focal", GREEN, lambda plan: SigmoidFocalLoss()),
    Strategy("Smooth-AP after warm-up", "Smooth-AP", VERMILION, _smooth_ap_binary),
    Strategy("pAUC after warm-up", "pAUC", SKY, _pauc_binary),
)
