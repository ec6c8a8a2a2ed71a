"""Losses that keep a constraint at the threshold 0 of the logits, with multipliers that learn."""

import math
from typing import Any

import torch
from torch import Tensor

from imbalanced_losses.losses._module import Setting
from imbalanced_losses.losses._operating_point import (
    AtFPR,
    AtPrecision,
    AtRecall,
    Lagrangian,
    OperatingPoint,
)
from imbalanced_losses.losses._ranking import RankingLoss

__all__ = ["PrecisionAtRecallLoss", "RecallAtPrecisionLoss", "TPRAtFPRLoss"]


class OperatingPointLoss(RankingLoss):
    """A Lagrangian over the live batch and a memory queue, whose multipliers learn as it is called.

    What the three losses share. Over the pool's rows of one class, in logits s, let

        missed = mean over the positives of l(s_i), alarmed = mean over the negatives of l(-s_j),
        l(s) = log2(1 + exp(-s / tau)) ("logistic") or max(0, 1 - s / tau) ("hinge"),

    which bound from above the shares of positives at or below the threshold 0, and of negatives
    above it. Each loss is

        (objective + lambda (a missed + b alarmed - allowed)) / (1 + lambda (a + b)),

    the Lagrangian of "minimise the objective while a missed + b alarmed <= allowed" at the
    multiplier lambda of the class, divided by the sum of its weights, which keeps the size of the
    gradient whatever lambda is. Lambda carries no gradient. After the loss is computed,

        lambda <- lambda exp(dual_rate * clip(use - 1, -1, 1)),

    within [1 / max_multiplier, max_multiplier] and from 1, where the use is the share of wrong
    alarms / (1 - precision), of missed positives / (1 - recall), or of alarmed negatives / fpr: the
    shares themselves and not their bounds. The bounds can be out of reach where the shares are not,
    as they are for a rare class. Lambda rises while the constraint is broken and falls while more
    than needed is kept, so that training settles where it is just kept. `multipliers` and `reached`
    tell where that is.

    Sources: Eban, Schain, Mackey, Gordon, Rifkin and Elidan, "Scalable Learning of Non-Decomposable
    Objectives", AISTATS 2017, https://arxiv.org/abs/1608.04802, for the bounds and the Lagrangian;
    Cotter, Jiang and Sridharan, "Two-Player Games for Efficient Non-Convex Constrained
    Optimization", ALT 2019, https://arxiv.org/abs/1804.06500, for multipliers that follow the
    shares themselves. The step is one in the logarithm of lambda, so that one rate serves
    constraints of every scale.

    Lambda moves in training alone: not in `eval()`, not under `frozen_queue()`, not for a class
    that is invalid, has no live row or has a score that is not finite. It is part of `state_dict`,
    and the same on all ranks, which read one pool.

    A class is valid with a positive that has weight and a negative, among rows of `iid_mask`: these
    alone count in the constraint, all rows in the objective. `sample_weight` weighs the positives.
    There is no `max_pool_size`: a pool in which rare classes have a quota tells nothing of
    precision, and the cost is O(M) anyway.

    Args:
        point: The operating point. Of each loss the arguments `surrogate`, `"logistic"` or
            `"hinge"`; `dual_rate`, the step of the logarithm of lambda, at least 0; and
            `max_multiplier`, at least 1.
        num_classes: C; 1 for binary problems.
        queue_size: Rows of earlier batches in the pool, without gradient; 0 for none. The pool
            should hold some dozen positives of each class.
        temperature: tau > 0, the width of the bounds in units of the score. Also a property.
        reduction: `"mean"` or `"sum"` over the valid classes, or `"none"`.
        ignore_index: Rows, or cells of multi-hot targets, with this target do not count.
        update_queue_in_eval: Whether `eval()` mode writes to the queue; it is frozen otherwise.
        gather_distributed: As in `SmoothAPLoss`.
        scores: `"logits"`, or `"log_odds"` for a threshold at the probability 1/2 of the softmax.

    Raises:
        TypeError: For a setting of a wrong type.
        ValueError: For a setting out of range.
    """

    surrogate = Setting[str]("statistic")
    dual_rate = Setting[float]("statistic")
    max_multiplier = Setting[float]("statistic")

    statistic: OperatingPoint

    def __init__(
        self,
        point: OperatingPoint,
        num_classes: int,
        *,
        queue_size: int,
        temperature: float,
        reduction: str,
        ignore_index: int,
        update_queue_in_eval: bool,
        gather_distributed: bool | None,
        scores: str,
    ) -> None:
        super().__init__(
            point,
            num_classes,
            queue_size=queue_size,
            temperature=temperature,
            reduction=reduction,
            ignore_index=ignore_index,
            update_queue_in_eval=update_queue_in_eval,
            gather_distributed=gather_distributed,
            scores=scores,
        )
        numbers = ([1.0] * self.num_classes, [math.nan] * self.num_classes)
        self.own = torch.tensor(numbers, dtype=torch.float64, device="cpu")

    @property
    def multipliers(self) -> Tensor:
        """Lambda of every class, `[C]`, float64; a copy."""
        return self.own[0].clone()

    @property
    def reached(self) -> Tensor:
        """The quantity constrained, at the threshold 0, in the last pool in training, `[C]`.

        To rounding; NaN for a class that has not been valid, or whose precision has no alarm.
        """
        return self.own[1].clone()

    def forward(
        self,
        logits: Tensor,
        targets: Tensor,
        iid_mask: Tensor | None = None,
        return_per_class: bool = False,
        *,
        sample_weight: Tensor | None = None,
    ) -> Any:
        """Loss of a batch and the queue. Then moves the multipliers, and pushes the batch.

        As `SmoothAPLoss.forward`.
        """
        statistic = Lagrangian(self.statistic, self.own[0])
        outcome = self._outcome(statistic, logits, targets, iid_mask, sample_weight)
        if self.training and not (self._freezes or logits.is_meta):
            self._ascend(*outcome.diagnostics)
        return outcome.returned(return_per_class=return_per_class)

    @torch.no_grad()
    def _ascend(self, reached: Tensor, is_news: Tensor) -> None:
        reached = reached.double()
        step = self.dual_rate * (self.statistic.use(reached) - 1).clamp(-1, 1)
        largest = self.max_multiplier
        moved = (self.own[0] * step.exp()).clamp(1 / largest, largest)
        own = torch.where(is_news, torch.stack((moved, reached)), self.own)
        if torch.compiler.is_exporting():  # which lets no attribute be assigned
            self.own.copy_(own)
        else:
            # Not in its place: a compiled backward pass may read the old multipliers once more.
            self.own = own


