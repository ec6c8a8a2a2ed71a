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

# Logarithms of the kernel end here, and those of rows that take no part lie far below.
_LOWEST = -1e38


def thresholds_of(rows: Selection, knots: Tensor, tau: Tensor, reference: Tensor) -> Tensor:
    """The knots `[C, K]` as each of the R `rows` sees them, `[C, K, R]` or a shape that broadcasts.

    Live rows see thresholds that move with the live rows of the reference `[C, M]`, if there are
    any. Queued rows stand for scores that would move as well, were they computed anew, so the
    thresholds stand still for them: the gradient of a function of `score - threshold` then sums to
    zero over the live rows.
    """
    pool, fixed = rows.pool, knots.unsqueeze(2)
    if not is_followed(pool.scores):
        return fixed
    live = pool.live
    scores, member = pool.scores, reference & live
    if pool.first_live:
        scores, member = scores[:, pool.first_live :], member[:, pool.first_live :]
    moving = apply(_Moving, scores, knots, tau.expand(len(scores)), member)
    return torch.where(rows.of_rows(live).unsqueeze(-2), moving.unsqueeze(2), fixed)


class _Moving(torch.autograd.Function):
    """The knots, with the kernel's weights as their derivative in the scores.

    Not the gradient of any function, for its own derivative is not symmetric. So backward is the
    definition, and a second derivative is that of backward: the weights change with the scores and
    with the knots, which move.

    scores: `[C, N]`, on the graph.
    knots: `[C, K]`, without gradient.
    tau: `[C]`.
    member: `[C, N]` bool, the rows that move the knots.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(scores: Tensor, knots: Tensor, tau: Tensor, member: Tensor) -> Tensor:
        return knots.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        scores, _, tau, member = inputs
        ctx.save_for_backward(scores, output, tau, member)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        weights = _kernel_weights(*ctx.saved_tensors)
        return (grad.unsqueeze(2) * weights).sum(1), None, None, None


def _kernel_weights(scores: Tensor, knots: Tensor, tau: Tensor, member: Tensor) -> Tensor:
    """`[C, K, N]`, sums of 1 over the members of each class, or 0 where there is none."""
    away = (scores.unsqueeze(1) - knots.unsqueeze(2)) / tau.view(-1, 1, 1)
    # By logarithms: far from all members the kernel underflows, and the nearest takes all.
    kernel = (F.logsigmoid(away) + F.logsigmoid(-away)).clamp(min=_LOWEST)
    member = member.unsqueeze(1)
    return kernel.masked_fill(~member, 3 * _LOWEST).softmax(2) * member
