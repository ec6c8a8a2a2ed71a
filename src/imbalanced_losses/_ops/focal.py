"""Autograd functions of the focal losses: value and slope of every cell, one pass each.

Both return the cells or, where these are only to be summed, their total, so that the array of the
values need not be written.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from imbalanced_losses._ops.runtime import apply, may_overwrite_saved, readable

# Passes over a block this long and the scratch of `_sigmoid_terms` stay in a core's caches, where
# they take half as long as in main memory; in shorter blocks what an operation costs by itself
# shows.
_BLOCK = 2**17
# Arrays that `_sigmoid_terms` writes.
_OUTPUTS = 5

# The softmax of rows shorter than a vector register is several times faster along columns.
_SHORT_ROW = 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8


class _SoftmaxFocal(torch.autograd.Function):
    """Of the large arrays it keeps only log p.

    That is an output, which ties it to the logits for a second derivative. Then alone it has a
    gradient of its own, that of a log-softmax.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        logits: Tensor, index: Tensor, valid: Tensor | None, gamma: float, total: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        log_p = _log_softmax(logits)
        value, pull = _softmax_terms(log_p.gather(1, index), gamma)
        if valid is not None:
            value = value.masked_fill(~valid, 0)
        return value.sum() if total else value, log_p, pull

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        logits, index, valid, ctx.gamma, _ = inputs
        _, log_p, pull = output
        ctx.dtype = logits.dtype
        ctx.mark_non_differentiable(pull)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(index, valid, log_p, pull)

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor | None, grad_log_p: Tensor | None, _: None
    ) -> tuple[Tensor | None, None, None, None, None]:
        index, valid, log_p, pull = ctx.saved_tensors
        ignored = None if valid is None else ~valid
        out, clean = None, False
        if grad is not None:
            if torch.is_grad_enabled():  # the gradient is to be differentiated again
                pull = _softmax_pull(log_p.gather(1, index), ctx.gamma)
            pull = pull * grad
            if ignored is not None:
                # Zero pull makes zero gradient, except where the probabilities are NaN.
                clean = readable(pull) and not (pull.isnan() & ignored).any()
                pull = pull.masked_fill(ignored, 0)
            if may_overwrite_saved(pull):
                out = log_p.detach().exp_().mul_(pull).scatter_add_(1, index, pull.neg_())
            else:
                out = pull * (log_p.exp() - _one_hot(index, log_p))
        if grad_log_p is not None:
            through = grad_log_p - log_p.exp() * grad_log_p.sum(1, keepdim=True)
            out, clean = through if out is None else out + through, False
        if out is None:
            return None, None, None, None, None
        if ignored is not None and not clean:
            out = out.masked_fill(ignored, 0)
        return out.to(ctx.dtype), None, None, None, None


def softmax_focal(
    logits: Tensor, index: Tensor, valid: Tensor | None, gamma: float, *, total: bool = False
) -> Tensor:
    """-(1 - p_y)^gamma log p_y of every position, for softmax over dimension 1, or their `total`.

    `logits` `[N, C, ...]` of any floating dtype, `index` `[N, ...]` with classes in [0, C), `valid`
    like `index` or None: positions outside it get value and gradient zero, whatever their logits.
    Values, of the shape of `index`, are float32 or better.
    """
    columns = None if valid is None else valid.unsqueeze(1)
    value: Tensor = apply(_SoftmaxFocal, logits, index.unsqueeze(1), columns, gamma, total)[0]
    return value if total else value.squeeze(1)


def softmax_focal_expected(
    logits: Tensor, target: Tensor, alpha: Tensor | None, gamma: float, label_smoothing: float
) -> Tensor:
    """Mean over y ~ `target` of alpha_y (1 - p_y)^gamma CE(logits, y; label_smoothing).

    `logits` and `target` `[N, C, ...]`, `alpha` `[C, 1, ...]`; returns `[N, ...]`. Written in
    differentiable operations, so that every transform of torch works on it. With one-hot targets
    and no smoothing it is what `softmax_focal` computes at a fraction of the time.
    """
    log_p = _log_softmax(logits)
    smooth = -log_p.mean(1, keepdim=True) * label_smoothing
    terms = target * (smooth - (1 - label_smoothing) * log_p)
    if gamma > 0:
        terms = terms * (gamma * log_one_minus(log_p)).exp()
    if alpha is not None:
        terms = terms * alpha
    return terms.sum(1)


