"""Training with a pointwise loss before a ranking loss takes over."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from imbalanced_losses._checks import flag, integer, tensor
from imbalanced_losses._pointwise_call import (
    call_form,
    call_pointwise,
    frozen_queues,
    in_form_of,
    original,
    parameters,
)
from imbalanced_losses._schedule import Schedule
from imbalanced_losses._warn import warn
from imbalanced_losses.losses._module import Setting

__all__ = ["LossWarmupWrapper"]


class LossWarmupWrapper(nn.Module):
    """Train with a pointwise loss first, then blend into a ranking loss and anneal it.

    The gradient of a ranking loss is nearly flat on a random model, so a pointwise loss comes
    first. Training has three phases:

    - **Warm-up**: only `warmup_loss` is computed.
    - **Blend**: the loss is w * main + (1 - w) * warm-up. In unit k = 0 .. K - 1 of the blend (an
      epoch or a step) w = (k + 1) / (K + 1) * `final_main_weight`.
    - **Main**: the same sum with w = `final_main_weight`. With the default of 1 the warm-up loss
      is no longer computed.

    The switch is the end of the warm-up. It empties the queue of the main loss, because the scores
    in it come from a model that knew little. From the switch on, blend included, the temperature of
    the main loss is `temp_start` * (`temp_end` / `temp_start`)^min(1, t / `temp_decay_steps`),
    where t is the number of steps since the switch. `warmup_steps`, or `warmup_epochs=0`, tells at
    which step the switch was, and t counts from there in a run that starts late too. After a
    warm-up in epochs, t counts from the first step that the wrapper is told of.

    The training loop calls `on_train_epoch_start` and `on_train_batch_start`. `state_dict` holds
    the position in the schedule, so a resumed run goes on as if it had never stopped. It does not
    hold the settings: build the wrapper with the same ones.

    Args:
        warmup_loss: Any module or function called as `warmup_loss(logits, targets)`. It gets the
            targets as the caller passed them, except that binary cross-entropy of torch and the
            pointwise losses of this library get targets in the shape of the logits, as floats, if
            they have that shape or are `[N]` beside logits `[N, 1]` (or the other way round).
        main_loss: A module called as `main_loss(logits, targets, **kwargs)`. The wrapper assigns
            its `temperature` and calls its `reset_queue()`.
        warmup_epochs: Length of the warm-up in epochs, at least 0.
        temp_start: Temperature of the main loss at the switch, above 0, in the unit of that loss.
            None leaves the main loss the temperature that it has.
        temp_end: Temperature from `temp_decay_steps` steps after the switch on, above 0. None
            keeps `temp_start`. Needs `temp_start`.
        temp_decay_steps: Number of steps from `temp_start` to `temp_end`, at least 1.
        blend_epochs: K in epochs, at least 0. After a warm-up in steps, unit 0 is the epoch of
            the switch.
        warmup_steps: Length of the warm-up in steps, instead of `warmup_epochs`.
        blend_steps: K in steps, instead of `blend_epochs`. Needs `warmup_steps`.
        final_main_weight: Weight of the main loss after the blend, in (0, 1].
        reset_queue_each_epoch: Whether to empty the queue at the start of every epoch.
        gather_distributed: Assigned to each of the two losses that has a setting of this name;
            None leaves them theirs.

    Every setting can be read as an attribute of its name.

    Raises:
        TypeError: `warmup_loss` cannot be called, `main_loss` is not a module, or a setting has
            the wrong type.
        ValueError: A setting is out of range, is given both in epochs and in steps, or lacks the
            one that it needs.

    Warns:
        UserWarning: The main loss has no `temperature` for `temp_start`, or no `reset_queue` for
            `reset_queue_each_epoch`. Later: a hook that the schedule needs is never called.

    Examples:
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

    warmup_loss: Any  # a module, or a function

    warmup_epochs = Setting[int]("schedule")
    temp_start = Setting["float | None"]("schedule")
    temp_end = Setting["float | None"]("schedule")
    temp_decay_steps = Setting[int]("schedule")
    blend_epochs = Setting[int]("schedule")
    warmup_steps = Setting["int | None"]("schedule")
    blend_steps = Setting["int | None"]("schedule")
    final_main_weight = Setting[float]("schedule")

    def __init__(
        self,
        warmup_loss: Callable[..., Any],
        main_loss: nn.Module,
        warmup_epochs: int = 0,
        temp_start: float | None = None,
        temp_end: float | None = None,
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
        flag("reset_queue_each_epoch", reset_queue_each_epoch)

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
        self._unseen_hooks = {"on_train_epoch_start", "on_train_batch_start"}
        for setting, asked_for, attribute in (
            ("temp_start", temp_start is not None, "temperature"),
            ("reset_queue_each_epoch", reset_queue_each_epoch, "reset_queue"),
        ):
            if asked_for and not hasattr(main_loss, attribute):
                name = type(original(main_loss)).__name__
                warn(f"{setting} has no effect: main_loss, a {name}, has no {attribute}.")
        self.gather_distributed = gather_distributed

    def __setattr__(self, name: str, value: Any) -> None:
        # Losses are looked at here and not in forward, where a compiler could not trace it.
        if name == "warmup_loss":
            if not callable(value) or isinstance(value, type):
                raise TypeError(f"warmup_loss must be an nn.Module or a function; got {value!r}.")
            self._warmup_form = call_form(value)
        elif name == "main_loss":
            if not isinstance(value, nn.Module):
                raise TypeError(f"main_loss must be an nn.Module; got {value!r}.")
            takes = parameters(value).values()
            self._main_takes = {p.name for p in takes}
            self._main_takes_any = any(p.kind is p.VAR_KEYWORD for p in takes)
            self._main_has_temperature = hasattr(value, "temperature")
        super().__setattr__(name, value)
        if name == "schedule":
            self._follow_schedule()

    @property
    def gather_distributed(self) -> bool | None:
        """The setting `gather_distributed`; assigning it sets that of the two losses."""
        return self._gather_distributed

    @gather_distributed.setter
    def gather_distributed(self, value: bool | None) -> None:
        flag("gather_distributed", value, optional=True)
        self._gather_distributed = value
        losses: list[Any] = [self.warmup_loss, self.main_loss]
        for inner in losses:
            if value is not None and hasattr(inner, "gather_distributed"):
                inner.gather_distributed = value

    def on_train_epoch_start(self, epoch: int) -> None:
        """Say that an epoch begins; they are numbered from 0."""
        epoch = integer("epoch", epoch, at_least=0)
        self._unseen_hooks.discard("on_train_epoch_start")
        fresh = self.reset_queue_each_epoch and epoch != self.schedule.epoch
        if self.schedule.start_epoch(epoch) or fresh:
            self._reset_queue()
        self._follow_schedule()

    def on_train_batch_start(self, global_step: int) -> None:
        """Say that a training step begins; they are numbered from 0 through all epochs."""
        global_step = integer("global_step", global_step, at_least=0)
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
        """Temperature of the main loss; None where it has none. In the warm-up it is not in use."""
        main: Any = self.main_loss
        return float(main.temperature) if self._main_has_temperature else None

    @contextmanager
    def frozen_queue(self) -> Iterator[None]:
        """Compute without writing to a queue, for further evaluations of the same step.

        Calls `frozen_queue()` of each of the two losses that has it.
        """
        with frozen_queues(self.main_loss, self.warmup_loss):
            yield

    def forward(self, logits: Tensor, targets: Tensor, **kwargs: Any) -> Any:
        """Compute the loss of the current phase.

        Args:
            logits: What both losses take, for instance `[N, C]`.
            targets: Class indices `[N]`, or whatever else the main loss takes.
            **kwargs: Passed to the main loss. `sample_weight` also reaches a warm-up loss that has
                a parameter of that name.

        Returns:
            The loss. Where the main loss returns a tuple (`return_per_class=True`,
            `return_diagnostics=True`), so does the wrapper, with the blended loss in the first
            place. In the warm-up the main loss is not computed: each class and each diagnostic is
            then NaN, and no class is valid.

        Raises:
            TypeError: Logits or targets are not tensors, or the main loss has no such keyword
                argument; checked in every phase.
            ValueError: The losses cannot be blended because their shapes differ, or a target
                outside [0, 1] would reach binary cross-entropy of torch (checked on the CPU).
        """
        tensor("logits", logits)
        tensor("targets", targets)
        if not self._main_takes_any and (unknown := kwargs.keys() - self._main_takes):
            raise TypeError(f"main_loss takes no argument {', '.join(sorted(unknown))}.")
        if self.training and self._needs_steps:
            self._warn_if_unseen("on_train_batch_start")

        if not self._uses_warmup:
            return self.main_loss(logits, targets, **kwargs)
        warmup = call_pointwise(
            self.warmup_loss, self._warmup_form, logits, targets, kwargs.get("sample_weight")
        )
        if not self._uses_main:
            return in_form_of(self.main_loss, warmup, logits, kwargs)

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
        return torch.tensor(self.schedule.progress, dtype=torch.int64, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Restore what `get_extra_state` returned."""
        if not isinstance(state, Tensor) or state.shape != (4,) or state.is_floating_point():
            raise ValueError(
                "The checkpoint's position in the schedule must be a tensor of four integers; got "
                f"{state!r}. It is of another module or version: leave the keys of the loss out "
                "(this one ends in '_extra_state'), load the others with strict=False, and call "
                "the hooks with the epoch and step to go on from."
            )
        self.schedule.progress = state.tolist()
        self._unseen_hooks.discard("on_train_epoch_start")
        self._follow_schedule()

    def extra_repr(self) -> str:
        """Describe the schedule, and a warm-up loss that is no module, for `print`."""
        text = f"{self.schedule}, reset_queue_each_epoch={self.reset_queue_each_epoch}"
        if isinstance(self.warmup_loss, nn.Module):
            return text
        name = getattr(self.warmup_loss, "__name__", repr(self.warmup_loss))
        return f"warmup_loss={name}, {text}"

    def _follow_schedule(self) -> None:
        # What forward reads is set here: under torch.compile it would guard on a step count, and
        # so recompile at every step, but a bool changes rarely and a float is an input.
        self._weight = self.main_weight
        self._uses_main = self._weight > 0
        self._uses_warmup = self._weight < 1
        annealing = self.schedule.anneals and self._main_has_temperature and self._uses_main
        self._needs_steps = annealing or self.schedule.warmup_steps is not None
        temperature = self.schedule.temperature
        if temperature is not None and self._main_has_temperature and not self.in_warmup:
            main: Any = self.main_loss
            main.temperature = temperature

    def _reset_queue(self) -> None:
        main: Any = self.main_loss
        if hasattr(main, "reset_queue"):
            main.reset_queue()

    def _warn_if_unseen(self, hook: str) -> None:
        if hook in self._unseen_hooks:
            self._unseen_hooks.discard(hook)
            warn(
                f"The schedule stands still because {hook} is never called; "
                "call it from the training loop."
            )
