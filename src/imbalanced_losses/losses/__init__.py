"""The losses: one file each."""

from imbalanced_losses.losses.focal import SigmoidFocalLoss, SoftmaxFocalLoss
from imbalanced_losses.losses.pauc_at_budget import PAUCAtBudgetLoss
from imbalanced_losses.losses.recall_at_quantile import RecallAtQuantileLoss
from imbalanced_losses.losses.smooth_ap import SmoothAPLoss

__all__ = [
    "PAUCAtBudgetLoss",
    "RecallAtQuantileLoss",
    "SigmoidFocalLoss",
    "SmoothAPLoss",
    "SoftmaxFocalLoss",
]
