"""The losses as pure functions of one batch, with their formulas and sources."""

from imbalanced_losses.losses.asymmetric import asymmetric_loss
from imbalanced_losses.losses.focal import sigmoid_focal_loss, softmax_focal_loss
from imbalanced_losses.losses.ldam import ldam_loss
from imbalanced_losses.losses.logit_adjusted import logit_adjusted_loss
from imbalanced_losses.losses.pairwise_auc import pairwise_auc_loss
from imbalanced_losses.losses.pauc_at_budget import pauc_at_budget_loss
from imbalanced_losses.losses.recall_at_quantile import recall_at_quantile_loss
from imbalanced_losses.losses.smooth_ap import smooth_ap_loss

__all__ = [
    "asymmetric_loss",
    "ldam_loss",
    "logit_adjusted_loss",
    "pairwise_auc_loss",
    "pauc_at_budget_loss",
    "recall_at_quantile_loss",
    "sigmoid_focal_loss",
    "smooth_ap_loss",
    "softmax_focal_loss",
]
