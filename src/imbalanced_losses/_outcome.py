"""From a statistic of a pool to a loss on autograd's graph."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from imbalanced_losses._ops.precision import no_autocast
from imbalanced_losses._ops.runtime import apply, is_followed
from imbalanced_losses._pool import Pool
from imbalanced_losses._statistics.per_class import PerClass


class Outcome(NamedTuple):
    """A loss and the classes' losses, both on the graph."""

    loss: Tensor  # [], or [C] without a reduction
    value: Tensor  # [C], finite where not valid
    valid: Tensor  # [C] bool
    diagnostics: tuple[Tensor, ...]  # [C] each

    def returned(self, *, return_per_class: bool) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """What a module returns."""
        if not return_per_class:
            return self.loss
        return self.loss, self.value.masked_fill(~self.valid, torch.nan), self.valid


def outcome(
    statistic: Callable[[Pool, Tensor], PerClass],
    pool: Pool,
    temperature: Tensor,
    source: Tensor,
    reduction: str,
) -> Outcome:
    """A statistic of the pool, reduced over the valid classes, on the graph of `source`.

    The source, `[C, N]`, are the scores of the live rows. A valid class with a score that is not
    finite becomes NaN, in its gradient as well, so that a diverging step is seen by whoever watches
    either.
    """
    wants_slope = is_followed(source)

    def measured(pool: Pool, *, wants_slope: bool) -> PerClass:
        with no_autocast(source):
            found = statistic(pool._replace(wants_slope=wants_slope), temperature)
        if pool.poisoned is None:
            return found
        factor = torch.where(found.valid & pool.poisoned, torch.nan, 1.0)
        return found._replace(value=found.value * factor, slope=found.slope * factor.unsqueeze(1))

    def followed(live_scores: Tensor) -> Tensor:
        return measured(pool.with_live(live_scores), wants_slope=False).value

    value, valid, slope, diagnostics = measured(pool, wants_slope=wants_slope)
    share = valid.to(value.dtype)
    if reduction == "mean":
        share = share / share.sum().clamp(min=1)
    if wants_slope:
        again = None if torch.compiler.is_compiling() else followed
        total, value = apply(_Attached, source, value, pool.of_live(slope), share, again)
    else:
        total = (value * share).sum()
    loss = value.masked_fill(~valid, torch.nan) if reduction == "none" else total
    return Outcome(loss, value, valid, diagnostics)


class _Attached(torch.autograd.Function):
    """The sum of `share * value`, and `value`, with the gradient that their slope tells.

    source: `[C, N]`, on the graph.
    value: `[C]`, without gradient.
    slope: `[C, N]`, the derivative of each class's value in its row of the source.
    share: `[C]`.
    again: The values as a function of the source that autograd can follow, for a gradient that is
        to be differentiated again; None where that is not supported.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        source: Tensor,
        value: Tensor,
        slope: Tensor,
        share: Tensor,
        again: Callable[[Tensor], Tensor] | None,
    ) -> tuple[Tensor, Tensor]:
        return (value * share).sum(), value.view_as(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        source, _, slope, share, ctx.again = inputs
        ctx.save_for_backward(source, slope, share)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(
        ctx: Any, grad_total: Tensor | None, grad: Tensor | None
    ) -> tuple[Tensor | None, None, None, None, None]:
        source, slope, share = ctx.saved_tensors
        if grad_total is not None:
            by_total = share * grad_total
            grad = by_total if grad is None else grad + by_total
        if grad is None:
            return None, None, None, None, None
        if torch.is_grad_enabled() and ctx.again is not None:
            (by_source,) = torch.autograd.grad(ctx.again(source), source, grad, create_graph=True)
        else:
            by_source = grad.unsqueeze(1) * slope
        return by_source, None, None, None, None
