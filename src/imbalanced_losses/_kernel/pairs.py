"""Soft counts from all pairs of two lists: the way for lists that are short."""

from typing import Any

import torch
from torch import Tensor

from imbalanced_losses._eager import apply
from imbalanced_losses._kernel.soft_step import no_autocast, soft_steps_


def pair_counts(queries: Tensor, sources: Tensor, weights: Tensor, temperature: Tensor) -> Tensor:
    """sum_j weights_wj sigma((sources_j - queries_i) / tau), differentiable in both lists.

    Args:
        queries: `[C, Q]`.
        sources: `[C, S]`.
        weights: `[C, W, S]`, without gradient.
        temperature: tau > 0, `[C]`, without gradient.

    Returns:
        `[C, W, Q]`, in O(Q S) time and memory.
    """
    counts: Tensor = apply(_PairCounts, queries, sources, weights, temperature)[0]
    return counts


class _PairCounts(torch.autograd.Function):
    @staticmethod
    def forward(
        queries: Tensor, sources: Tensor, weights: Tensor, temperature: Tensor
    ) -> tuple[Tensor, Tensor]:
        rate = temperature.reciprocal().view(-1, 1, 1)
        steps = soft_steps_((sources.unsqueeze(1) - queries.unsqueeze(2)).mul_(rate))
        with no_autocast(steps):
            counts = torch.bmm(weights, steps.mT)
        return counts, slopes_(steps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        _, matrix = output
        ctx.save_for_backward(*inputs, matrix)
        ctx.mark_non_differentiable(matrix)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor | None, _: None
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        if grad is None:
            return None, None, None, None
        queries, sources, weights, temperature, matrix = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            matrix = differentiable_slopes(queries, sources, temperature)
        grad = grad / temperature.view(-1, 1, 1)
        return *pair_gradients(matrix, weights, grad), None, None


def pair_gradients(matrix: Tensor, weights: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the queries and of the sources, from the slopes of all pairs `[C, Q, S]`.

    `grad` `[C, W, Q]` is that of the counts, divided by tau.
    """
    with no_autocast(matrix):
        slopes, pulls = torch.bmm(weights, matrix.mT), torch.bmm(grad, matrix)
    return -(grad * slopes).sum(1), (weights * pulls).sum(1)


def slopes_(steps: Tensor) -> Tensor:
    """Turn sigma into sigma', in its place."""
    return steps.addcmul_(steps, steps, value=-1)


def differentiable_slopes(queries: Tensor, sources: Tensor, temperature: Tensor) -> Tensor:
    """Slopes of all pairs `[C, Q, S]`, for a gradient that is to be differentiated again."""
    difference = sources.unsqueeze(1) - queries.unsqueeze(2)
    steps = torch.sigmoid(difference / temperature.view(-1, 1, 1))
    return steps - steps.square()
