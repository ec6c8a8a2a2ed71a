"""Errors of value and gradient against float64.

The reference is the formula as it reads, over all pairs, a chunk of positives at a time. Where the
pairs are too many, it is our own engine at float64, which the tests hold against all pairs.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.batches import Batch, batches_of
from benchmarks.cases import Case
from benchmarks.implementations import Loss
from benchmarks.steps import TrainingStep

ALL_PAIRS = "all pairs, float64"
FORMULA = "formula, float64"
OWN_ENGINE = "own engine, float64"
# Pairs in all classes that a reference takes, and cells of one chunk of them.
MOST_PAIRS = 3 * 10**8
CHUNK = 2**22
LEAST_GRADIENT = 1e-9

# Yields the parts of a class's quantity, whose sum it is: each carries its own gradient.
Quantity = Callable[[Tensor, Tensor], Iterator[Tensor]]


class Accuracy(NamedTuple):
    """Absolute error of the loss, and largest error of the gradient over its largest cell.

    A gradient whose largest cell is below `LEAST_GRADIENT` is none, and is held against that.
    """

    value_error: float
    gradient_error: float
    reference: str


class Reference(NamedTuple):
    """What a case's loss of its first batch should be, with a full queue."""

    value: float
    gradient: Tensor
    words: str


def of(step: TrainingStep) -> Accuracy:
    """The errors of the step's loss in its case."""
    return against(reference(step), step)


def against(expected: Reference, step: TrainingStep) -> Accuracy:
    """The errors of the step's loss of its first batch, with a full queue."""
    (logits, targets), *earlier = batches_of(step.case)
    _fill(step.loss, earlier)
    value, gradient = _value_and_gradient(step.call, logits, targets)
    scale = expected.gradient.abs().max().clamp(min=LEAST_GRADIENT)
    error = (gradient.double() - expected.gradient).abs().max() / scale
    return Accuracy(abs(value - expected.value), error.item(), expected.words)


def reference(step: TrainingStep) -> Reference:
    """Value and gradient in float64."""
    case = step.case
    (logits, targets), *earlier = batches_of(case)
    exact = logits.detach().double()
    if case.queue is None:
        return Reference(*_value_and_gradient(FOCAL[case.loss], exact, targets), FORMULA)
    pairs = case.classes * case.positive_rows * case.rows
    if case.loss == "SmoothAPLoss" and pairs > MOST_PAIRS:
        _fill(step.loss, earlier)
        return Reference(*_value_and_gradient(step.loss, exact, targets), OWN_ENGINE)
    # The queue keeps the newest rows.
    newest = earlier[::-1]
    pool = torch.cat((exact, *(past.detach().double() for past, _ in newest)))[: case.rows]
    labels = torch.cat((targets, *(past for _, past in newest)))[: case.rows]
    value, gradient = _over_classes(case, pool, labels)
    return Reference(value, gradient[: len(exact)], ALL_PAIRS)


def _fill(loss: Any, batches: list[Batch]) -> None:
    """Leave nothing but these batches in the queue, if there is one."""
    if hasattr(loss, "reset_queue"):
        loss.reset_queue()
        with torch.no_grad():
            for logits, targets in batches:
                loss(logits, targets)


def _value_and_gradient(loss: Loss, logits: Tensor, targets: Tensor) -> tuple[float, Tensor]:
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, targets)
    (gradient,) = torch.autograd.grad(value, logits)
    return value.item(), gradient


def _over_classes(case: Case, pool: Tensor, labels: Tensor) -> tuple[float, Tensor]:
    """One minus the mean quantity of the valid classes, and its gradient in the pool."""
    quantity = QUANTITIES[(case.loss, *case.settings.values())]
    by_class = pool.T.contiguous().requires_grad_()
    wanted = range(case.classes) if case.classes > 1 else [1]
    total, valid = 0.0, 0
    for scores, label in zip(by_class, wanted, strict=True):
        positive = labels == label
        if not 0 < int(positive.sum()) < len(labels):
            continue
        valid += 1
        # Part after part, so that no more than a chunk of pairs is ever held.
        for part in quantity(scores, positive):
            torch.autograd.backward(part)
            total += part.item()
    assert by_class.grad is not None
    return 1 - total / valid, -by_class.grad.T / valid


def _smooth_ap(scores: Tensor, positive: Tensor, temperature: float = 0.01) -> Iterator[Tensor]:
    rows = positive.nonzero().flatten()
    for chunk in torch.split(rows, max(1, CHUNK // len(scores))):
        above = torch.sigmoid((scores - scores[chunk, None]) / temperature)
        # A row counts itself as sigma(0) = 1/2 where its own rank is 1.
        rank, among_positives = above.sum(1) + 0.5, above[:, positive].sum(1) + 0.5
        yield (among_positives / rank).sum() / len(rows)


def _recall(scores: Tensor, positive: Tensor, temperature: float = 0.01) -> Iterator[Tensor]:
    threshold = _quantiles(scores, 0.995)
    yield torch.sigmoid((scores[positive] - threshold) / temperature).mean()


def _trapezoid(scores: Tensor, positive: Tensor) -> Iterator[Tensor]:
    ends, temperature = _band(scores[~positive])
    yield torch.sigmoid((scores[positive, None] - ends) / temperature).mean()


def _pairwise(scores: Tensor, positive: Tensor) -> Iterator[Tensor]:
    ends, temperature = _band(scores[~positive])
    inside = ~positive & (scores >= ends[1]) & (scores <= ends[0])
    rows = positive.nonzero().flatten()
    for chunk in torch.split(rows, max(1, CHUNK // max(1, int(inside.sum())))):
        above = torch.sigmoid((scores[chunk, None] - scores[inside]) / temperature)
        yield above.mean(1).sum() / len(rows)


def _band(negatives: Tensor, temperature: float = 0.1) -> tuple[Tensor, Tensor]:
    """Thresholds at false-positive rates 0 and 0.005, and the temperature over their IQR."""
    highest, lowest, upper, lower = _quantiles(negatives, 1.0, 0.995, 0.75, 0.25)
    return torch.stack((highest, lowest)), temperature * (upper - lower)


def _quantiles(scores: Tensor, *levels: float) -> Tensor:
    at = torch.tensor(levels, dtype=torch.float64, device=scores.device)
    return torch.quantile(scores.detach(), at, interpolation="higher")


QUANTITIES: dict[tuple[object, ...], Quantity] = {
    ("SmoothAPLoss",): _smooth_ap,
    ("RecallAtQuantileLoss",): _recall,
    ("PAUCAtBudgetLoss", "trapezoid"): _trapezoid,
    ("PAUCAtBudgetLoss", "pairwise"): _pairwise,
}


def _softmax_focal(logits: Tensor, targets: Tensor) -> Tensor:
    log_p = logits.log_softmax(1).gather(1, targets.unsqueeze(1))
    return -((1 - log_p.exp()).square() * log_p).mean()


def _sigmoid_focal(logits: Tensor, targets: Tensor) -> Tensor:
    sign = 2 * targets.double() - 1
    log_p = torch.nn.functional.logsigmoid(sign * logits)
    alpha = 0.75 - 0.5 * targets.double()
    return -(alpha * (1 - log_p.exp()).square() * log_p).mean()


FOCAL: dict[str, Loss] = {
    "SoftmaxFocalLoss": _softmax_focal,
    "SigmoidFocalLoss": _sigmoid_focal,
}
