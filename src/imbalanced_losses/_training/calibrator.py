"""Probabilities after a loss whose effect on them nobody knows: scale and offset of the logits."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Calibrator(NamedTuple):
    """Logits become `scale * logits + offset`, which keeps the order of each output."""

    scale: Tensor  # above 0: [outputs], or [1] for all classes alike
    offset: Tensor  # [outputs]

    def __call__(self, logits: Tensor) -> Tensor:
        """Logits whose softmax or sigmoid estimates probabilities."""
        return self.scale.to(logits) * logits + self.offset.to(logits)


def calibrate(
    logits: Tensor, targets: Tensor, sample_weight: Tensor | None = None, *, exclusive: bool
) -> Calibrator:
    """The most likely scale and offset on rows that the model was not trained on.

    One logit per label: Platt, "Probabilistic Outputs for Support Vector Machines", 1999. Exclusive
    classes: a temperature, as in Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural
    Networks", ICML 2017, https://arxiv.org/abs/1706.04599, and an offset for each class. The log of
    the scale and the offsets have a normal prior with variance 1, which weighs as much as one row
    and keeps them finite where the rows are separated.

    Args:
        logits: `[N, outputs]`, finite.
        targets: Class indices `[N]` where classes are exclusive, else zeros and ones of the
            logits' shape.
        sample_weight: `[N]`.
        exclusive: Whether exactly one class holds in each row.
    """
    z = logits.detach().double()
    outputs = z.shape[1]
    weight = torch.ones(len(z)) if sample_weight is None else sample_weight
    weight = weight.double() * len(z) / weight.sum()
    log_scale = torch.zeros(1 if exclusive else outputs, dtype=torch.float64, requires_grad=True)
    offset = torch.zeros(outputs, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [log_scale, offset], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def posterior() -> Tensor:
        optimizer.zero_grad()
        moved = log_scale.exp() * z + offset
        if exclusive:
            losses = F.cross_entropy(moved, targets, reduction="none")
        else:
            losses = F.binary_cross_entropy_with_logits(
                moved, targets.double(), reduction="none"
            ).sum(1)
        prior = (log_scale.square().sum() + offset.square().sum()) / 2
        value = ((losses * weight).sum() + prior) / len(z)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimizer.step(posterior)  # type: ignore[no-untyped-call]
    return Calibrator(log_scale.detach().exp(), offset.detach())
