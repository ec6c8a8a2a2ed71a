"""Logit-adjusted, LDAM and asymmetric losses as their formulas read: cell by cell, in float64."""

from itertools import product

import torch

from reference_focal import _reduce, _weight


def cross_entropy(z, y):
    return torch.logsumexp(z, 0) - z[y]


def logit_adjusted_cell(z, y, counts, tau=1.0, label_smoothing=0.0):
    log_prior = torch.tensor([c / sum(counts) for c in counts], dtype=torch.float64).log()
    adjusted = z + tau * log_prior
    every = sum(cross_entropy(adjusted, c) for c in range(len(z))) / len(z)
    return (1 - label_smoothing) * cross_entropy(adjusted, y) + label_smoothing * every


def ldam_cell(z, y, counts, max_margin=0.5, scale=30.0, weight=None):
    roots = [count**-0.25 for count in counts]
    margin = max_margin * roots[y] / max(roots)
    lowered = torch.stack([z[c] - margin if c == y else z[c] for c in range(len(z))])
    return (1.0 if weight is None else weight[y]) * cross_entropy(scale * lowered, y)


def asymmetric_cell(x, t, gamma_neg=4.0, gamma_pos=1.0, clip=0.05):
    log_p, log_q = torch.nn.functional.logsigmoid(x), torch.nn.functional.logsigmoid(-x)
    shifted = log_p.exp() - clip
    positive = (gamma_pos * log_q).exp() * -log_p
    if clip == 0:
        negative = (gamma_neg * log_p).exp() * -log_q
    elif shifted <= 0:
        negative = 0 * x
    else:
        negative = shifted**gamma_neg * -torch.log(log_q.exp() + clip)
    return t * positive + (1 - t) * negative


def of_classes(cell, logits, targets, ignore_index=-100, sample_weight=None, reduction="mean", **k):
    shape = (logits.shape[0], *logits.shape[2:])
    cells, weights, positive = [], [], []
    for position in product(*map(range, shape)):
        where = (position[0], slice(None), *position[1:])
        z = logits[where].double()
        if targets.is_floating_point():
            shares = targets[where].tolist()
        elif targets[position] == ignore_index:
            cells.append(0 * z.sum())
            continue
        else:
            shares = [float(targets[position] == c) for c in range(len(z))]
        weight = _weight(sample_weight, position)
        cells.append(weight * sum(s * cell(z, y, **k) for y, s in enumerate(shares)))
        weights.append(weight)
        positive.append(1 - shares[0])
    cells = torch.stack(cells).view(shape)
    return _reduce(cells, weights, positive, reduction, sample_weight is not None)


def of_labels(cell, logits, targets, ignore_index=-100, sample_weight=None, reduction="mean", **k):
    cells, weights, positive = [], [], []
    for position in product(*map(range, logits.shape)):
        t, x = float(targets[position]), logits[position].double()
        if t == ignore_index:
            cells.append(0 * x)
            continue
        weight = _weight(sample_weight, position)
        cells.append(weight * cell(x, t, **k))
        weights.append(weight)
        positive.append(t)
    cells = torch.stack(cells).view(logits.shape)
    return _reduce(cells, weights, positive, reduction, sample_weight is not None)
