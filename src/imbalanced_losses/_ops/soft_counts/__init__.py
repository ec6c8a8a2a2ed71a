"""Soft counts: sums of logistic steps between two lists of scores, near and far."""

from imbalanced_losses._ops.soft_counts.blocks import soft_counts

__all__ = ["soft_counts"]
