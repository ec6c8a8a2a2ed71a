"""PyTorch losses for problems in which one class is rare."""

from typing import TYPE_CHECKING

from imbalanced_losses import calibration, functional, metrics, recipes, thresholds
from imbalanced_losses.class_weights import class_weights, init_prior_bias, pos_weight
from imbalanced_losses.distributed import all_gather_no_grad, all_gather_with_grad
from imbalanced_losses.losses import (
    AsymmetricLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    PairwiseAUCLoss,
    PAUCAtBudgetLoss,
    PrecisionAtRecallLoss,
    RecallAtPrecisionLoss,
    RecallAtQuantileLoss,
    SigmoidFocalLoss,
    SmoothAPLoss,
    SoftmaxFocalLoss,
    TPRAtFPRLoss,
    adjust_logits,
    choose_tau,
)
from imbalanced_losses.mixing import MixedLoss
from imbalanced_losses.samplers import ClassBalancedSampler, StratifiedBatchSampler
from imbalanced_losses.warmup import LossWarmupWrapper

if TYPE_CHECKING:
    from imbalanced_losses.estimator import RareClassClassifier as RareClassClassifier

__version__ = "1.0.0.dev0"

__all__ = [
    "AsymmetricLoss",
    "ClassBalancedSampler",
    "LDAMLoss",
    "LogitAdjustedLoss",
    "LossWarmupWrapper",
    "MixedLoss",
    "PAUCAtBudgetLoss",
    "PairwiseAUCLoss",
    "PrecisionAtRecallLoss",
    "RecallAtPrecisionLoss",
    "RecallAtQuantileLoss",
    "SigmoidFocalLoss",
    "SmoothAPLoss",
    "SoftmaxFocalLoss",
    "StratifiedBatchSampler",
    "TPRAtFPRLoss",
    "adjust_logits",
    "all_gather_no_grad",
    "all_gather_with_grad",
    "calibration",
    "choose_tau",
    "class_weights",
    "functional",
    "init_prior_bias",
    "metrics",
    "pos_weight",
    "recipes",
    "thresholds",
]


# Not among the names above: it needs an extra, and `import *` has to do without.
def __getattr__(name: str) -> object:
    if name == "RareClassClassifier":
        from imbalanced_losses.estimator import RareClassClassifier

        return RareClassClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), "RareClassClassifier"]
