"""The path under which release 0.6.0 had the focal losses."""

from imbalanced_losses.losses.focal import SigmoidFocalLoss, SoftmaxFocalLoss

__all__ = ["SigmoidFocalLoss", "SoftmaxFocalLoss"]
