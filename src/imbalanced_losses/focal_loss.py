"""Focal losses: binary and multi-label through the sigmoid, exclusive classes through the softmax.

Their formulas stand with the pure functions in `imbalanced_losses.functional`.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from imbalanced_losses._buffers import PreciseBuffers
from imbalanced_losses._statistics.focal import class_weight_vector
from imbalanced_losses.functional.focal import (
    check_sigmoid_settings,
    check_softmax_settings,
    sigmoid_focal_loss,
    softmax_focal_loss,
)

__all__ = ["SigmoidFocalLoss", "SoftmaxFocalLoss"]


class SigmoidFocalLoss(nn.Module):
    """`sigmoid_focal_loss` with its settings: binary or multi-label focal loss.

    Args:
        alpha: Weight of positives in [0, 1], with 1 - alpha for negatives; None or -1: no weights.
        gamma: Focus on cells that are still wrong, >= 0.
        reduction: `"none"`, `"sum"`, `"mean"` or `"mean_positive"`.
        gather_distributed: None sums over the ranks whenever a process group of several is live
            at the call, True raises where there is none, False stays local.
        ignore_index: Cells with this target do not count.

    Raises:
        TypeError: For a setting of a wrong type.
        ValueError: For a setting out of range.

    Example:
        >>> import torch
        >>> from imbalanced_losses import SigmoidFocalLoss
        >>> loss_fn = SigmoidFocalLoss(alpha=0.75)
        >>> loss_fn(torch.tensor([[2.0, -1.0]]), torch.tensor([[1, 0]]))
        tensor(0.0035)
    """

    def __init__(
        self,
        alpha: float | None = 0.25,
        gamma: float = 2.0,
        reduction: str = "mean",
        gather_distributed: bool | None = None,
        *,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__()
        check_sigmoid_settings(alpha, gamma, reduction, ignore_index, gather_distributed)
        self.alpha = alpha
        self.gamma = gamma
        self.reduction = reduction
        self.ignore_index = ignore_index
        self.gather_distributed = gather_distributed

    def forward(
        self, inputs: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Loss of logits `inputs` against `targets`; see `sigmoid_focal_loss`."""
        return sigmoid_focal_loss(
            inputs,
            targets,
            alpha=self.alpha,
            gamma=self.gamma,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            sample_weight=sample_weight,
            gather_distributed=self.gather_distributed,
        )

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return f"alpha={self.alpha}, gamma={self.gamma}, reduction={self.reduction!r}"


class SoftmaxFocalLoss(PreciseBuffers):
    """`softmax_focal_loss` with its settings: focal loss of mutually exclusive classes.

    Args:
        alpha: One weight >= 0 per class, as a list, array or tensor; None: no weights. Kept as a
            buffer that moves with the module and, being a setting, stays out of `state_dict`.
        gamma: Focus on positions that are still wrong, >= 0.
        reduction: `"none"`, `"sum"`, `"mean"` or `"mean_positive"`.
        label_smoothing: Share of the target spread evenly over all classes, in [0, 1].
        ignore_index: Positions of this class index do not count.
        background_class: The class that `"mean_positive"` does not count.
        gather_distributed: None sums over the ranks whenever a process group of several is live
            at the call, True raises where there is none, False stays local.

    Raises:
        TypeError: For a setting of a wrong type.
        ValueError: For a setting out of range.

    Example:
        >>> import torch
        >>> from imbalanced_losses import SoftmaxFocalLoss
        >>> loss_fn = SoftmaxFocalLoss(alpha=[0.5, 1.0, 2.0])
        >>> loss_fn(torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), torch.tensor([0, 2]))
        tensor(0.9662)
    """

    alpha: Tensor | None

    def __init__(
        self,
        alpha: Tensor | Sequence[float] | Any | None = None,
        gamma: float = 2.0,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        ignore_index: int = -100,
        background_class: int = 0,
        gather_distributed: bool | None = None,
    ) -> None:
        super().__init__()
        check_softmax_settings(
            gamma, reduction, label_smoothing, ignore_index, background_class, gather_distributed
        )
        weights = None if alpha is None else class_weight_vector(alpha).clone()
        self.register_buffer("alpha", weights, persistent=False)
        self.gamma = gamma
        self.reduction = reduction
        self.label_smoothing = label_smoothing
        self.ignore_index = ignore_index
        self.background_class = background_class
        self.gather_distributed = gather_distributed

    def forward(
        self, inputs: Tensor, targets: Tensor, *, sample_weight: Tensor | None = None
    ) -> Tensor:
        """Loss of logits `inputs` against `targets`; see `softmax_focal_loss`."""
        return softmax_focal_loss(
            inputs,
            targets,
            alpha=self.alpha,
            gamma=self.gamma,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
            ignore_index=self.ignore_index,
            background_class=self.background_class,
            sample_weight=sample_weight,
            gather_distributed=self.gather_distributed,
        )

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        alpha = None if self.alpha is None else [round(float(weight), 4) for weight in self.alpha]
        return (
            f"alpha={alpha}, gamma={self.gamma}, reduction={self.reduction!r}, "
            f"label_smoothing={self.label_smoothing}"
        )
