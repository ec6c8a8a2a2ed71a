"""Asymmetric loss of multi-label problems: positives and negatives are focused differently.

Source: Ridnik, Ben-Baruch, Zamir, Noy, Friedman, Protter and Zelnik-Manor, "Asymmetric Loss For
Multi-Label Classification", ICCV 2021, https://arxiv.org/abs/2009.14119.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from imbalanced_losses import _checks
from imbalanced_losses.losses._cells import binary_cells
from imbalanced_losses.losses._module import Setting
from imbalanced_losses.losses._pointwise import (
    Cells,
    Criterion,
    PointwiseLoss,
    PointwiseSettings,
    pointwise_loss,
)

__all__ = ["AsymmetricLoss", "asymmetric_loss"]


@dataclass(frozen=True)
class Asymmetric(Criterion):
    """(1 - p)^gamma_pos and p_m^gamma_neg times the log-loss of every cell."""

    gamma_neg: float = 4.0
    gamma_pos: float = 1.0
    clip: float = 0.05
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        number = _checks.number
        _checks.settle(
            self,
            gamma_neg=number("gamma_neg", self.gamma_neg, at_least=0),
            gamma_pos=number("gamma_pos", self.gamma_pos, at_least=0),
            clip=number("clip", self.clip, at_least=0, below=1),
        )
        if self.ignore_index is not None:
            index = _checks.integer("ignore_index", self.ignore_index)
            _checks.settle(self, ignore_index=index)

    def cells(self, logits: Tensor, targets: Tensor, *, total: bool) -> Cells:
        """Losses of the targets' shape."""
        logits, targets, valid = binary_cells(logits, targets, self.ignore_index)
        if self.gamma_neg == self.gamma_pos == self.clip == 0:
            value = binary_cross_entropy_with_logits(logits, targets, reduction="none")
        else:
            positive = _focused(-logits, self.gamma_pos)
            negative = (
                _focused(logits, self.gamma_neg)
                if self.clip == 0
                else _focused_beyond(logits, self.gamma_neg, self.clip)
            )
            value = targets * positive + (1 - targets) * negative
        value = value if valid is None else value.masked_fill(~valid, 0)
        return Cells(value, valid, logits.numel())

    def positive(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The targets themselves."""
        return targets.detach()


def _focused(x: Tensor, gamma: float) -> Tensor:
    """-q^gamma log(1 - q) with q = sigmoid(x)."""
    loss = -logsigmoid(-x)
    return loss if gamma == 0 else (gamma * logsigmoid(x)).exp() * loss


def _focused_beyond(x: Tensor, gamma: float, clip: float) -> Tensor:
    """-q^gamma log(1 - q) with q = max(sigmoid(x) - clip, 0)."""
    p = x.sigmoid()
    q = (p - clip).clamp(min=torch.finfo(x.dtype).tiny)  # of 0 a power may have no slope
    # 1 - q = sigmoid(-x) + clip is summed as logarithms where q is near 1, and may round to it.
    far = torch.logaddexp(logsigmoid(-x), torch.full_like(x, math.log(clip)))
    loss = -torch.where(q < 0.5, torch.log1p(-q.clamp(max=0.5)), far)
    return (q**gamma * loss).masked_fill(p <= clip, 0)


def asymmetric_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma_neg: float = 4.0,
    gamma_pos: float = 1.0,
    clip: float = 0.05,
    reduction: str = "mean",
    ignore_index: int | None = None,
    sample_weight: Tensor | None = None,
    gather_distributed: bool | None = False,
) -> Tensor:
    """Asymmetric loss of independent labels.

    With p = sigmoid(logit), p_m = max(p - clip, 0) and target t, every cell costs

        -t (1 - p)^gamma_pos log(p) - (1 - t) p_m^gamma_neg log(1 - p_m),

    the loss and the defaults of Ridnik et al., "Asymmetric Loss For Multi-Label Classification",
    ICCV 2021, https://arxiv.org/abs/2009.14119, where only hard targets occur; a soft one costs the
    mean of the two, so mixed labels cost the mix of the losses. (Its minimum is not at p = t, then
    or ever: p is no probability.) The gradient is that of the formula, powers included; the
    authors' code can leave them out of it. Its reduction is `"sum"`. With `gamma_neg`, `gamma_pos`
    and `clip` 0 it is `torch.nn.functional.binary_cross_entropy_with_logits`.

    It helps where there are many labels, most of them absent from every row, and some of those
    wrongly so: easy negatives, and with `clip` those below it wholly, stop counting. Of a rare
    label it keeps even less gradient on negatives than the focal loss, so with few labels, clean
    negatives, or probabilities to be read off, plain binary cross-entropy is the better choice.

    Args:
        logits: Any shape, any floating dtype; computed in float32 or better.
        targets: The shape of the logits; float, int or bool in [0, 1]. A constant: no gradient.
        gamma_neg: Focus on negatives that are still wrong, >= 0.
        gamma_pos: Focus on positives that are still wrong, >= 0.
        clip: Probability up to which a negative costs nothing, in [0, 1).
        reduction: `"none"`, `"sum"`, `"mean"` over valid cells, or `"mean_positive"`: the sum over
            all valid cells divided by the sum of their targets, at least 1.
        ignore_index: Cells with this target add no loss, no gradient and nothing to a mean.
        sample_weight: Finite weights >= 0, one per cell (shape of the targets) or one per row
            (`[N]` or `[N, 1, ...]`). Nothing else is broadcast. A mean divides by the weights of
            the cells that it counts. A constant.
        gather_distributed: Sum over the ranks of the process group before dividing. True needs a
            group, None uses one if there is one, False stays local.

    Returns:
        A scalar, or the shape of the logits for `"none"`; float32, or float64 for float64 logits.
        Nothing valid: zero, attached to the graph.

    Raises:
        TypeError: For logits that are not floating point or arguments of a wrong type.
        ValueError: For mismatched shapes, numbers out of range and, on a CPU in eager mode,
            targets outside [0, 1]; on CUDA those fail in an asynchronous device assert.
        RuntimeError: If `gather_distributed=True` and there is no process group.

    Examples:
        >>> import torch
        >>> from imbalanced_losses.functional import asymmetric_loss
        >>> asymmetric_loss(torch.tensor([[2.0, -1.0]]), torch.tensor([[1, 0]]))
        tensor(0.0078)
    """
    return pointwise_loss(
        Asymmetric(gamma_neg, gamma_pos, clip, ignore_index),
        PointwiseSettings(reduction, gather_distributed),
        logits,
        targets,
        sample_weight,
    )


class AsymmetricLoss(PointwiseLoss):
    """`asymmetric_loss` with its settings: multi-label loss that spares easy negatives.

    Args:
        gamma_neg: Focus on negatives that are still wrong, >= 0.
        gamma_pos: Focus on positives that are still wrong, >= 0.
        clip: Probability up to which a negative costs nothing, in [0, 1).
        reduction: `"none"`, `"sum"`, `"mean"` or `"mean_positive"`.
        ignore_index: Cells with this target do not count.
        gather_distributed: None sums over the ranks whenever a process group of several is live
            at the call, True raises where there is none, False stays local.

    Raises:
        TypeError: For a setting of a wrong type.
        ValueError: For a setting out of range.

    Examples:
        >>> import torch
        >>> from imbalanced_losses import AsymmetricLoss
        >>> AsymmetricLoss(clip=0.0)(torch.tensor([[2.0, -1.0]]), torch.tensor([[1, 0]]))
        tensor(0.0084)
    """

    gamma_neg = Setting[float]("criterion")
    gamma_pos = Setting[float]("criterion")
    clip = Setting[float]("criterion")
    ignore_index = Setting["int | None"]("criterion")

    def __init__(
        self,
        gamma_neg: float = 4.0,
        gamma_pos: float = 1.0,
        clip: float = 0.05,
        *,
        reduction: str = "mean",
        ignore_index: int | None = None,
        gather_distributed: bool | None = None,
    ) -> None:
        super().__init__(
            Asymmetric(gamma_neg, gamma_pos, clip, ignore_index),
            reduction=reduction,
            gather_distributed=gather_distributed,
        )
