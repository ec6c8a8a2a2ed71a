"""Errors of value and gradient against float64, ours and those of the formula in plain float32.

The reference is the formula as it reads, over all pairs, a chunk of positives at a time. Where the
pairs are too many, it is our own engine at float64, which the tests hold against all pairs.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.cases import Batch, Case
from benchmarks.contenders import Loss
from benchmarks.measure import TrainingStep

FORMULA = "formula"
OWN_ENGINE = "own engine"
# Pairs in all classes that a reference takes, and cells of one chunk of them.
MOST_PAIRS = 10**8
CHUNK = 2**22
# A mean over N rows has a gradient of about 1 / N in a row. One whose largest cell is below this
# share of it has vanished (every positive lies many temperatures away from what it is compared
# with), and float32 cannot hold its ratio to another.
VANISHED = 1e-3

# Yields the parts of a class's quantity, whose sum it is: each carries its own gradient.
Quantity = Callable[[Tensor, Tensor], Iterator[Tensor]]


class Accuracy(NamedTuple):
    """Absolute error of the loss, and largest error of the gradient over its largest cell.

    The gradient's errors are None where the gradient has vanished; `plain_gradient_error` is that
    of the formula in float32, None where its pairs are too many.
    """

    value_error: float
    gradient_error: float | None
    plain_gradient_error: float | None
    reference: str


class Found(NamedTuple):
    """A case's loss of its first batch with a full queue, and the gradient in its logits."""

    value: float
    gradient: Tensor


def of(step: TrainingStep) -> Accuracy:
    """The errors of the step's loss in its case."""
    case = step.case
    (logits, targets), *earlier = step.batches
    words = FORMULA if _pairs_fit(case) else OWN_ENGINE
    expected = by_formula(step) if _pairs_fit(case) else by_own_engine(step)
    _fill(step.loss, earlier)
    found = _differentiate(step.call, logits, targets)
    plain = None
    if _pairs_fit(case) and case.dtype == "float32":
        plain = _gradient_error(by_formula(step, torch.float32), expected)
    value_error = abs(found.value - expected.value)
    return Accuracy(value_error, _gradient_error(found, expected), plain, words)


def by_formula(step: TrainingStep, dtype: torch.dtype = torch.float64) -> Found:
    """Value and gradient of the formula, over all pairs."""
    case = step.case
    (logits, targets), *earlier = step.batches
    exact = logits.detach().to(dtype)
    if case.queue is None:
        return _differentiate(FOCAL[case.loss], exact, targets)
    # The queue keeps the newest rows.
    newest = earlier[::-1]
    pool = torch.cat((exact, *(past.detach().to(dtype) for past, _ in newest)))[: case.rows]
    labels = torch.cat((targets, *(past for _, past in newest)))[: case.rows]
    value, gradient = _over_classes(case, pool, labels)
    return Found(value, gradient[: len(exact)])


def by_own_engine(step: TrainingStep) -> Found:
    """Value and gradient of our loss of the logits in float64."""
    (logits, targets), *earlier = step.batches
    _fill(step.loss, earlier)
    return _differentiate(step.loss, logits.detach().double(), targets)


def _pairs_fit(case: Case) -> bool:
    return (
        case.loss != "SmoothAPLoss" or case.classes * case.positive_rows * case.rows <= MOST_PAIRS
    )


def _gradient_error(found: Found, expected: Found) -> float | None:
    largest = expected.gradient.abs().max()
    rows = expected.gradient.numel() // expected.gradient.shape[1]
    if largest * rows < VANISHED:
        return None
    return ((found.gradient.double() - expected.gradient).abs().max() / largest).item()


def _fill(loss: Any, batches: list[Batch]) -> None:
    """Leave nothing but these batches in the queue, if there is one."""
    if hasattr(loss, "reset_queue"):
        loss.reset_queue()
        with torch.no_grad():
            for logits, targets in batches:
                loss(logits, targets)


def _differentiate(loss: Loss, logits: Tensor, targets: Tensor) -> Found:
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, targets)
    (gradient,) = torch.autograd.grad(value, logits)
    return Found(value.item(), gradient)


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
    """In float64, where no position of a row is rounded; which score it is does not change."""
    at = torch.tensor(levels, dtype=torch.float64, device=scores.device)
    found = torch.quantile(scores.detach().double(), at, interpolation="higher")
    return found.to(scores.dtype)


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
    targets = targets.to(logits.dtype)
    log_p = torch.nn.functional.logsigmoid((2 * targets - 1) * logits)
    alpha = 0.75 - 0.5 * targets
    return -(alpha * (1 - log_p.exp()).square() * log_p).mean()


FOCAL: dict[str, Loss] = {
    "SoftmaxFocalLoss": _softmax_focal,
    "SigmoidFocalLoss": _sigmoid_focal,
}
