"""Soft steps between all pairs of two short lists, and their sums weighed over one of them."""

from typing import Any

import torch
from torch import Tensor

from imbalanced_losses._kernel.soft_step import SMALLEST_EXPONENT, no_autocast


def weighted_steps(high: Tensor, low: Tensor, weights: Tensor, temperature: Tensor) -> Tensor:
    """sum_j weights_j sigma((high_i - low_j) / tau), differentiable in both lists.

    Args:
        high: `[C, P]`.
        low: `[C, B]`.
        weights: `[C, B]`, without gradient.
        temperature: tau > 0, `[C]`, without gradient.

    Returns:
        `[C, P]`, in O(P B) time and memory.
    """
    sums, _ = _WeightedSteps.apply(high, low, weights, temperature)  # type: ignore[no-untyped-call]
    result: Tensor = sums
    return result


class _WeightedSteps(torch.autograd.Function):
    @staticmethod
    def forward(
        high: Tensor, low: Tensor, weights: Tensor, temperature: Tensor
    ) -> tuple[Tensor, Tensor]:
        steps = steps_between(high, low, temperature.reciprocal().view(-1, 1, 1))
        with no_autocast(steps):
            sums = torch.bmm(steps, weights.unsqueeze(2)).squeeze(2)
        return sums, derivative_(steps).mul_(weights.unsqueeze(1))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        _, slopes = output
        ctx.save_for_backward(*inputs, slopes)
        ctx.mark_non_differentiable(slopes)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor | None, _: None
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        if grad is None:
            return None, None, None, None
        high, low, weights, temperature, slopes = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            slopes = differentiable_slopes(high, low, temperature) * weights.unsqueeze(1)
        grad = grad / temperature.unsqueeze(1)
        with no_autocast(slopes):
            pull = torch.bmm(grad.unsqueeze(1), slopes).squeeze(1)
        return grad * slopes.sum(2), -pull, None, None


def steps_between(high: Tensor, low: Tensor, rate: Tensor) -> Tensor:
    """Sigma((high_i - low_j) rate) of all pairs, `[C, P, B]`; `rate` is `[C, 1, 1]`.

    In place: half the time of this is waiting for fresh memory.
    """
    difference = (high.unsqueeze(2) - low.unsqueeze(1)).mul_(rate)
    return difference.clamp_(SMALLEST_EXPONENT, -SMALLEST_EXPONENT).sigmoid_()


def derivative_(steps: Tensor) -> Tensor:
    """Turn sigma into sigma', in its place."""
    return steps.addcmul_(steps, steps, value=-1)


def differentiable_slopes(high: Tensor, low: Tensor, temperature: Tensor) -> Tensor:
    """All pairs' sigma', `[C, P, B]`, for a gradient that is to be differentiated again."""
    steps = torch.sigmoid((high.unsqueeze(2) - low.unsqueeze(1)) / temperature.view(-1, 1, 1))
    return steps - steps.square()
