"""The losses: one file each."""

from imbalanced_losses.losses.asymmetric import AsymmetricLoss
from imbalanced_losses.losses.focal import SigmoidFocalLoss, SoftmaxFocalLoss
from imbalanced_losses.losses.ldam import LDAMLoss
from imbalanced_losses.losses.logit_adjusted import LogitAdjustedLoss, adjust_logits, choose_tau
from imbalanced_losses.losses.operating_point import (
    PrecisionAtRecallLoss,
    RecallAtPrecisionLoss,
    TPRAtFPRLoss,
)
from imbalanced_losses.losses.pairwise_auc import PairwiseAUCLoss
from imbalanced_losses.losses.pauc_at_budget import PAUCAtBudgetLoss
from imbalanced_losses.losses.recall_at_quantile import RecallAtQuantileLoss
from imbalanced_losses.losses.smooth_ap import SmoothAPLoss

__all__ = [
    "AsymmetricLoss",
    "LDAMLoss",
    "LogitAdjustedLoss",
    "PAUCAtBudgetLoss",
    "PairwiseAUCLoss",
    "PrecisionAtRecallLoss",
    "RecallAtPrecisionLoss",
    "RecallAtQuantileLoss",
    "SigmoidFocalLoss",
    "SmoothAPLoss",
    "SoftmaxFocalLoss",
    "TPRAtFPRLoss",
    "adjust_logits",
    "choose_tau",
]
