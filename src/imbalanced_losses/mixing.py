"""A pointwise and a ranking loss in one sum, with their gradients in a stated ratio."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from imbalanced_losses import _checks
from imbalanced_losses._ops.runtime import is_plain
from imbalanced_losses._pointwise_call import call_form, call_pointwise, frozen_queues, in_form_of
from imbalanced_losses.distributed import (
    describe,
    failing_together,
    resolve_gather,
    sum_across_ranks,
)
from imbalanced_losses.losses._module import Loss

__all__ = ["MixedLoss"]

# Bounds of k as multiples of the ratio. A ranking gradient that is a thousand times smaller than
# the pointwise one is dead or noise, and to scale it up further would train on rounding.
_BOUND = 1e3
# The state in a checkpoint: mean squares of both norms, k, and training steps seen.
_STATE = 4


class MixedLoss(Loss):
    """Pointwise loss + k * ranking loss, with k such that their gradients have a stated ratio.

    The safe way to a ranking loss. Left alone, the ratio of the two gradients runs over orders of
    magnitude within one training (from 0.03 to 19 in our study). Here

        k = ratio * sqrt(m_p / m_r),    m_p and m_r running means of |g_p|^2 and |g_r|^2,

    where g_p and g_r are the gradients of the two losses on the logits, all rows and classes of the
    batch. k is a constant to autograd, lies within a factor of 1,000 of the ratio, and is kept as
    it is on a step on which one of the gradients is zero or not finite. To balance gradient norms
    is the idea of Chen, Badrinarayanan, Lee and Rabinovich, "GradNorm", ICML 2018,
    https://arxiv.org/abs/1711.02257, there with learnt weights.

    Mixed with Smooth-AP at a ratio of 1, linear models won on 30 of 57 sets against cross-entropy,
    lost on 21, and were clearly worse on one. The mean of four networks so trained won on 22 of 27
    sets that it was not chosen on; no other gain of a mix held (`benchmarks/evidence`). A ratio of
    3 moves more, both ways. Many features and few positives overfit the ranking term, so keep
    cross-entropy alone as the control, and stop early on the metric of your goal.

    - **Accumulation**: every batch is measured by itself, so a loss that is divided by the number
      of accumulated batches changes nothing, and the means of squares make k right for the joined
      gradient of the accumulated batches.
    - **Several ranks**: where the ranking loss gathers, squares are summed over the ranks, and k is
      on all of them what one process on the joined batch has.
    - **Compilation**: the gradients are measured outside of the graph. Compile the model.

    Args:
        pointwise: Any module or function called as `pointwise(logits, targets)` that returns a
            scalar, such as `nn.CrossEntropyLoss()`. `nn.BCEWithLogitsLoss` and the pointwise losses
            of this library get targets in the shape of the logits.
        ranking: A ranking loss with `reduction` "mean" or "sum".
        ratio: Norm of k * g_r over that of g_p, above 0.
        warmup_steps: Training steps in which the pointwise loss is alone, at least 0; about a tenth
            of the training. Counted by `on_train_batch_start` where that is called, as Hugging
            Face's `LossScheduleCallback` does, otherwise by calls in training mode.
        decay: Of the running means, in [0, 1).

    Raises:
        TypeError: `pointwise` cannot be called, `ranking` is no module, or a setting has the wrong
            type.
        ValueError: A setting is out of range, or `ranking` has `reduction="none"`.

    Examples:
        >>> from imbalanced_losses import SmoothAPLoss
        >>> loss_fn = MixedLoss(nn.BCEWithLogitsLoss(), SmoothAPLoss(1, temperature=0.2))
        >>> logits = torch.tensor([0.3, -0.2, 0.1, 0.4], requires_grad=True)
        >>> loss_fn(logits, torch.tensor([1, 0, 0, 0])).backward()
        >>> round(loss_fn.k, 3)
        0.33
    """

    pointwise: Any  # a module, or a function

    def __init__(
        self,
        pointwise: Callable[..., Any],
        ranking: nn.Module,
        ratio: float = 1.0,
        *,
        warmup_steps: int = 0,
        decay: float = 0.95,
    ) -> None:
        super().__init__()
        if not callable(pointwise) or isinstance(pointwise, type):
            raise TypeError(f"pointwise must be an nn.Module or a function; got {pointwise!r}.")
        if not isinstance(ranking, nn.Module):
            raise TypeError(f"ranking must be an nn.Module; got {ranking!r}.")
        if getattr(ranking, "reduction", "mean") == "none":
            raise ValueError("ranking must have reduction 'mean' or 'sum'; got 'none'.")
        self.ratio = _checks.number("ratio", ratio, above=0)
        self.warmup_steps = _checks.integer("warmup_steps", warmup_steps, at_least=0)
        self.decay = _checks.number("decay", decay, at_least=0, below=1)
        self.pointwise = pointwise
        self.ranking = ranking
        self._form = call_form(pointwise)
        self._step = 0
        self._is_told = False
        self._freezes = 0
        # m_p, m_r and k. Before the first measurement k is the ratio.
        self._means = torch.tensor([0.0, 0.0, self.ratio], dtype=torch.float64, device="cpu")

    @property
    def k(self) -> float:
        """The present factor of the ranking loss."""
        return float(self._means[2])

    @property
    def in_warmup(self) -> bool:
        """Whether the pointwise loss is alone."""
        return self._step < self.warmup_steps

    @property
    def temperature(self) -> float:
        """The temperature of the ranking loss; may be assigned."""
        ranking: Any = self.ranking
        return float(ranking.temperature)

    @temperature.setter
    def temperature(self, value: float) -> None:
        ranking: Any = self.ranking
        ranking.temperature = value

    @property
    def num_classes(self) -> int:
        """C of the ranking loss."""
        ranking: Any = self.ranking
        return int(ranking.num_classes)

    def on_train_epoch_start(self, epoch: int) -> None:
        """Say that an epoch begins; the mix does not depend on it."""

    def on_train_batch_start(self, global_step: int) -> None:
        """Say that a training step begins; they are numbered from 0 through all epochs."""
        self._step = _checks.integer("global_step", global_step, at_least=0)
        self._is_told = True

    def reset_queue(self) -> None:
        """Forget the rows of all earlier batches."""
        ranking: Any = self.ranking
        ranking.reset_queue()

    @contextmanager
    def frozen_queue(self) -> Iterator[None]:
        """Compute without writing to the queue or to k, for more evaluations of one step."""
        self._freezes += 1
        try:
            with frozen_queues(self.pointwise, self.ranking):
                yield
        finally:
            self._freezes -= 1

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, logits: Tensor, targets: Tensor, **kwargs: Any) -> Any:
        """Loss of a batch.

        Args:
            logits: What both losses take, for instance `[N, C]`.
            targets: Class indices `[N]`, or whatever else both losses take.
            **kwargs: Passed to the ranking loss. `sample_weight` also reaches a pointwise loss that
                has a parameter of that name.

        Returns:
            The loss; where the ranking loss returns a tuple (`return_per_class=True`), that tuple
            with the mixed loss in the first place. In the warm-up the classes are NaN there.

        Raises:
            TypeError: Logits or targets are not tensors, or for what the losses refuse.
            ValueError: The pointwise loss is not a scalar, or for what the losses refuse.
        """
        _checks.tensor("logits", logits)
        _checks.tensor("targets", targets)
        gathers = not self.in_warmup and resolve_gather(
            getattr(self.ranking, "gather_distributed", False)
        )
        with failing_together(logits) if gathers else nullcontext():
            pointwise = call_pointwise(
                self.pointwise, self._form, logits, targets, kwargs.get("sample_weight")
            )
            if pointwise.ndim:
                raise ValueError(
                    f"pointwise must return a scalar; got shape {list(pointwise.shape)}. "
                    "Use reduction='mean'."
                )
        writes = self.training and not self._freezes
        if self.in_warmup:
            returned = in_form_of(self.ranking, pointwise, logits, kwargs)
        else:
            returned = self.ranking(logits, targets, **kwargs)
            ranking, *rest = returned if isinstance(returned, tuple) else (returned,)
            if writes and torch.is_grad_enabled() and logits.requires_grad and is_plain(logits):
                self._measure(pointwise, ranking, logits, gathers)
            k = self._means[2].to(ranking, copy=True)
            loss = pointwise + k * ranking
            returned = (loss, *rest) if isinstance(returned, tuple) else loss
        if writes and not self._is_told:
            self._step += 1
        return returned

    def get_extra_state(self) -> Tensor:
        """Running means, k and the step, as a tensor that any checkpoint format can hold."""
        step = torch.tensor([self._step], dtype=torch.float64, device="cpu")
        return torch.cat((self._means.cpu(), step))

    def set_extra_state(self, state: Tensor) -> None:
        """Restore what `get_extra_state` returned."""
        if not isinstance(state, Tensor) or state.shape != (_STATE,) or not (state >= 0).all():
            raise ValueError(
                f"The checkpoint's state of a MixedLoss must be {_STATE} numbers of at least 0; "
                f"got {state!r}. It is of another module or version: remove its key '_extra_state' "
                "and load with strict=False to measure the gradients anew."
            )
        self._means.copy_(state[:3])
        self._step = int(state[3])

    def extra_repr(self) -> str:
        """Settings, for `repr`."""
        return f"ratio={self.ratio:g}, warmup_steps={self.warmup_steps}, decay={self.decay:g}"

    def _measure(self, pointwise: Tensor, ranking: Tensor, logits: Tensor, gathers: bool) -> None:
        """Follow the norms of both gradients, and set k."""
        squares = torch.stack([_square_of_gradient(loss, logits) for loss in (pointwise, ranking)])
        with torch.no_grad():
            if gathers:
                # Every rank's gradient is averaged later, so all have one factor too many alike.
                call = describe(type(self).__name__, logits.dtype, [])
                squares = torch.stack(sum_across_ranks(squares[0], squares[1], call))
            if self._means.device != squares.device and not squares.is_meta:
                self._move(squares.device)
            means = self._means[:2]
            moved = squares.lerp(means, self.decay).where(means > 0, squares)
            low, high = self.ratio / _BOUND, self.ratio * _BOUND
            k = (self.ratio * (moved[:1] / moved[1:]).sqrt()).clamp(low, high)
            usable = (squares.isfinite() & (squares > 0)).all()
            self._means.copy_(torch.where(usable, torch.cat((moved, k)), self._means))

    def _held(self) -> Tensor:
        return self._means

    def _move(self, device: torch.device) -> None:
        with torch.inference_mode(False):
            self._means = self._means.to(device)


def _square_of_gradient(loss: Tensor, logits: Tensor) -> Tensor:
    """Sum of the squares of the gradient of the loss on the logits, float64 `[]`."""
    if not loss.requires_grad:
        return torch.zeros((), dtype=torch.float64, device=logits.device)
    (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True, materialize_grads=True)
    return gradient.detach().double().square().sum()
