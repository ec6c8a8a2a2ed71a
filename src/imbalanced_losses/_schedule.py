"""The warm-up schedule: when the main loss takes over, with what weight and temperature."""

import math
from dataclasses import dataclass

from imbalanced_losses._checks import integer, number


def main_weight_at(unit: int, blend: int, final: float) -> float:
    """Weight of the main loss in blend unit k = `unit` of K = `blend`, counted from the switch.

    It is 0 before the switch (k < 0), `final` (k + 1) / (K + 1) in the blend, `final` after it.
    """
    return 0.0 if unit < 0 else final * min(1.0, (unit + 1) / (blend + 1))


def temperature_at(steps: int, start: float, end: float, decay_steps: int) -> float:
    """Temperature after `steps` steps of a geometric path from `start` to `end`, where it stays."""
    return start * math.pow(end / start, min(1.0, max(0, steps) / decay_steps))


@dataclass
class Schedule:
    """The settings of `LossWarmupWrapper`, and how far training has come.

    The warm-up is counted in steps where `warmup_steps` is given, otherwise in epochs; likewise
    the blend. The switch is the first epoch and the first step after the warm-up.
    """

    warmup_epochs: int = 0
    temp_start: float | None = None
    temp_end: float | None = None
    temp_decay_steps: int = 10_000
    blend_epochs: int = 0
    warmup_steps: int | None = None
    blend_steps: int | None = None
    final_main_weight: float = 1.0

    epoch: int = 0
    step: int = 0
    switch_epoch: int | None = None
    first_main_step: int | None = None

    def __post_init__(self) -> None:
        self.warmup_epochs = integer("warmup_epochs", self.warmup_epochs, at_least=0)
        self.blend_epochs = integer("blend_epochs", self.blend_epochs, at_least=0)
        if self.warmup_steps is not None:
            self.warmup_steps = integer("warmup_steps", self.warmup_steps, at_least=0)
        if self.blend_steps is not None:
            self.blend_steps = integer("blend_steps", self.blend_steps, at_least=0)
        self.final_main_weight = number(
            "final_main_weight", self.final_main_weight, above=0, at_most=1
        )
        self._check_axes()
        if self.temp_start is not None:
            self.temp_start = number("temp_start", self.temp_start, above=0)
        if self.temp_end is not None:
            self.temp_end = number("temp_end", self.temp_end, above=0)
        self.temp_decay_steps = integer("temp_decay_steps", self.temp_decay_steps, at_least=1)
        if self.temp_end is not None and self.temp_start is None:
            raise ValueError(
                f"temp_end needs temp_start; got temp_end={self.temp_end:g} alone. Pass temp_start "
                "too, for instance the temperature that the main loss was built with."
            )

    def _check_axes(self) -> None:
        for axis, epochs, steps in (
            ("warmup", self.warmup_epochs, self.warmup_steps),
            ("blend", self.blend_epochs, self.blend_steps),
        ):
            if epochs and steps is not None:
                raise ValueError(
                    f"{axis}_epochs and {axis}_steps are mutually exclusive; "
                    f"got {epochs} and {steps}. Leave one out."
                )
        if self.blend_steps is not None and self.warmup_steps is None:
            raise ValueError(
                f"blend_steps needs warmup_steps; got blend_steps={self.blend_steps} alone. "
                "Pass warmup_steps too (0 for no warm-up), or blend_epochs instead."
            )

    @property
    def needs_epochs(self) -> bool:
        """Whether the schedule stands still unless it is told the epoch."""
        return bool(self.warmup_epochs or self.blend_epochs)

    @property
    def blend(self) -> int:
        """Length K of the blend."""
        return self.blend_steps or self.blend_epochs

    @property
    def unit(self) -> int:
        """Epochs or steps, whichever the blend counts, since the switch; before it negative."""
        if self.warmup_steps is None:
            return self.epoch - self.warmup_epochs
        steps = self.step - self.warmup_steps
        if steps < 0 or not self.blend_epochs:
            return steps
        return 0 if self.switch_epoch is None else self.epoch - self.switch_epoch

    @property
    def in_warmup(self) -> bool:
        return self.unit < 0

    @property
    def in_blend(self) -> bool:
        return 0 <= self.unit < self.blend

    @property
    def main_weight(self) -> float:
        return main_weight_at(self.unit, self.blend, self.final_main_weight)

    @property
    def anneals(self) -> bool:
        """Whether the temperature changes after the switch."""
        return self.temp_end is not None and self.temp_end != self.temp_start

    @property
    def switch_step(self) -> int | None:
        """First step after the warm-up: from the settings, or else the first one that was seen."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        return self.first_main_step if self.warmup_epochs else 0

    @property
    def temperature(self) -> float | None:
        """Temperature from the switch on; None leaves the main loss its own."""
        if self.temp_start is None:
            return None
        steps = 0 if self.switch_step is None else self.step - self.switch_step
        end = self.temp_start if self.temp_end is None else self.temp_end
        return temperature_at(steps, self.temp_start, end, self.temp_decay_steps)

    def start_epoch(self, epoch: int) -> bool:
        """Move to `epoch`; whether that ended the warm-up."""
        return self._move(epoch, self.step)

    def start_step(self, step: int) -> bool:
        """Move to `step`; whether that ended the warm-up."""
        switched = self._move(self.epoch, step)
        if self.first_main_step is None and not self.in_warmup:
            self.first_main_step = step
        return switched

    def _move(self, epoch: int, step: int) -> bool:
        was_in_warmup = self.in_warmup
        self.epoch, self.step = epoch, step
        if self.in_warmup:
            self.switch_epoch = self.first_main_step = None
        elif self.switch_epoch is None:
            self.switch_epoch = epoch
        return was_in_warmup and not self.in_warmup

    @property
    def progress(self) -> list[int]:
        """Epoch, step, and those of the switch (-1: not known yet); assign it to resume."""
        switch = (self.switch_epoch, self.switch_step)
        return [self.epoch, self.step, *(-1 if at is None else at for at in switch)]

    @progress.setter
    def progress(self, value: list[int]) -> None:
        self.epoch, self.step, *switch = value
        self.switch_epoch, self.first_main_step = (None if at < 0 else at for at in switch)