class _SigmoidFocal(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        logits: Tensor, target: Tensor, alpha: float | None, gamma: float, total: bool
    ) -> tuple[Tensor, Tensor]:
        if logits.numel() <= _BLOCK or not readable(logits):
            value, slope = _sigmoid_terms(logits, target, alpha, gamma)
            return value.sum() if total else value, slope
        # The slope, and the values where they are wanted; what is only passed through is scratch.
        kept = [logits.new_empty(logits.shape) for _ in range(1 if total else 2)]
        scratch = logits.new_empty(_OUTPUTS - len(kept), _BLOCK)
        sums = []
        blocks = (torch.split(t.reshape(-1), _BLOCK) for t in (logits, target, *kept))
        for x, t, *out in zip(*blocks, strict=True):
            value, _ = _sigmoid_terms(x, t, alpha, gamma, out=[*out, *scratch[:, : len(x)]])
            if total:
                sums.append(value.sum())
        return torch.stack(sums).sum() if total else kept[1], kept[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        logits, target, ctx.alpha, ctx.gamma, _ = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(logits, target, output[1])

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor | None, _: None
    ) -> tuple[Tensor | None, None, None, None, None]:
        if grad is None:
            return None, None, None, None, None
        logits, target, slope = ctx.saved_tensors
        if may_overwrite_saved(grad):
            return slope.detach().mul_(grad), None, None, None, None
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            slope = _sigmoid_slope(logits, target, ctx.alpha, ctx.gamma)
        return slope * grad, None, None, None, None


def sigmoid_focal(
    logits: Tensor,
    target: Tensor,
    alpha: float | Tensor | None,
    gamma: float,
    *,
    total: bool = False,
) -> Tensor:
    """alpha_t |t - p|^gamma BCE of every cell, or their `total`.

    `logits` and `target` share shape and dtype; `alpha` is a number or broadcasts to them.
    """
    if isinstance(alpha, Tensor):
        alpha_t = torch.lerp(1 - alpha, alpha, target)
        value = sigmoid_focal(logits, target, None, gamma) * alpha_t
        return value.sum() if total else value
    if gamma == 0:
        value = binary_cross_entropy_with_logits(logits, target, reduction="none")
        value = value if alpha is None else _times_alpha_t(value, target, alpha)
        return value.sum() if total else value
    focal: Tensor = apply(_SigmoidFocal, logits, target, alpha, gamma, total)[0]
    return focal


