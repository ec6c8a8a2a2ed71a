r"""Thresholds that carry gradient: the quantile's derivative, estimated with a kernel.

A quantile of n scores moves with one score, or two, and with a density of them in truth. Around a
threshold theta the derivative in the score of row j is estimated as

    w_j = K((s_j - theta) / tau) / sum over l of K((s_l - theta) / tau),    K = sigma',

with j and l among the rows of the threshold's reference that carry gradient (Mackey, Luo and Eban,
"Constrained Classification and Ranking via Quantiles", 2018, https://arxiv.org/abs/1803.00067).
The weights sum to 1, so theta moves with a common shift of these rows just as their scores do.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from imbalanced_losses._ops.runtime import apply, is_followed
from imbalanced_losses._pool.select import Selection
from imbalanced_losses.losses._per_class import shares_of

# Logarithms of the kernel end here, and those of rows that take no part lie far below.
_LOWEST = -1e38


def thresholds_of(rows: Selection, knots: Tensor, tau: Tensor, reference: Tensor) -> Tensor:
    """The knots `[C, K]` as each of the R `rows` sees them, `[C, K, R]` or a shape that broadcasts.

    Live rows see thresholds that move with the live rows of the reference `[C, M]`, if there are
    any. Queued rows stand for scores that would move as well, were they computed anew, so the
    thresholds stand still for them: the gradient of a function of `score - threshold` then sums to
    zero over the live rows. Where autograd does not follow the scores, nothing moves.
    """
    pool, fixed = rows.pool, knots.unsqueeze(2)
    if not is_followed(pool.scores):
        return fixed
    moving = apply(_Moving, *_movers(rows, reference), knots, tau.expand(len(knots)))
    return torch.where(rows.of_rows(pool.live).unsqueeze(-2), moving.unsqueeze(2), fixed)


def slope_through(
    rows: Selection,
    by_knot: Tensor,
    knots: Tensor,
    tau: Tensor,
    reference: Tensor,
    usable: Tensor | None = None,
) -> Tensor:
    """What moving thresholds add to the slope of `one_minus_mean`, from the first live column on.

    `by_knot` `[C, K, R]` are the derivatives of the rows' terms in their score minus each knot, and
    `usable` `[C]` is that of `one_minus_mean`. Autograd finds the same through `thresholds_of`.
    """
    shares, _ = shares_of(rows.mass(), usable)
    push = (by_knot * (shares * rows.of_rows(rows.pool.live)).unsqueeze(1)).sum(2)
    weights = _kernel_weights(*_movers(rows, reference), knots, tau.expand(len(knots)))
    return (push.unsqueeze(2) * weights).sum(1)


def _movers(rows: Selection, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Scores from the first live column on, and which of them move the thresholds, `[C, N]`."""
    pool = rows.pool
    member = reference & pool.live
    return pool.from_first_live(pool.scores), pool.from_first_live(member)


class _Moving(torch.autograd.Function):
    """The knots, with the kernel's weights as their derivative in the scores.

    Not the gradient of any function, for its own derivative is not symmetric. So backward is the
    definition, and a second derivative is that of backward: the weights change with the scores and
    with the knots, which move.

    scores: `[C, N]`, on the graph.
    member: `[C, N]` bool, the rows that move the knots.
    knots: `[C, K]`, without gradient.
    tau: `[C]`.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(scores: Tensor, member: Tensor, knots: Tensor, tau: Tensor) -> Tensor:
        return knots.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        scores, member, _, tau = inputs
        ctx.save_for_backward(scores, member, output, tau)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        weights = _kernel_weights(*ctx.saved_tensors)
        return (grad.unsqueeze(2) * weights).sum(1), None, None, None


def _kernel_weights(scores: Tensor, member: Tensor, knots: Tensor, tau: Tensor) -> Tensor:
    """`[C, K, N]`, sums of 1 over the members of each class, or 0 where there is none."""
    away = (scores.unsqueeze(1) - knots.unsqueeze(2)) / tau.view(-1, 1, 1)
    # By logarithms: far from all members the kernel underflows, and the nearest takes all.
    kernel = (F.logsigmoid(away) + F.logsigmoid(-away)).clamp(min=_LOWEST)
    member = member.unsqueeze(1)
    return kernel.masked_fill(~member, 3 * _LOWEST).softmax(2) * member
