"""Constraints on the rates at the threshold 0 of the logits, and their Lagrangian."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from imbalanced_losses import _checks
from imbalanced_losses._pool.pool import Pool
from imbalanced_losses.losses._per_class import PerClass, Statistic, shares_of

_LN_2 = math.log(2)


@dataclass(frozen=True, kw_only=True)
class OperatingPoint(Statistic):
    """The constraint `a * missed + b * alarmed <= allowed` on two rates, and what is minimised.

    `missed` is a share of the positives and `alarmed` one of the negatives.
    """

    surrogate: str = "logistic"
    dual_rate: float = 0.02
    max_multiplier: float = 1000.0
    # Whether the missed positives are minimised, or the alarmed negatives.
    minimises_missed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _checks.settle(
            self,
            dual_rate=_checks.number("dual_rate", self.dual_rate, at_least=0),
            max_multiplier=_checks.number("max_multiplier", self.max_multiplier, at_least=1),
        )
        _checks.one_of("surrogate", self.surrogate, ("logistic", "hinge"))

    @property
    def allowed(self) -> float:
        """The right side of the constraint."""
        raise NotImplementedError

    def weights(self, ratio: Tensor) -> tuple[Tensor, Tensor]:
        """`a` and `b` `[C]`, where there are `ratio` negatives for each positive."""
        raise NotImplementedError

    def reached(self, missed: Tensor, alarmed: Tensor, ratio: Tensor) -> Tensor:
        """The quantity that was asked for, `[C]`."""
        raise NotImplementedError

    def use(self, reached: Tensor) -> Tensor:
        """The share of what is allowed that is used up, `[C]`; 1 where it just holds."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class AtPrecision(OperatingPoint):
    """True positives >= precision * all alarms, divided by the positives."""

    precision: float

    def __post_init__(self) -> None:
        super().__post_init__()
        precision = _checks.number("precision", self.precision, above=0, below=1)
        _checks.settle(self, precision=precision)

    @property
    def allowed(self) -> float:
        return 1.0

    def weights(self, ratio: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(ratio), ratio * (self.precision / (1 - self.precision))

    def reached(self, missed: Tensor, alarmed: Tensor, ratio: Tensor) -> Tensor:
        found = 1 - missed
        return found / (found + ratio * alarmed)  # NaN without an alarm

    def use(self, reached: Tensor) -> Tensor:
        # Without an alarm none is wrong: the multiplier falls, or it would stay there for good.
        return (1 - reached.nan_to_num(1.0)) / (1 - self.precision)


@dataclass(frozen=True, kw_only=True)
class AtRecall(OperatingPoint):
    """At most 1 - recall of the positives are missed."""

    recall: float
    minimises_missed: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.settle(self, recall=_checks.number("recall", self.recall, above=0, below=1))

    @property
    def allowed(self) -> float:
        return 1 - self.recall

    def weights(self, ratio: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(ratio), torch.zeros_like(ratio)

    def reached(self, missed: Tensor, alarmed: Tensor, ratio: Tensor) -> Tensor:
        return 1 - missed

    def use(self, reached: Tensor) -> Tensor:
        return (1 - reached) / (1 - self.recall)


@dataclass(frozen=True, kw_only=True)
class AtFPR(OperatingPoint):
    """At most a share `fpr` of the negatives raises an alarm."""

    fpr: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.settle(self, fpr=_checks.number("fpr", self.fpr, above=0, below=1))

    @property
    def allowed(self) -> float:
        return self.fpr

    def weights(self, ratio: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(ratio), torch.ones_like(ratio)

    def reached(self, missed: Tensor, alarmed: Tensor, ratio: Tensor) -> Tensor:
        return alarmed

    def use(self, reached: Tensor) -> Tensor:
        return reached / self.fpr


class Lagrangian(Statistic):
    """The Lagrangian of an operating point at these multipliers `[C]`.

    Its diagnostics are the quantity reached, and the classes for which it is news.
    """

    def __init__(self, point: OperatingPoint, multipliers: Tensor) -> None:
        self.point, self.multipliers = point, multipliers

    def __call__(self, pool: Pool, temperature: Tensor) -> PerClass:
        point = self.point
        scores = pool.scores.masked_fill(~pool.valid, 0.0)
        margin = scores / temperature
        if point.surrogate == "hinge":
            miss, alarm = (1 - margin).clamp(min=0), (1 + margin).clamp(min=0)
        else:
            miss, alarm = -F.logsigmoid(margin) / _LN_2, -F.logsigmoid(-margin) / _LN_2
        positives = pool.positive * pool.weight
        negatives = pool.negative.to(scores.dtype)
        # Only rows drawn as the population is can tell of a rate in it.
        iid_positives, some = shares_of(positives * pool.iid)
        iid_negatives, valid = shares_of(negatives * pool.iid, some)
        objective = (
            shares_of(positives)[0] * miss
            if point.minimises_missed
            else shares_of(negatives)[0] * alarm
        ).sum(1)
        ratio = (negatives * pool.iid).sum(1) / (pool.positive & pool.iid).sum(1).clamp(min=1)
        a, b = point.weights(ratio)

        used = a * (iid_positives * miss).sum(1) + b * (iid_negatives * alarm).sum(1)
        multipliers = self.multipliers.to(scores, copy=True)
        total = 1 + multipliers * (a + b)
        loss = (objective + multipliers * (used - point.allowed)) / total

        missed = (iid_positives * (scores <= 0)).sum(1)
        alarmed = (iid_negatives * (scores > 0)).sum(1)
        is_news = valid & (pool.valid & pool.live).any(1)
        if pool.nonfinite is not None:
            is_news = is_news & ~pool.nonfinite
        diagnostics = point.reached(missed, alarmed, ratio).detach(), is_news
        return PerClass(loss, valid, diagnostics=diagnostics)
