"""The data of a case."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.cases import Case

Batch = tuple[Tensor, Tensor]


def batches_of(case: Case) -> Iterator[Batch]:
    """Different batches, as many as fill the queue and one more; the same ones at every call."""
    count = 1 if not case.queue else -(-case.queue // case.shape[0]) + 1
    for seed in range(count):
        yield _batch(case, torch.Generator().manual_seed(seed))


def _batch(case: Case, generator: torch.Generator) -> Batch:
    """Logits in which the target's is shifted up by 1: a ranking neither random nor perfect."""
    rows, classes, *rest = case.shape
    logits = torch.randn(case.shape, generator=generator)
    if case.loss == "SigmoidFocalLoss":
        targets = (torch.rand(case.shape, generator=generator) < 1 / classes).float()
        logits += targets
    elif classes == 1:
        targets = (torch.rand(rows, generator=generator) < case.positives).long()
        logits += targets[:, None]
    else:
        # Shuffled, so that every class has its share exactly.
        order = torch.randperm(rows * math.prod(rest), generator=generator)
        targets = (order % classes).view(rows, *rest)
        if case.head:
            of_head = order < case.head * len(order)
            targets = torch.where(of_head, 0, 1 + order % (classes - 1)).view(rows, *rest)
        logits += F.one_hot(targets, classes).movedim(-1, 1)
    dtype: torch.dtype = getattr(torch, case.dtype)
    if targets.is_floating_point():
        targets = targets.to(dtype)
    return logits.to(case.device, dtype).requires_grad_(), targets.to(case.device)
