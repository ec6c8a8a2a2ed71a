"""A new ranking loss as CONTRIBUTING.md has it: a statistic without a slope, and a constructor."""

from dataclasses import dataclass

import torch

from imbalanced_losses.losses._per_class import PerClass, Statistic
from imbalanced_losses.losses._ranking import RankingLoss


@dataclass(frozen=True)
class PlainAUC(Statistic):
    def __call__(self, pool, temperature):
        steps = ((pool.scores.unsqueeze(2) - pool.scores.unsqueeze(1)) / temperature).sigmoid()
        pairs = pool.positive.unsqueeze(2) & pool.negative.unsqueeze(1)
        weight = pairs * pool.weight.unsqueeze(1)
        mass = weight.sum((1, 2))
        return PerClass(1 - (weight * steps).sum((1, 2)) / mass.where(mass > 0, 1), mass > 0)


class PlainAUCLoss(RankingLoss):
    def __init__(self, num_classes, queue_size=1024, **settings):
        super().__init__(PlainAUC(), num_classes, queue_size=queue_size, **settings)


def plain_auc(scores, positive, negative, weight, temperature):
    """The oracle, for one class: plain lists of numbers."""
    terms, mass = 0.0, 0.0
    for score, is_positive, share in zip(scores, positive, weight, strict=True):
        for other, is_negative in zip(scores, negative, strict=True):
            if is_positive and is_negative:
                terms += share * torch.sigmoid((score - other) / temperature).item()
                mass += share
    return 1 - terms / mass if mass else None
