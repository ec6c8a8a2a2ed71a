"""What is measured: the list of cases, and one training step of each under an implementation."""

import importlib
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Case:
    """One loss at one size.

    Attributes:
        loss: Name of the loss's class in `imbalanced_losses`.
        shape: Shape of the logits; dim 1 holds the classes.
        settings: Constructor arguments beside the number of classes and the queue size.
        queue: Queue size of a ranking loss, None for a pointwise loss.
        positives: Share of positives of a one-class case.
        peer_goal: The peer's median time over ours must be at least this.
        torch_goal: Our median time over that of torch's own loss must be at most this.
        memory_goal: Our extra memory in MiB must be at most this.
    """

    loss: str
    shape: tuple[int, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    queue: int | None = None
    positives: float = 0.01
    peer_goal: float | None = None
    torch_goal: float | None = None
    memory_goal: float | None = None

    @property
    def name(self) -> str:
        """The loss and its settings, as a reader would name them."""
        options = ", ".join(str(value) for value in self.settings.values())
        return f"{self.loss.removesuffix('Loss')}{f' ({options})' if options else ''}"


def _pointwise() -> list[Case]:
    shapes = [(8192, 1000), (65536, 10), (8, 21, 128, 128)]
    return [
        *(Case("SoftmaxFocalLoss", shape, torch_goal=1.0) for shape in shapes),
        Case("SoftmaxFocalLoss", (256, 5)),
        Case("SigmoidFocalLoss", (65536, 10), torch_goal=2.3),
        Case("SigmoidFocalLoss", (256, 5)),
    ]


def _ranking() -> list[Case]:
    sizes = [((1024, 10), 8192), ((15360, 10), 0), ((256, 5), 1024), ((256, 1), 8192)]
    smooth_ap_goals = [20.0, 50.0, 1.0, 1.0]
    rest: list[tuple[str, dict[str, Any]]] = [
        ("RecallAtQuantileLoss", {}),
        ("PAUCAtBudgetLoss", {"surrogate": "trapezoid"}),
        ("PAUCAtBudgetLoss", {"surrogate": "pairwise"}),
    ]
    return [
        *(
            Case("SmoothAPLoss", shape, queue=queue, peer_goal=goal)
            for (shape, queue), goal in zip(sizes, smooth_ap_goals, strict=True)
        ),
        *(
            Case(loss, shape, settings, queue=queue, peer_goal=1.0)
            for loss, settings in rest
            for shape, queue in [*sizes, ((1024, 100), 8192)]
        ),
    ]


CASES = [*_ranking(), *_pointwise()]
SCALING = [
    *(Case("SmoothAPLoss", (2**k, 1), queue=0) for k in range(16, 20)),
    Case("SmoothAPLoss", (2**20, 1), queue=0, memory_goal=1500),
]
EXPONENT_GOAL = 1.2

QUICK_CASES = [
    Case("SmoothAPLoss", (64, 3), queue=64),
    Case("SoftmaxFocalLoss", (64, 3)),
]
QUICK_SCALING = [Case("SmoothAPLoss", (2**k, 1), queue=0) for k in (10, 11, 12)]


def training_step(case: Case, implementation: str) -> Callable[[], None]:
    """Return a function that does one forward and backward pass on the next of a few batches.

    The queue is full when this returns, and as many different batches go round as fill it once,
    so that the pool is one of distinct rows.
    """
    count = 1 if not case.queue else -(-case.queue // case.shape[0]) + 1
    batches = [_batch(case, torch.Generator().manual_seed(seed)) for seed in range(count)]
    loss = _torch_loss(case) if implementation == "torch" else _package_loss(case)
    if case.queue and implementation != "torch":
        with torch.no_grad():
            for logits, targets in batches:
                loss(logits, targets)
    turn = itertools.cycle(batches)

    def step() -> None:
        logits, targets = next(turn)
        logits.grad = None
        torch.autograd.backward(loss(logits, targets))

    return step


def _batch(case: Case, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
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
        targets = torch.randint(classes, (rows, *rest), generator=generator)
        logits += F.one_hot(targets, classes).movedim(-1, 1)
    return logits.requires_grad_(), targets


def _package_loss(case: Case) -> Callable[..., torch.Tensor]:
    ranking = {} if case.queue is None else {"num_classes": case.shape[1], "queue_size": case.queue}
    package = importlib.import_module("imbalanced_losses")
    loss: torch.nn.Module = getattr(package, case.loss)(**case.settings, **ranking)
    return loss


def _torch_loss(case: Case) -> Callable[..., torch.Tensor]:
    """Torch's own loss for the same targets."""
    if case.loss == "SigmoidFocalLoss":
        return F.binary_cross_entropy_with_logits
    if case.shape[1] == 1:
        return lambda logits, targets: F.binary_cross_entropy_with_logits(
            logits[:, 0], targets.float()
        )
    return F.cross_entropy
