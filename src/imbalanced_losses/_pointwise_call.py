"""How a pointwise loss that may be any module or function stands beside a ranking loss."""

import functools
import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbalanced_losses._ops.runtime import readable


@dataclass(frozen=True)
class CallForm:
    """What a pointwise loss wants from its caller.

    Found once per loss, because a compiler cannot trace the search.
    """

    takes_weight: bool  # it has a parameter `sample_weight`
    shapes_targets: bool  # its targets are brought to the shape of the logits
    is_bce: bool  # it takes any number for a label, -100 too


def call_form(loss: Callable[..., Any]) -> CallForm:
    """Find out what this loss wants from its caller."""
    behind = original(loss)
    while isinstance(behind, functools.partial):
        behind = original(behind.func)
    # A subclass with a `forward` of its own is told by that: it may reshape for itself.
    called = type(behind).forward if isinstance(behind, nn.Module) else behind
    is_bce = called is nn.BCEWithLogitsLoss.forward or called is F.binary_cross_entropy_with_logits
    return CallForm(
        takes_weight="sample_weight" in parameters(loss),
        shapes_targets=is_bce or _home(called).startswith("imbalanced_losses.losses."),
        is_bce=is_bce,
    )


def call_pointwise(
    loss: Callable[..., Any],
    form: CallForm,
    logits: Tensor,
    targets: Tensor,
    sample_weight: Tensor | None,
) -> Tensor:
    """Call the loss with targets, and with weights, as its form wants them.

    Raises:
        ValueError: A target outside [0, 1] would reach binary cross-entropy (checked on the CPU).
    """
    if form.shapes_targets:
        targets = _targets_like(logits, targets)
    if form.is_bce:
        _check_probabilities(targets)
    weighing = {"sample_weight": sample_weight} if form.takes_weight else {}
    value: Tensor = loss(logits, targets, **weighing)
    return value


def in_form_of(main: nn.Module, loss: Tensor, logits: Tensor, options: Mapping[str, Any]) -> Any:
    """The loss in the company in which `main`, called with these options, would return its own.

    NaN for each class and each diagnostic, and no class valid.
    """
    classes = getattr(main, "num_classes", logits.shape[1] if logits.ndim > 1 else 1)
    dtype = torch.promote_types(logits.dtype, torch.float32)
    unknown = torch.full((classes,), torch.nan, dtype=dtype, device=loss.device)
    rest: list[Any] = []
    if options.get("return_per_class"):
        rest += [unknown, torch.zeros_like(unknown, dtype=torch.bool)]
    if options.get("return_diagnostics"):
        rest.append(defaultdict(unknown.clone))
    return (loss, *rest) if rest else loss


@contextmanager
def frozen_queues(*losses: Any) -> Iterator[None]:
    """Within this block none of the losses that have a queue writes to it."""
    with ExitStack() as stack:
        for loss in losses:
            if hasattr(loss, "frozen_queue"):
                stack.enter_context(loss.frozen_queue())
        yield


def original(loss: Callable[..., Any]) -> Callable[..., Any]:
    """The loss behind `torch.compile`, which hides its type and signature."""
    behind: Any = getattr(loss, "_orig_mod", loss)
    while _home(behind).startswith("torch._dynamo."):
        behind = behind.__wrapped__
    return cast(Callable[..., Any], behind)


def parameters(loss: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Parameters of the loss; none for a function of torch that is written in C++."""
    behind = original(loss)
    try:
        return inspect.signature(
            behind.forward if isinstance(behind, nn.Module) else behind
        ).parameters
    except ValueError:
        return {}


def _home(function: Callable[..., Any]) -> str:
    """The module that this function was written in; `functools.wraps` forges `__module__`."""
    home: str = getattr(function, "__globals__", {}).get("__name__", "")
    return home


def _targets_like(logits: Tensor, targets: Tensor) -> Tensor:
    """Targets as floats of the logits' shape, or class indices as `[N]`."""
    shape = tuple(targets.shape)
    if shape == logits.shape or (*shape, 1) == logits.shape or shape == (*logits.shape, 1):
        dtype = logits.dtype
        if targets.is_floating_point():  # half precision would round soft labels
            dtype = torch.promote_types(dtype, torch.float32)
        return targets.reshape(logits.shape).to(dtype)
    if shape == (*logits.shape[:1], 1):  # a column of class indices
        return targets.squeeze(1)
    return targets


def _check_probabilities(targets: Tensor) -> None:
    """Refuse what binary cross-entropy would take for a huge label, such as an ignore_index."""
    if not readable(targets):
        return
    wrong = ~((targets >= 0) & (targets <= 1))
    if wrong.any():
        raise ValueError(
            f"targets must lie in [0, 1] for binary cross-entropy; got {targets[wrong][0]:g}. "
            "To ignore cells, warm up with SigmoidFocalLoss(None, gamma=0, ignore_index=-100)."
        )
