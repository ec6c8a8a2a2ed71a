"""What the adapters ask of a loss: its kind, where its schedule is, and whether to watch it."""

from collections.abc import Iterable

from torch import Tensor, nn

from imbalanced_losses._warn import warn
from imbalanced_losses.losses._ranking import RankingLoss
from imbalanced_losses.mixing import MixedLoss
from imbalanced_losses.warmup import LossWarmupWrapper

_PHASES = ("warmup", "blend", "main")


def original(loss: nn.Module) -> nn.Module:
    """The module behind `torch.compile`, which hides its type."""
    module: nn.Module = getattr(loss, "_orig_mod", loss)
    return module


def compares_rows(loss: nn.Module) -> bool:
    """Whether the loss is more than a sum over items, as that of a large batch would be.

    A module that holds a ranking loss, however deep, compares rows too.
    """
    return any(isinstance(part, (RankingLoss, LossWarmupWrapper)) for part in loss.modules())


def wrapper_in(loss: nn.Module) -> LossWarmupWrapper | None:
    """The outermost `LossWarmupWrapper`."""
    return next((part for part in loss.modules() if isinstance(part, LossWarmupWrapper)), None)


def start_step(loss: nn.Module, step: int) -> None:
    """Tell every schedule in the loss the optimizer step that begins."""
    for part in loss.modules():
        if isinstance(part, (LossWarmupWrapper, MixedLoss)):
            part.on_train_batch_start(step)


def state_of(wrapper: LossWarmupWrapper) -> dict[str, float]:
    """What both trainers log of a schedule."""
    phase = "warmup" if wrapper.in_warmup else "blend" if wrapper.in_blend else "main"
    values = {"phase": float(_PHASES.index(phase)), "main_weight": wrapper.main_weight}
    if wrapper.current_temperature is not None and not wrapper.in_warmup:
        values["temperature"] = wrapper.current_temperature
    return values


def queue_labels(loss: nn.Module) -> Tensor | None:
    """Labels `[C, size]` of the queue of the first ranking loss; None where it keeps no rows."""
    for part in loss.modules():
        if isinstance(part, RankingLoss):
            return part.queue.label if part.queue_size else None
    return None


def warn_of_watched_loss(
    wrapper: LossWarmupWrapper, watched: Iterable[tuple[str, object]], higher_is_better: str
) -> bool:
    """Warn if a loss is watched across a switch, and return whether that was so.

    Args:
        wrapper: The loss at the start of training.
        watched: Who watches, and the name of the metric.
        higher_is_better: How this trainer is told that a larger metric is a better one.
    """
    if not (wrapper.in_warmup or wrapper.in_blend):
        return False
    losses = [
        f"{who} watches {metric!r}"
        for who, metric in watched
        if isinstance(metric, str) and "loss" in metric.lower()
    ]
    if losses:
        warn(
            f"{' and '.join(losses)}, but the schedule changes what the loss is: 0.03 in the "
            "warm-up and 0.9 after it cannot be compared. The best epoch is then always the last "
            "one of the warm-up, and early stopping ends training soon after the switch. Watch a "
            "metric that means the same in all phases, such as "
            f"imbalanced_losses.metrics.average_precision, with {higher_is_better}. "
            "This is said once."
        )
    return bool(losses)
