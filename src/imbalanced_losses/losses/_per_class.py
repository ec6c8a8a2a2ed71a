"""What a statistic of a pool returns for each class, and its way onto autograd's graph."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from imbalanced_losses._ops.precision import no_autocast
from imbalanced_losses._ops.runtime import (
    apply,
    below_autograd,
    calls_operators,
    is_compiling,
    is_followed,
)
from imbalanced_losses._pool.memory import Memory
from imbalanced_losses._pool.pool import Pool
from imbalanced_losses._pool.rows import Batch, Rows, finite_rows
from imbalanced_losses._pool.select import Selection, groups_of_like_size
from imbalanced_losses.losses._operator import KINDS, arguments, measure, name_of

# Up to so many cells, a few operations on each cost less than choosing the positives.
POINTWISE = 2**13
# Up to so many cells of padding, they cost less than a part of the classes more.
PADDING = 2**14


class PerClass(NamedTuple):
    """One loss per class; where not `valid`, the loss is finite, means nothing and has slope 0."""

    loss: Tensor  # [C]
    valid: Tensor  # [C] bool
    slope: Tensor | None = None  # derivative of the loss in the pool's scores from `first_live` on
    diagnostics: tuple[Tensor, ...] = ()  # [C] each

    def plus_slope(self, more: Tensor) -> "PerClass":
        """The same with more slope, where there is one."""
        return self._replace(slope=None if self.slope is None else self.slope + more)


class Statistic:
    """What a ranking loss reads off a pool: a frozen dataclass whose fields are its settings.

    `__post_init__` checks them, once.
    """

    # Whether a call returns the slope where the pool wants one. Otherwise autograd finds it, so the
    # call is made of differentiable operations on `pool.scores`.
    forms_slope: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        KINDS[name_of(cls)] = cls

    @property
    def diagnostic_dtypes(self) -> tuple[torch.dtype | None, ...]:
        """Of the diagnostics of a call that forms the slope; None: that of the scores."""
        return ()

    def __call__(self, pool: Pool, temperature: Tensor) -> PerClass:
        """The classes' losses for this pool at this temperature `[]`."""
        raise NotImplementedError

    def measured(self, pool: Pool, temperature: Tensor) -> PerClass:
        """The same, NaN for a valid class with a score that is not finite, in its slope as well.

        So a diverging step is seen by whoever watches either.
        """
        unfollowed = below_autograd() if pool.wants_slope else nullcontext()
        with no_autocast(pool.scores), unfollowed:
            found = self(pool, temperature)
        if pool.nonfinite is None:
            return found
        factor = torch.where(found.valid & pool.nonfinite, torch.nan, 1.0)
        slope = None if found.slope is None else found.slope * factor.unsqueeze(1)
        return found._replace(loss=found.loss * factor, slope=slope)


