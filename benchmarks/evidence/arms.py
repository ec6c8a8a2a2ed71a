"""What is compared: how networks are trained, and how their predictions are read.

A `Recipe` trains one network in each fold and at each learning rate. An `Arm` reads one or several
of them: a network, the average of its weights, or the mean prediction of several.
"""

from dataclasses import dataclass
from typing import Any

BATCH = 256


@dataclass(frozen=True)
class Recipe:
    """How one network is trained.

    Attributes:
        pointwise: "cross_entropy", "focal", "logit_adjusted" or "ldam".
        ranking: A name in `gradients.RANKINGS`, or "".
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


def _alone(*, averaged: bool = False, **settings: Any) -> Arm:
    return Arm((Recipe(**settings),), averaged)


def _members(*, averaged: bool = False, **settings: Any) -> Arm:
    members = tuple(Recipe(seed=seed, **settings) for seed in range(4))
    return Arm(members, averaged)


_MIX_1: dict[str, Any] = {"ranking": "smooth_ap", "ratio": 1.0}
_MIX_3: dict[str, Any] = {"ranking": "smooth_ap", "ratio": 3.0}

# The reference is `prior_bias`; all but `cross_entropy` start as it does.
_POINTWISE = {
    "prior_bias": _alone(),
    "cross_entropy": _alone(prior_bias=False),
    "class_weights": _alone(weight_power=1.0),
    "sqrt_weights": _alone(weight_power=0.5),
    "focal": _alone(pointwise="focal"),
}
BINARY = _POINTWISE | {
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
    "weight_average": _alone(averaged=True),
    "stratified_batches": _alone(stratified=True),
    "batch_64": _alone(batch=64),
    "weight_average_smooth_ap_mix_1": _alone(averaged=True, **_MIX_1),
    "weight_average_pauc_mix_1": _alone(averaged=True, ranking="pauc", ratio=1.0),
}
# What a linear model cannot show: its loss has one minimum and no hidden units.
HIDDEN = {
    "dropout": _alone(dropout=0.2),
    "ensemble_4": _members(),
    "ensemble_4_weight_average": _members(averaged=True),
    "ensemble_4_smooth_ap_mix_1": _members(**_MIX_1),
    "ensemble_4_weight_average_smooth_ap_mix_1": _members(averaged=True, **_MIX_1),
}
MULTICLASS = _POINTWISE | {
    "logit_adjusted": _alone(pointwise="logit_adjusted"),
    "ldam": _alone(pointwise="ldam"),
    "smooth_ap_mix_1": _alone(**_MIX_1),
    "weight_average": _alone(averaged=True),
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
    "ensemble_4_smooth_ap_mix_1",
    "ensemble_4_weight_average_smooth_ap_mix_1",
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
