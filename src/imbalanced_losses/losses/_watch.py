"""A look at the gradient of a ranking loss while it trains, where looking costs next to nothing."""

from typing import NamedTuple

import torch
from torch import Tensor

from imbalanced_losses._ops.runtime import readable
from imbalanced_losses._pool.pool import Pool
from imbalanced_losses.losses._per_class import Outcome
from imbalanced_losses.losses._spread import standard_deviations

# A step is dead if no derivative of the loss in a live score, times the range of the live scores,
# reaches FLAT, although a valid class has a loss above GOAL. So many dead steps in a row are said.
FLAT = 1e-6
GOAL = 0.05
STEPS = 50
# A look takes a tenth of a small step: while all is well, one step in so many is looked at.
_INTERVAL = 10


class Finding(NamedTuple):
    """What is to be said of a gradient that has been dead for long."""

    loss: float  # the largest of the valid classes
    spread: float  # the largest standard deviation of the pool's scores in a class above GOAL

    def message(self, name: str, temperature: float, tau_scale: str | None) -> str:
        """The warning, for a loss of this name and settings; None: it has no such setting."""
        unit = "" if tau_scale in (None, "none") else f" of tau_scale={tau_scale!r}"
        cure = "Assign a larger temperature."
        if tau_scale == "none":
            cure = (
                'Pass tau_scale="std" and a temperature of about 0.2, which is then a share of '
                "that spread, or a larger temperature."
            )
        return (
            f"{name} has had next to no gradient for {STEPS} training steps in a row, although a "
            f"class's loss is {self.loss:.3g}. temperature={temperature:g}{unit} is too small for "
            f"scores whose spread (standard deviation) is {self.spread:.3g}: the soft step is flat "
            f"where they are. {cure} This is said once."
        )


class GradientWatch:
    """Counts dead training steps in a row; no part of a loss's state."""

    def __init__(self) -> None:
        self.steps = 0
        self.dead_steps = 0
        self.finding: Finding | None = None
        self.has_found = False

    def look(self, source: Tensor, pool: Pool, outcome: Outcome) -> None:
        """Have the backward pass of the outcome judge the gradient that reaches its source.

        The gradient is judged by what was passed to the loss: a factor on the loss, as a gradient
        scaler's, is none of its doing.
        """
        node = outcome.loss.grad_fn
        if self.has_found or node is None or source.numel() == 0:
            return
        self.steps += 1
        if not self.dead_steps and self.steps % _INTERVAL != 1:
            return
        upstream: list[Tensor] = []
        scores, per_class = source.detach(), outcome.per_class.detach()

        def keep(grads: tuple[Tensor | None, ...]) -> None:
            upstream[:] = [grad for grad in grads if grad is not None and readable(grad)]

        def judge(grad: Tensor) -> None:
            if self.has_found or not (upstream and readable(grad)):
                return
            factor = max(map(_peak, upstream))
            low, high = torch.aminmax(scores)
            # Comparisons with NaN are false: a diverging step is not dead.
            if not _peak(grad) * (high.item() - low.item()) < FLAT * factor:
                self.dead_steps = 0
                return
            far = outcome.valid & (per_class > GOAL)
            if not far.any():
                self.dead_steps *= not outcome.valid.any()  # without a valid class: no word on it
                return
            self.dead_steps += 1
            if self.dead_steps == STEPS:
                spread = standard_deviations(pool.scores.detach(), pool.valid)[far].max().item()
                self.finding = Finding(per_class[far].max().item(), spread)
                self.has_found = True

        node.register_prehook(keep)
        source.register_hook(judge)  # type: ignore[no-untyped-call]

    def take_finding(self) -> Finding | None:
        """What is to be said, once."""
        finding, self.finding = self.finding, None
        return finding


def _peak(values: Tensor) -> float:
    low, high = torch.aminmax(values.detach())
    return max(-low.item(), high.item())