def _log_softmax(logits: Tensor) -> Tensor:
    dtype = torch.float32 if logits.dtype.itemsize < 4 else logits.dtype
    if logits.ndim != 2 or logits.shape[1] >= _SHORT_ROW or not readable(logits):
        return logits.log_softmax(1, dtype=dtype)
    if torch.is_grad_enabled() or logits.numel() <= _BLOCK:
        return logits.t().log_softmax(0, dtype=dtype).t()
    # In blocks, for the softmax copies what is not contiguous.
    log_p = torch.empty(logits.shape[::-1], dtype=dtype).t()
    blocks = (torch.split(t, _BLOCK // logits.shape[1]) for t in (logits, log_p))
    for block_logits, block_log_p in zip(*blocks, strict=True):
        block_log_p.copy_(block_logits.t().log_softmax(0, dtype=dtype).t())
    return log_p


def _one_hot(index: Tensor, like: Tensor) -> Tensor:
    """1 at the `index` in dimension 1, by a comparison: a compiler fuses it with what follows."""
    classes = torch.arange(like.shape[1], device=like.device)
    return (index == classes.view(-1, *[1] * (like.ndim - 2))).to(like.dtype)


def _softmax_terms(log_p: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """-(1 - p)^gamma log p, and how fast it falls as log p grows.

    With e = p - 1 and k = sign(e) |e|^(gamma - 1) they are -k e log p and k (e + gamma p log p).
    """
    error = _shortfall(log_p, gamma)
    k = _modulator(error, gamma)
    pull = torch.addcmul(error, log_p.exp(), log_p, value=gamma).mul_(k)
    return (error * log_p).mul_(k).neg_(), pull


def _softmax_pull(log_p: Tensor, gamma: float) -> Tensor:
    """The second of `_softmax_terms` in operations that autograd can follow."""
    error = _shortfall(log_p, gamma)
    return (error + gamma * log_p.exp() * log_p) * _modulator(error, gamma)


def _shortfall(log_p: Tensor, gamma: float) -> Tensor:
    """The `p - 1` of log p, below 0 where its powers are taken, so gamma 0 stays cross-entropy."""
    error = torch.expm1(log_p)
    return error if gamma == 2 else error.clamp(max=-torch.finfo(log_p.dtype).tiny)


def log_one_minus(log_p: Tensor) -> Tensor:
    """log(1 - p) over dimension 1, also where p rounds to 1.

    Only the largest p can come near 1; its complement is summed from the others.
    """
    top = log_p.argmax(1, keepdim=True)
    others = log_p.scatter(1, top, -torch.inf)
    return torch.log1p(-others.exp()).scatter(1, top, others.logsumexp(1, keepdim=True))


def _sigmoid_terms(
    logits: Tensor,
    target: Tensor,
    alpha: float | None,
    gamma: float,
    *,
    out: Sequence[Tensor | None] = (None,) * _OUTPUTS,
) -> tuple[Tensor, Tensor]:
    """alpha_t |e|^gamma BCE and its derivative in the logits, with e = p - t and gamma > 0.

    |e|^gamma = k e with k = sign(e) |e|^(gamma - 1), so both come from k:
    value = alpha_t k e BCE, slope = alpha_t k (gamma p (1 - p) BCE + e^2).
    BCE = max(x, 0) - t x + log(1 + exp(-|x|)), where nothing cancels in easy cells. The slope, the
    value and three temporaries take the memory `out`, where it is given. In place elsewhere, but
    only on what depends on all that is mixed in, as vmap demands.
    """
    of_slope, of_value, first, second, third = out
    tail = torch.abs(logits, out=first).neg_().exp_().log1p_()
    bce = torch.clamp(logits, min=0, out=of_value)
    bce = torch.addcmul(bce, logits, target, value=-1, out=of_value).add_(tail)
    p = torch.sigmoid(logits, out=first)
    error = torch.sub(p, target, out=second)
    variance = torch.addcmul(p, p, p, value=-1, out=first)
    squares = torch.mul(error, error, out=of_slope)
    slope = torch.addcmul(squares, variance, bce, value=gamma, out=of_slope)
    k = _modulator(error, gamma)
    if alpha is not None:
        k = _times_alpha_t(k, target, alpha, out=third)
    return bce.mul_(k).mul_(error), slope.mul_(k)


def _sigmoid_slope(logits: Tensor, target: Tensor, alpha: float | None, gamma: float) -> Tensor:
    """The slope of `_sigmoid_terms` in operations that autograd can follow."""
    bce = binary_cross_entropy_with_logits(logits, target, reduction="none")
    p = logits.sigmoid()
    error = p - target
    slope = _modulator(error, gamma) * (gamma * p * (1 - p) * bce + error * error)
    return slope if alpha is None else _times_alpha_t(slope, target, alpha)


def _modulator(error: Tensor, gamma: float) -> Tensor:
    """sign(e) |e|^(gamma - 1), finite where e is 0; the error itself where it is that."""
    if gamma == 2:
        return error
    return error.abs().clamp(min=torch.finfo(error.dtype).tiny) ** (gamma - 1) * error.sign()


def _times_alpha_t(x: Tensor, target: Tensor, alpha: float, *, out: Tensor | None = None) -> Tensor:
    """`x` (alpha t + (1 - alpha) (1 - t)), expanded: this takes two operations, not three."""
    of_negatives = torch.mul(x, 1 - alpha, out=out)
    return torch.addcmul(of_negatives, x, target, value=2 * alpha - 1, out=out)
