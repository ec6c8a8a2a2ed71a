"""Autograd functions of the focal losses: value and slope of every cell, one pass each."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from imbalanced_losses._eager import readable

# A block this long stays in a core's cache together with the temporaries of `_sigmoid_terms`;
# passes over it cost half of what passes over main memory do.
_BLOCK = 32_768

# The softmax of rows shorter than a vector register is several times faster along columns.
_SHORT_ROW = 16


class _SoftmaxFocal(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        logits: Tensor, index: Tensor, valid: Tensor | None, gamma: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        log_p = _log_softmax(logits)
        value, pull = _softmax_terms(_pick(log_p, index), gamma)
        if valid is not None:
            value = value.masked_fill(~valid, 0)
        return value, pull, log_p

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        logits, index, valid, ctx.gamma = inputs
        _, pull, log_p = output
        ctx.mark_non_differentiable(pull, log_p)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(logits, index, valid, pull, log_p)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, None, None, None]:
        if grad is None:
            return None, None, None, None
        logits, index, valid, pull, log_p = ctx.saved_tensors
        twice = torch.is_grad_enabled()
        if twice:  # the gradient is to be differentiated again: tie it to the logits
            log_p = _log_softmax(logits)
            pull = _softmax_terms(_pick(log_p, index), ctx.gamma)[1]
        pull = (pull * grad).unsqueeze(1)
        if valid is not None:
            ignored = ~valid.unsqueeze(1)
            # Zero pull makes zero gradient, except where the probabilities are NaN.
            clean = readable(pull) and not (pull.isnan() & ignored).any()
            pull = pull.masked_fill(ignored, 0)
        p = log_p.exp()
        out = p * pull if twice else p.mul_(pull)
        out.scatter_add_(1, index.unsqueeze(1), -pull)
        if valid is not None and not clean:
            out = out.masked_fill_(ignored, 0)
        return out.to(logits.dtype), None, None, None


def softmax_focal(logits: Tensor, index: Tensor, valid: Tensor | None, gamma: float) -> Tensor:
    """-(1 - p_y)^gamma log p_y of every position, for softmax over dimension 1.

    `logits` `[N, C, ...]` of any floating dtype, `index` `[N, ...]` with classes in [0, C), `valid`
    like `index` or None: positions outside it get value and gradient zero, whatever their logits.
    Values, of the shape of `index`, are float32 or better.
    """
    value: Tensor = _SoftmaxFocal.apply(logits, index, valid, gamma)[0]  # type: ignore[no-untyped-call]
    return value


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
        terms = terms * (gamma * _log_one_minus(log_p)).exp()
    if alpha is not None:
        terms = terms * alpha
    return terms.sum(1)


class _SigmoidFocal(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        logits: Tensor, target: Tensor, alpha: float | None, gamma: float
    ) -> tuple[Tensor, Tensor]:
        if logits.numel() <= _BLOCK or not readable(logits):
            return _sigmoid_terms(logits, target, alpha, gamma)
        value, slope = (torch.empty(logits.shape, dtype=logits.dtype) for _ in range(2))
        blocks = (torch.split(t.reshape(-1), _BLOCK) for t in (logits, target, value, slope))
        for block_logits, block_target, block_value, block_slope in zip(*blocks, strict=True):
            terms = _sigmoid_terms(block_logits, block_target, alpha, gamma)
            block_value.copy_(terms[0])
            block_slope.copy_(terms[1])
        return value, slope

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        logits, target, ctx.alpha, ctx.gamma = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(logits, target, output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, None, None, None]:
        if grad is None:
            return None, None, None, None
        logits, target, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            slope = _sigmoid_terms(logits, target, ctx.alpha, ctx.gamma)[1]
        return slope * grad, None, None, None


def sigmoid_focal(logits: Tensor, target: Tensor, alpha: float | None, gamma: float) -> Tensor:
    """alpha_t |t - p|^gamma BCE of every cell; `logits` and `target` share shape and dtype."""
    value: Tensor = _SigmoidFocal.apply(logits, target, alpha, gamma)[0]  # type: ignore[no-untyped-call]
    return value


def _pick(log_p: Tensor, index: Tensor) -> Tensor:
    return log_p.gather(1, index.unsqueeze(1)).squeeze(1)


def _log_softmax(logits: Tensor) -> Tensor:
    dtype = torch.promote_types(logits.dtype, torch.float32)
    if logits.ndim == 2 and logits.shape[1] < _SHORT_ROW and logits.device.type == "cpu":
        return logits.t().log_softmax(0, dtype=dtype).t()
    return logits.log_softmax(1, dtype=dtype)


def _softmax_terms(log_p: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """-(1 - p)^gamma log p, and how fast it falls as log p grows.

    The second is (1 - p)^gamma (1 - gamma p log p / (1 - p)). It keeps log p over 1 - p together:
    their quotient tends to -1 as p -> 1, where (1 - p)^(gamma - 1) alone may be unbounded.
    """
    rest = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny)
    modulator = rest**gamma
    value = -modulator * log_p
    return value, torch.addcmul(modulator, log_p.exp(), value / rest, value=gamma)


def _log_one_minus(log_p: Tensor) -> Tensor:
    """log(1 - p) over dimension 1, also where p rounds to 1.

    Only the largest p can come near 1; its complement is summed from the others.
    """
    top = log_p.argmax(1, keepdim=True)
    others = log_p.scatter(1, top, -torch.inf)
    return torch.log1p(-others.exp()).scatter(1, top, others.logsumexp(1, keepdim=True))


def _sigmoid_terms(
    logits: Tensor, target: Tensor, alpha: float | None, gamma: float
) -> tuple[Tensor, Tensor]:
    """alpha_t |e|^gamma BCE and its derivative in the logits, with e = p - t.

    |e|^gamma = k e with k = sign(e) |e|^(gamma - 1), so both come from k:
    value = alpha_t k e BCE, slope = alpha_t k (gamma p (1 - p) BCE + e^2).
    In place only where autograd needs no input of the operation, for it may run through here.
    """
    bce = ((1 - target) * logits).sub_(logsigmoid(logits))
    p = logits.sigmoid()
    error = p - target
    if gamma == 0:
        k = None
    elif gamma == 2:
        k = error
    else:
        size = error.abs().clamp(min=torch.finfo(error.dtype).tiny)
        k = size ** (gamma - 1) * error.sign()
    if alpha is not None:
        alpha_t = (target * (2 * alpha - 1)).add_(1 - alpha)
        if k is None:
            return alpha_t * bce, alpha_t * error
        k = alpha_t * k
    if k is None:
        return bce, error
    weighted = k * bce
    slope = torch.addcmul(
        k * error * error, weighted, torch.addcmul(p, p, p, value=-1), value=gamma
    )
    return weighted * error, slope