class RecallAtPrecisionLoss(OperatingPointLoss):
    """As many positives found as a precision allows, at the threshold 0 of the logits.

    The objective is `missed`. With r negatives for each positive, the constraint that the true
    positives be at least precision * alarms is, divided by the positives,

        missed + precision / (1 - precision) r alarmed <= 1,

    so a = 1, b = r precision / (1 - precision), allowed = 1. The rest is that of the base class.

    It helps where a model is used at a fixed threshold and must keep a precision while it is
    trained or updated, the more the less the model can express the posterior. It does not where the
    threshold may be chosen afterwards on held-out rows, which costs nothing, keeps probabilities
    and does as well on a model that was trained to its end with cross-entropy. What is kept is the
    precision on training rows: check it on others.

    The other arguments, and the errors, are those of `OperatingPointLoss`.

    Args:
        num_classes: C; 1 for binary problems.
        precision: Share of the alarms that should be right, in (0, 1).

    Examples:
        >>> import torch
        >>> from imbalanced_losses import RecallAtPrecisionLoss
        >>> loss_fn = RecallAtPrecisionLoss(num_classes=1, precision=0.8)
        >>> loss = loss_fn(torch.tensor([2.0, 1.5, -0.5]), torch.tensor([1, 0, 0]))
        >>> loss_fn.reached.item(), loss_fn.multipliers.item() > 1
        (0.5, True)
    """

    precision = Setting[float]("statistic")

    def __init__(
        self,
        num_classes: int,
        precision: float,
        queue_size: int = 1024,
        temperature: float = 1.0,
        reduction: str = "mean",
        ignore_index: int = -100,
        update_queue_in_eval: bool = False,
        gather_distributed: bool | None = None,
        *,
        surrogate: str = "logistic",
        dual_rate: float = 0.02,
        max_multiplier: float = 1000.0,
        scores: str = "logits",
    ) -> None:
        super().__init__(
            AtPrecision(
                precision=precision,
                surrogate=surrogate,
                dual_rate=dual_rate,
                max_multiplier=max_multiplier,
            ),
            num_classes,
            queue_size=queue_size,
            temperature=temperature,
            reduction=reduction,
            ignore_index=ignore_index,
            update_queue_in_eval=update_queue_in_eval,
            gather_distributed=gather_distributed,
            scores=scores,
        )


