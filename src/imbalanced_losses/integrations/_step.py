"""What a loss of one batch is worth in an optimizer step of several batches and ranks.

The Trainer of Hugging Face adds up the losses of a step and hands each call N, the number of labels
in the whole step that are not -100.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from imbalanced_losses import _checks
from imbalanced_losses.distributed import resolve_gather

IGNORED = -100  # the label that the Trainer leaves out when it counts


def sum_over_items(loss: nn.Module) -> Callable[..., Tensor]:
    """A pointwise loss as the sum of its terms, divided by the items of the step for a mean."""
    each: Any = copy.deepcopy(loss)
    is_mean, each.reduction = each.reduction == "mean", "none"
    if hasattr(each, "gather_distributed"):
        each.gather_distributed = False  # the sum over the ranks is the Trainer's

    def compute(
        outputs: Any, labels: Tensor, num_items_in_batch: Tensor | float | None = None
    ) -> Tensor:
        logits, labels = _rows(outputs, labels)
        each.to(logits.device)
        counted = labels != IGNORED
        number = counted.sum() if num_items_in_batch is None else num_items_in_batch
        if labels.shape == logits.shape:
            classes = labels.shape[1]
            harmless = 1 / classes if labels.is_floating_point() else 0
            labels = labels.masked_fill(~counted, harmless)
            if _has_one_term_per_row(each, logits, labels.dtype):
                counted = _whole_rows(counted)
                number = number / classes
        terms = each(logits, labels)
        if not isinstance(terms, Tensor) or terms.shape != counted.shape:
            raise ValueError(
                "loss must return one term per row, or per label, where its reduction is set to "
                f"'none'; {type(each).__name__} returned {_described(terms)} for labels "
                f"{list(labels.shape)}."
            )
        total = terms.masked_fill(~counted, 0).sum()
        return total / _at_least_one(number, total) if is_mean else total

    return compute


def share_of_step(loss: nn.Module) -> Callable[..., Tensor]:
    """A loss that compares rows, weighted with the share of the step's items in its batch."""

    def compute(
        outputs: Any, labels: Tensor, num_items_in_batch: Tensor | float | None = None
    ) -> Tensor:
        logits, labels = _rows(outputs, labels)
        count, ranks = (labels != IGNORED).sum(), 1
        if resolve_gather(None):
            ranks = dist.get_world_size()
            dist.all_reduce(count)
        loss.train(torch.is_grad_enabled())
        value = loss.to(logits.device)(logits, labels)
        if not isinstance(value, Tensor) or value.ndim > 0:
            raise ValueError(
                f"loss must return a scalar; {type(loss).__name__} returned {_described(value)}. "
                "Use reduction='mean' in all its parts."
            )
        if num_items_in_batch is None:
            return value
        # Each rank has the loss of all ranks: the Trainer's factor W is taken out again.
        return value * count / (_at_least_one(num_items_in_batch, value) * ranks)

    return compute


def _rows(outputs: Any, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    if labels is None:
        raise ValueError(
            "labels must be a tensor; got None, which is what the Trainer passes for a batch "
            "without the key 'labels'. Give the data set a column of that name."
        )
    _checks.tensor("labels", labels)
    logits: Tensor = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
    if labels.shape not in (logits.shape, logits.shape[:-1]):
        raise ValueError(
            "labels must have the shape of the logits, or that without the last dimension; got "
            f"{list(labels.shape)} beside logits {list(logits.shape)}."
        )
    # Sums of half-precision terms would round.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(0, -2)
    if labels.numel() == logits.numel():
        return logits, labels.reshape(logits.shape)
    return logits, labels.flatten()


def _has_one_term_per_row(each: nn.Module, logits: Tensor, dtype: torch.dtype) -> bool:
    """Whether labels of the logits' shape are class probabilities to this loss, and not cells."""
    with torch.no_grad():
        blank = logits.new_zeros(2, logits.shape[1])
        terms: Tensor = each(blank, blank.softmax(1).to(dtype))
    return terms.ndim == 1


def _whole_rows(counted: Tensor) -> Tensor:
    """Which rows count, where the cells of each count together."""
    ignored, classes = (~counted).sum(1), counted.shape[1]
    _checks.holds(
        (ignored == 0) | (ignored == classes),
        ignored,
        f"labels that are class probabilities must be {IGNORED} in all {classes} cells of a row, "
        "or in none",
    )
    return ignored == 0


def _at_least_one(number: Tensor | float, like: Tensor) -> Tensor:
    return torch.as_tensor(number, device=like.device).clamp(min=1)


def _described(value: object) -> str:
    return (
        f"shape {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    )
