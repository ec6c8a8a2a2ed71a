"""One training step of a case: a forward and a backward pass on the next of a few batches."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.batches import Batch, batches_of
from benchmarks.cases import Case
from benchmarks.implementations import Loss


class TrainingStep:
    """A loss with a full queue, and the batches that go round.

    As many different batches go round as fill the queue once, so that the pool is one of distinct
    rows.

    Attributes:
        case: What is measured.
        loss: The loss as it was made.
        call: The same, compiled where the case says so.
    """

    def __init__(self, case: Case, make: Callable[[Case], Loss]) -> None:
        batches = list(batches_of(case))
        self.case = case
        self.loss = make(case)
        self.call: Loss = self.loss
        if case.mode == "compiled":
            torch.compiler.reset()
            self.call = torch.compile(self.loss, fullgraph=True, dynamic=False)
        if case.queue and isinstance(self.loss, torch.nn.Module):
            with torch.no_grad():
                for logits, targets in batches:
                    self.loss(logits, targets)
        self._batches = batches
        self._turn = itertools.cycle(batches)

    def batch(self) -> Batch:
        """The next batch, without a gradient."""
        logits, targets = next(self._turn)
        logits.grad = None
        return logits, targets

    def release(self) -> None:
        """Free the gradients of earlier steps."""
        for logits, _ in self._batches:
            logits.grad = None

    def forward(self, batch: Batch) -> Tensor:
        """The loss."""
        return self.call(*batch)

    def backward(self, value: Tensor) -> None:
        """Its gradient."""
        torch.autograd.backward(value)

    def __call__(self) -> None:
        """Both."""
        self.backward(self.forward(self.batch()))
