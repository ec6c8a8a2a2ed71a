"""Training with a pointwise loss before a ranking loss takes over."""

import inspect
import warnings
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from imbalanced_losses._checks import flag, integer
from imbalanced_losses._checks import tensor as check_tensor
from imbalanced_losses._ops.runtime import readable
from imbalanced_losses._schedule import Schedule

__all__ = ["LossWarmupWrapper"]


class LossWarmupWrapper(nn.Module):
    """Train with a pointwise loss first, then blend into a ranking loss and anneal it.

    A ranking loss teaches a random model little, as its gradient is nearly flat there. So

    - in the warm-up only `warmup_loss` is evaluated;
    - at the switch the main loss's queue is emptied, for its scores are those of another model;
    - in blend unit k of K (epochs or steps) the main loss has weight
      w = (k + 1) / (K + 1) * `final_main_weight`, afterwards w = `final_main_weight`; the loss is
      w * main + (1 - w) * warm-up, and a loss of weight 0 is not evaluated;
    - from the switch on, blend included, the main loss's temperature is
      `temp_start` * (`temp_end` / `temp_start`)^min(1, t / `temp_decay_steps`), where t counts
      steps from the first one after the warm-up.

    The training loop tells the schedule where it is through `on_train_epoch_start` and
    `on_train_batch_start`. That position is part of `state_dict`, so that a resumed run goes on as
    if it had never stopped; the settings are those of the constructor.

    Args:
        warmup_loss: Called as `warmup_loss(logits, targets)`. Targets of the logits' shape, or
            `[N]` beside logits `[N, 1]`, reach it as floats of that shape, as binary cross-entropy
            needs them, and others as int64 class indices.
        main_loss: Called as `main_loss(logits, targets, **kwargs)`. Its `temperature` is assigned
            and its `reset_queue()` called, where it has them.
        warmup_epochs: Length of the warm-up in epochs.
        temp_start: Temperature at the switch, above 0.
        temp_end: Temperature `temp_decay_steps` later and from then on, above 0.
        temp_decay_steps: Length of the annealing in steps, at least 1.
        blend_epochs: K in epochs. After a warm-up in steps, unit 0 is the epoch of the switch.
        warmup_steps: Length of the warm-up in steps, instead of `warmup_epochs`.
        blend_steps: K in steps, instead of `blend_epochs`; needs `warmup_steps`.
        final_main_weight: In (0, 1]; below 1 the warm-up loss keeps the rest for good.
        reset_queue_each_epoch: Empty the main loss's queue at the start of every epoch.
        gather_distributed: Unless None, assigned to each of the two losses that has that setting.

    Raises:
        TypeError: A loss is not a module, or a setting has the wrong type.
        ValueError: A setting is out of range, or is given both in epochs and in steps.

    Example:
        >>> from imbalanced_losses import SmoothAPLoss
        >>> loss_fn = LossWarmupWrapper(
        ...     nn.CrossEntropyLoss(), SmoothAPLoss(num_classes=3), warmup_epochs=1, blend_epochs=1
        ... )
        >>> for epoch in range(3):
        ...     loss_fn.on_train_epoch_start(epoch)
        ...     print(epoch, loss_fn.in_warmup, loss_fn.in_blend, loss_fn.main_weight)
        0 True False 0.0
        1 False True 0.5
        2 False False 1.0
    """

    def __init__(
        self,
        warmup_loss: nn.Module,
        main_loss: nn.Module,
        warmup_epochs: int = 0,
        temp_start: float = 0.05,
        temp_end: float = 0.005,
        temp_decay_steps: int = 10_000,
        *,
        blend_epochs: int = 0,
        warmup_steps: int | None = None,
        blend_steps: int | None = None,
        final_main_weight: float = 1.0,
        reset_queue_each_epoch: bool = False,
        gather_distributed: bool | None = None,
    ) -> None:
        super().__init__()
        for name, loss in (("warmup_loss", warmup_loss), ("main_loss", main_loss)):
            if not isinstance(loss, nn.Module):
                raise TypeError(f"{name} must be an nn.Module; got {loss!r}.")
        flag("reset_queue_each_epoch", reset_queue_each_epoch)
        flag("gather_distributed", gather_distributed, optional=True)

        self.warmup_loss = warmup_loss
        self.main_loss = main_loss
        self.reset_queue_each_epoch = reset_queue_each_epoch
        self.schedule = Schedule(
            warmup_epochs=warmup_epochs,
            temp_start=temp_start,
            temp_end=temp_end,
            temp_decay_steps=temp_decay_steps,
            blend_epochs=blend_epochs,
            warmup_steps=warmup_steps,
            blend_steps=blend_steps,
            final_main_weight=final_main_weight,
        )

        parameters = _parameters(main_loss).values()
        self._main_takes = {p.name for p in parameters}
        self._main_takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self._main_anneals = hasattr(main_loss, "temperature")
        self._warmup_weighs = "sample_weight" in _parameters(warmup_loss)
        self._unseen_hooks = {"on_train_epoch_start", "on_train_batch_start"}
        self._follow_schedule()
        if gather_distributed is not None:
            losses: list[Any] = [warmup_loss, main_loss]
            for inner in losses:
                if hasattr(inner, "gather_distributed"):
                    inner.gather_distributed = gather_distributed

    def on_train_epoch_start(self, epoch: int) -> None:
        """Say that an epoch begins; they are numbered from 0."""
        integer("epoch", epoch, at_least=0)
        self._unseen_hooks.discard("on_train_epoch_start")
        fresh = self.reset_queue_each_epoch and epoch != self.schedule.epoch
        if self.schedule.start_epoch(epoch) or fresh:
            self._reset_queue()
        self._follow_schedule()

    def on_train_batch_start(self, global_step: int) -> None:
        """Say that a training step begins; they are numbered from 0 through all epochs."""
        integer("global_step", global_step, at_least=0)
        self._unseen_hooks.discard("on_train_batch_start")
        if self.schedule.needs_epochs or self.reset_queue_each_epoch:
            self._warn_if_unseen("on_train_epoch_start")
        if self.schedule.start_step(global_step):
            self._reset_queue()
        self._follow_schedule()

    @property
    def in_warmup(self) -> bool:
        """Whether only the warm-up loss is in use."""
        return self.schedule.in_warmup

    @property
    def in_blend(self) -> bool:
        """Whether the weight of the main loss is still on its way to `final_main_weight`."""
        return self.schedule.in_blend

    @property
    def main_weight(self) -> float:
        """Weight of the main loss; the warm-up loss has the rest."""
        return self.schedule.main_weight

    @property
    def current_temperature(self) -> float | None:
        """Temperature of the main loss; None in the warm-up, and where the loss has none."""
        return self.schedule.temperature if self._main_anneals and not self.in_warmup else None

    def forward(self, logits: Tensor, targets: Tensor, **kwargs: Any) -> Any:
        """Compute the loss of the current phase.

        Args:
            logits: What both losses take, for instance `[N, C]`.
            targets: Class indices `[N]`, or whatever else the main loss takes.
            **kwargs: Passed to the main loss. `sample_weight` also reaches a warm-up loss whose
                `forward` has a parameter of that name.

        Returns:
            The loss. Where the main loss returns a tuple (`return_per_class=True`,
            `return_diagnostics=True`), the wrapper returns it with the blended loss in the first
            place. In the warm-up, where there is no main loss to ask, the tuple has the same form:
            NaN for each class and diagnostic, no class valid.

        Raises:
            TypeError: Logits or targets are not tensors, or the main loss has no such keyword
                argument; checked in every phase.
            ValueError: The losses cannot be blended because their shapes differ, or a target
                outside [0, 1] would reach `nn.BCEWithLogitsLoss` (checked on the CPU).
        """
        check_tensor("logits", logits)
        check_tensor("targets", targets)
        if not self._main_takes_any and (unknown := kwargs.keys() - self._main_takes):
            raise TypeError(f"main_loss takes no argument {', '.join(sorted(unknown))}.")
        in_steps = self.schedule.warmup_steps is not None
        if self.training and (in_steps or (self._main_anneals and self._uses_main)):
            self._warn_if_unseen("on_train_batch_start")

        if not self._uses_warmup:
            return self.main_loss(logits, targets, **kwargs)
        warmup = self._warmup(logits, targets, kwargs.get("sample_weight"))
        if not self._uses_main:
            return self._in_form_of_main(warmup, logits, kwargs)

        returned = self.main_loss(logits, targets, **kwargs)
        main, *rest = returned if isinstance(returned, tuple) else (returned,)
        if main.shape != warmup.shape:
            raise ValueError(
                "warmup_loss and main_loss must return the same shape to be blended; got "
                f"{list(warmup.shape)} and {list(main.shape)}. Use reduction='mean' in both."
            )
        loss = self._weight * main + (1 - self._weight) * warmup
        return (loss, *rest) if isinstance(returned, tuple) else loss

    def get_extra_state(self) -> Tensor:
        """Return the position in the schedule, as a tensor that any checkpoint format can hold."""
        return torch.tensor(self.schedule.progress, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Restore what `get_extra_state` returned."""
        if not isinstance(state, Tensor) or state.shape != (4,):
            raise ValueError(
                "The checkpoint's position in the schedule must be a tensor of four integers; got "
                f"{state!r}. It is of another module or version: load it with strict=False without "
                "its key '_extra_state', and call the hooks with the epoch and step to go on from."
            )
        self.schedule.progress = state.tolist()
        self._unseen_hooks.discard("on_train_epoch_start")
        self._follow_schedule()

    def extra_repr(self) -> str:
        """Describe the schedule, for `print`."""
        return f"{self.schedule}, reset_queue_each_epoch={self.reset_queue_each_epoch}"

    def _follow_schedule(self) -> None:
        # What forward reads is set here: under torch.compile it would guard on a step count, and
        # so recompile at every step, but a bool changes rarely and a float is an input.
        self._weight = self.main_weight
        self._uses_main = self._weight > 0
        self._uses_warmup = self._weight < 1
        main: Any = self.main_loss
        if self.current_temperature is not None:
            main.temperature = self.current_temperature

    def _reset_queue(self) -> None:
        main: Any = self.main_loss
        if hasattr(main, "reset_queue"):
            main.reset_queue()

    def _warn_if_unseen(self, hook: str) -> None:
        if hook in self._unseen_hooks:
            self._unseen_hooks.discard(hook)
            warnings.warn(
                f"The schedule stands still because {hook} is never called; "
                "call it from the training loop.",
                UserWarning,
                stacklevel=3,
            )

    def _warmup(self, logits: Tensor, targets: Tensor, sample_weight: Tensor | None) -> Tensor:
        targets = _pointwise_targets(logits, targets)
        if isinstance(_original(self.warmup_loss), nn.BCEWithLogitsLoss):
            _check_probabilities(targets)
        weighing = {"sample_weight": sample_weight} if self._warmup_weighs else {}
        value: Tensor = self.warmup_loss(logits, targets, **weighing)
        return value

    def _in_form_of_main(self, loss: Tensor, logits: Tensor, kwargs: Mapping[str, Any]) -> Any:
        """Give the warm-up loss the company that the caller wants to unpack."""
        classes = getattr(self.main_loss, "num_classes", logits.shape[-1])
        unknown = torch.full((classes,), torch.nan, device=loss.device)
        rest: list[Any] = []
        if kwargs.get("return_per_class"):
            rest += [unknown, torch.zeros_like(unknown, dtype=torch.bool)]
        if kwargs.get("return_diagnostics"):
            rest.append(defaultdict(unknown.clone))
        return (loss, *rest) if rest else loss


def _original(loss: nn.Module) -> nn.Module:
    """The module behind `torch.compile`, which hides its type and signature."""
    original: nn.Module = getattr(loss, "_orig_mod", loss)
    return original


def _parameters(loss: nn.Module) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(_original(loss).forward).parameters


def _pointwise_targets(logits: Tensor, targets: Tensor) -> Tensor:
    """Targets as pointwise losses take them: floats of the logits' shape, or int64 classes."""
    shape = tuple(targets.shape)
    if shape == logits.shape or (*shape, 1) == logits.shape or shape == (*logits.shape, 1):
        targets = targets.reshape(logits.shape)
        return targets if targets.is_floating_point() else targets.to(logits.dtype)
    if shape == (len(logits), 1):  # a column of class indices, which cross-entropy does not take
        targets = targets.squeeze(1)
    return targets if targets.is_floating_point() else targets.long()


def _check_probabilities(targets: Tensor) -> None:
    """Refuse what nn.BCEWithLogitsLoss would take for a huge label, such as an ignore_index."""
    if not readable(targets):
        return
    wrong = ~((targets >= 0) & (targets <= 1))
    if wrong.any():
        raise ValueError(
            f"targets must lie in [0, 1] for nn.BCEWithLogitsLoss; got {targets[wrong][0]:g}. "
            "To ignore cells, warm up with SigmoidFocalLoss(None, gamma=0, ignore_index=-100)."
        )