class PrecisionAtRecallLoss(OperatingPointLoss):
    """As few false alarms as a recall allows, at the threshold 0 of the logits.

    The objective is `alarmed`, the constraint `missed <= 1 - recall`: a = 1, b = 0, allowed =
    1 - recall. At a given recall precision falls with the false alarms alone. The rest is that of
    the base class.

    It helps, and does not, where `RecallAtPrecisionLoss` does: for a threshold that is fixed
    beforehand. With few positives the recall reached is a coarse number, and so is the constraint.

    The other arguments, and the errors, are those of `OperatingPointLoss`.

    Args:
        num_classes: C; 1 for binary problems.
        recall: Share of the positives that should be found, in (0, 1).

    Examples:
        >>> import torch
        >>> from imbalanced_losses import PrecisionAtRecallLoss
        >>> loss_fn = PrecisionAtRecallLoss(num_classes=1, recall=0.9)
        >>> loss = loss_fn(torch.tensor([2.0, -1.5, 0.5]), torch.tensor([1, 1, 0]))
        >>> loss_fn.reached.item(), loss_fn.multipliers.item() > 1
        (0.5, True)
    """

    recall = Setting[float]("statistic")

    def __init__(
        self,
        num_classes: int,
        recall: float,
        queue_size: int = 1024,
        temperature: float = 1.0,
        reduction: str = "mean",
        ignore_index: int = -100,
        update_queue_in_eval: bool = False,
        gather_distributed: bool | None = None,
        *,
        surrogate: str = "logistic",
        dual_rate: float = 0.02,
        max_multiplier: float = 1000.0,
        scores: str = "logits",
    ) -> None:
        super().__init__(
            AtRecall(
                recall=recall,
                surrogate=surrogate,
                dual_rate=dual_rate,
                max_multiplier=max_multiplier,
            ),
            num_classes,
            queue_size=queue_size,
            temperature=temperature,
            reduction=reduction,
            ignore_index=ignore_index,
            update_queue_in_eval=update_queue_in_eval,
            gather_distributed=gather_distributed,
            scores=scores,
        )


class TPRAtFPRLoss(OperatingPointLoss):
    """As many positives found as a false-positive rate allows, at the threshold 0 of the logits.

    The objective is `missed`, the constraint `alarmed <= fpr`: a = 0, b = 1, allowed = fpr. The
    rest is that of the base class. Unlike a precision the rate does not depend on how rare the
    class is, so that it carries over to rows with another share of positives.

    It helps, and does not, where `RecallAtPrecisionLoss` does: for a threshold that is fixed
    beforehand. The pool should hold a few times 1 / `fpr` negatives.

    The other arguments, and the errors, are those of `OperatingPointLoss`.

    Args:
        num_classes: C; 1 for binary problems.
        fpr: Share of the negatives that may raise an alarm, in (0, 1).

    Examples:
        >>> import torch
        >>> from imbalanced_losses import TPRAtFPRLoss
        >>> loss_fn = TPRAtFPRLoss(num_classes=1, fpr=0.1)
        >>> loss = loss_fn(torch.tensor([2.0, -1.5, 0.5]), torch.tensor([1, 0, 0]))
        >>> loss_fn.reached.item(), loss_fn.multipliers.item() > 1
        (0.5, True)
    """

    fpr = Setting[float]("statistic")

    def __init__(
        self,
        num_classes: int,
        fpr: float,
        queue_size: int = 1024,
        temperature: float = 1.0,
        reduction: str = "mean",
        ignore_index: int = -100,
        update_queue_in_eval: bool = False,
        gather_distributed: bool | None = None,
        *,
        surrogate: str = "logistic",
        dual_rate: float = 0.02,
        max_multiplier: float = 1000.0,
        scores: str = "logits",
    ) -> None:
        super().__init__(
            AtFPR(
                fpr=fpr,
                surrogate=surrogate,
                dual_rate=dual_rate,
                max_multiplier=max_multiplier,
            ),
            num_classes,
            queue_size=queue_size,
            temperature=temperature,
            reduction=reduction,
            ignore_index=ignore_index,
            update_queue_in_eval=update_queue_in_eval,
            gather_distributed=gather_distributed,
            scores=scores,
        )