def shares_of(
    mass: Tensor, usable: Tensor | None = None, partners: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mass `[C, K]` as shares of its class's total, and the classes that are valid `[C]`.

    With `partners` `[C]`, the number of rows that each of the K is paired with, as the share of one
    of its pairs. A class is valid if it is `usable` and has mass and partners. The shares of the
    others are 0.
    """
    total = mass.sum(1)
    if partners is not None:
        total = total * partners
    valid = total > 0 if usable is None else (total > 0) & usable
    return mass / total.where(valid, torch.inf).unsqueeze(1), valid


def one_minus_mean(
    rows: Selection, terms: Tensor, slopes: Tensor | None, usable: Tensor | None = None
) -> PerClass:
    """1 - the weighted mean over `rows` of `terms` `[C, K]`, each a function of its own score.

    `slopes` `[C, K]` are the derivatives of the terms; None where they are not wanted.
    """
    shares, valid = shares_of(rows.mass(), usable)
    slope = None if slopes is None else rows.slope((shares * slopes).neg_())
    return PerClass(1 - (shares * terms).sum(1), valid, slope)


def by_size(pool: Pool, statistic: Callable[[Pool], PerClass], *, padding: int) -> PerClass:
    """A statistic, formed apart for classes of unlike numbers of positives.

    The positives of each class are padded to those of the largest, which does many times the work
    where one class has most of the rows.
    """
    groups = groups_of_like_size(pool.positive, padding)
    if len(groups) < 2:
        return statistic(pool)
    parts = [statistic(pool.of_classes(group)) for group in groups]
    order = torch.cat(groups).argsort()
    loss, valid, slope, diagnostics = zip(*parts, strict=True)

    def joined(of_groups: tuple[Tensor, ...]) -> Tensor:
        return torch.cat(of_groups)[order]

    return PerClass(
        joined(loss),
        joined(valid),
        None if slope[0] is None else joined(slope),
        tuple(map(joined, zip(*diagnostics, strict=True))),
    )


class Outcome(NamedTuple):
    """A loss and the classes' losses, both on the graph."""

    loss: Tensor  # [], or [C] without a reduction
    per_class: Tensor  # [C], finite where not valid
    valid: Tensor  # [C] bool
    diagnostics: tuple[Tensor, ...]  # [C] each

    def returned(self, *, return_per_class: bool) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """What a module returns."""
        if not return_per_class:
            return self.loss
        return self.loss, self.per_class.masked_fill(~self.valid, torch.nan), self.valid


def outcome_of(
    statistic: Statistic,
    rows: Rows,
    batch: Batch,
    memory: Memory,
    temperature: Tensor,
    reduction: str,
    on_subsample: Callable[[Pool], None] | None = None,
) -> tuple[Outcome, tuple[Tensor, Pool] | None]:
    """A statistic of the pool, reduced over the valid classes, on the graph of the rows' scores.

    The rows are those of the batch. With the outcome come the scores `[C, N]` that it was formed
    of and their pool, None where a compiler does not see these.
    """
    has_gradient = is_followed(rows.scores)
    # Where autograd is to find the slope, the compiler has to see the operations.
    if statistic.forms_slope and calls_operators(rows.scores):
        given = arguments(statistic, batch, memory, temperature, wants_slope=has_gradient)
        loss, valid, slope, told = measure(*given)
        dtypes = [dtype or loss.dtype for dtype in statistic.diagnostic_dtypes]
        diagnostics = tuple(map(Tensor.to, told.unbind(), dtypes))
        found = PerClass(loss, valid, slope if has_gradient else None, diagnostics)
        return _reduced(found, rows.scores, reduction, None), None
    live, nonfinite = finite_rows(rows)
    source = live.scores
    pool = memory.pooled(live, nonfinite, on_subsample)

    def followed(live_scores: Tensor) -> PerClass:
        joined = pool.with_live(live_scores)._replace(wants_slope=False)
        return statistic.measured(joined, temperature)

    if has_gradient and not statistic.forms_slope:
        return _reduced(followed(source), source, reduction, None), (source, pool)
    found = statistic.measured(pool._replace(wants_slope=has_gradient), temperature)
    if found.slope is not None:
        found = found._replace(slope=pool.of_live(found.slope))
    again = None if is_compiling() else followed
    return _reduced(found, source, reduction, again), (source, pool)


def _reduced(
    found: PerClass, source: Tensor, reduction: str, again: Callable[[Tensor], PerClass] | None
) -> Outcome:
    """A loss of the classes' losses, on the graph of the `source` `[C, live rows]`.

    That is where they are already, or where their slope `[C, live rows]` puts them.
    """
    per_class, valid, slope, diagnostics = found
    if reduction == "mean" and len(valid) > 1:
        share = valid / valid.sum(dtype=per_class.dtype).clamp(min=1)
    else:
        share = valid.to(per_class.dtype)
    if slope is None:
        total = (per_class * share).sum()
    else:
        total, per_class = apply(_Attached, source, per_class, slope, share, again)
    loss = per_class.masked_fill(~valid, torch.nan) if reduction == "none" else total
    return Outcome(loss, per_class, valid, diagnostics)


class _Attached(torch.autograd.Function):
    """The sum of `share * per_class`, and `per_class`, with the gradient that their slope tells.

    source: `[C, N]`, on the graph.
    per_class: `[C]`, without gradient.
    slope: `[C, N]`, the derivative of each class's loss in its row of the source.
    share: `[C]`.
    again: The statistic as a function of the source that autograd can follow, for a gradient that
        is to be differentiated again; None where that is not supported.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        source: Tensor,
        per_class: Tensor,
        slope: Tensor,
        share: Tensor,
        again: Callable[[Tensor], PerClass] | None,
    ) -> tuple[Tensor, Tensor]:
        return (per_class * share).sum(), per_class.view_as(per_class)

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
            # Unlike torch.autograd.grad, this also works inside a transform of torch.func.
            pull = torch.func.vjp(lambda scores: ctx.again(scores).loss, source)[1]
            (by_source,) = pull(grad)
        else:
            by_source = grad.unsqueeze(1) * slope
        return by_source, None, None, None, None
