"""The focal losses as their formulas read: cell by cell, in float64, gradients by autograd."""

from itertools import product

import pytest
import torch

from imbalanced_losses.focal_loss import SigmoidFocalLoss, SoftmaxFocalLoss

DOUBLE = torch.float64

LOSSES = {
    "sigmoid": (SigmoidFocalLoss, lambda z: (torch.arange(z.numel()) % 2).view(z.shape)),
    "softmax": (SoftmaxFocalLoss, lambda z: torch.arange(len(z)) % z.shape[1]),
    "smoothed": (
        lambda **o: SoftmaxFocalLoss(label_smoothing=0.1, **o),
        lambda z: torch.arange(len(z)) % z.shape[1],
    ),
}
each_loss = pytest.mark.parametrize(("make", "target_of"), LOSSES.values(), ids=LOSSES)


def value_and_grad(loss_fn, logits, targets, **options):
    """Value, and gradient of a sum of the values with unequal weights."""
    logits = logits.detach().clone().requires_grad_()
    value = loss_fn(logits, targets, **options)
    scale = torch.linspace(0.5, 2, value.numel(), dtype=value.dtype).view(value.shape)
    (value * scale).sum().backward()
    return value.detach(), logits.grad


def softmax_cell(z, y, alpha, gamma, label_smoothing):
    """One position with class `y`; the complement of p_y is summed, so no digit is lost."""
    log_p = z - torch.logsumexp(z, 0)
    rest = sum(log_p[c].exp() for c in range(len(z)) if c != y)
    modulator = rest**gamma if rest > 0 else float(gamma == 0)
    ce = -(1 - label_smoothing) * log_p[y] - label_smoothing * log_p.mean()
    return (1 if alpha is None else alpha[y]) * modulator * ce


def sigmoid_cell(x, t, alpha, gamma):
    log_p, log_q = torch.nn.functional.logsigmoid(x), torch.nn.functional.logsigmoid(-x)
    distance = log_q.exp() if t == 1 else (log_p.exp() - t).abs()
    weight = 1 if alpha in (None, -1) else alpha * t + (1 - alpha) * (1 - t)
    modulator = distance**gamma if distance > 0 else float(gamma == 0)
    return weight * modulator * -(t * log_p + (1 - t) * log_q)


def softmax_focal_loss(
    logits,
    targets,
    *,
    alpha=None,
    gamma=2.0,
    reduction="mean",
    label_smoothing=0.0,
    ignore_index=-100,
    background_class=0,
    sample_weight=None,
):
    classes, shape = logits.shape[1], (logits.shape[0], *logits.shape[2:])
    cells, weights, positive = [], [], []
    for position in product(*map(range, shape)):
        n, rest = position[0], position[1:]
        z = logits[(n, slice(None), *rest)].to(DOUBLE)
        if targets.is_floating_point():
            shares = targets[(n, slice(None), *rest)].tolist()
        elif targets[position] == ignore_index:
            cells.append(0 * z.sum())
            continue
        else:
            shares = [float(targets[position] == c) for c in range(classes)]
        loss = sum(
            share * softmax_cell(z, y, alpha, gamma, label_smoothing)
            for y, share in enumerate(shares)
            if share > 0
        )
        weight = _weight(sample_weight, position)
        cells.append(weight * loss)
        weights.append(weight)
        positive.append(1 - shares[background_class])
    cells = torch.stack(cells).view(shape) if cells else logits.to(DOUBLE).sum().expand(shape)
    return _reduce(cells, weights, positive, reduction, sample_weight is not None)


def sigmoid_focal_loss(
    logits,
    targets,
    *,
    alpha=0.25,
    gamma=2.0,
    reduction="mean",
    ignore_index=None,
    sample_weight=None,
):
    cells, weights, positive = [], [], []
    for position in product(*map(range, logits.shape)):
        t, x = float(targets[position]), logits[position].to(DOUBLE)
        if t == ignore_index:
            cells.append(0 * x)
            continue
        weight = _weight(sample_weight, position)
        cells.append(weight * sigmoid_cell(x, t, alpha, gamma))
        weights.append(weight)
        positive.append(t)
    cells = (
        torch.stack(cells).view(logits.shape)
        if cells
        else logits.to(DOUBLE).sum().expand(logits.shape)
    )
    return _reduce(cells, weights, positive, reduction, sample_weight is not None)


def _weight(sample_weight, position):
    if sample_weight is None:
        return 1.0
    return float(sample_weight[position[: sample_weight.ndim]])


def _reduce(cells, weights, positive, reduction, weighted):
    if reduction == "none":
        return cells
    if reduction == "sum":
        return cells.sum()
    shares = positive if reduction == "mean_positive" else [1.0] * len(weights)
    mass = sum(w * s for w, s in zip(weights, shares, strict=True))
    if weighted:
        return cells.sum() / (mass if mass > 0 else 1)
    return cells.sum() / max(mass, 1)
