"""Targets of a pointwise loss, checked: binary decisions of any shape, or exclusive classes."""

import torch
from torch import Tensor

from imbalanced_losses import _checks


def binary_cells(
    logits: Tensor, targets: Tensor, ignore_index: int | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Logits and targets in float32 or better, and the mask of the valid cells (None: all).

    Logits of ignored cells are 0, so that nothing of them reaches a gradient.
    """
    _checks.floating_logits(logits)
    _checks.tensor("targets", targets)
    if targets.shape != logits.shape:
        raise ValueError(
            f"targets must have the shape of the logits, {list(logits.shape)}; got "
            f"{list(targets.shape)}. Reshape one of them: nothing is broadcast."
        )
    if targets.is_complex():
        raise TypeError(f"targets must be float, int or bool; got {targets.dtype}.")
    dtype = at_least_float32(logits)
    targets, valid = _checks.split_ignored(targets.detach().to(dtype), 1, ignore_index)
    logits = logits.to(dtype)
    return logits if valid is None else logits.masked_fill(~valid, 0), targets, valid


def class_targets(
    logits: Tensor, targets: Tensor, ignore_index: int
) -> tuple[Tensor, Tensor | None]:
    """Class indices `[N, ...]`, or probabilities of the logits' shape, and the valid positions.

    Ignored indices are 0; None for the mask: all are valid.
    """
    _, shape = _checks.class_logits(logits)
    _checks.tensor("targets", targets)
    if targets.is_floating_point() and targets.shape == logits.shape:
        _checks.probabilities(targets)
        return targets.detach().to(at_least_float32(logits)), None
    _checks.class_indices(targets, shape, logits.shape)
    return _checks.split_ignored(targets.long(), logits.shape[1] - 1, ignore_index)


def class_scores(logits: Tensor, valid: Tensor | None) -> Tensor:
    """The logits in float32 or better, 0 at positions that are ignored."""
    scores = logits.to(at_least_float32(logits))
    return scores if valid is None else scores.masked_fill(~valid.unsqueeze(1), 0)


def not_background(targets: Tensor, background: int = 0) -> Tensor:
    """How much of each target is not of the background class: 0 or 1 for class indices."""
    if targets.is_floating_point():
        return 1 - targets.detach().select(1, background)
    return targets != background


def per_class(vector: Tensor, logits: Tensor) -> Tensor:
    """A vector as `[C, 1, ...]`, which runs along dimension 1 of the logits `[N, C, ...]`.

    On their device, in float32 or better.
    """
    vector = vector.to(logits.device, at_least_float32(logits))
    return vector.view(-1, *[1] * (logits.ndim - 2))


def at_least_float32(logits: Tensor) -> torch.dtype:
    """The dtype in which a loss of these logits is computed."""
    return torch.promote_types(logits.dtype, torch.float32)
