"""What is measured, as data: one list of cases, the batches of each, and networks."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Case:
    """One loss at one size.

    Attributes:
        loss: Name of the loss's class in `imbalanced_losses`.
        shape: Shape of the logits; dim 1 holds the classes.
        queue: Queue size of a ranking loss, None for a pointwise loss.
        settings: Constructor arguments beside the number of classes and the queue size.
        positives: Share of positives where there is one class.
        head: Share of the first of several classes, the others sharing the rest; 0: all equal.
        network: Name in `NETWORKS`: a whole training step is measured. "": the loss alone.
        dtype: Name of the logits' dtype.
        device: "cpu" or "cuda".
        mode: "eager" or "compiled".
        sweep: What grows in the series that the case belongs to, "rows" or "classes"; "": none.
    """

    loss: str
    shape: tuple[int, ...]
    queue: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    positives: float = 0.01
    head: float = 0.0
    network: str = ""
    dtype: str = "float32"
    device: str = "cpu"
    mode: str = "eager"
    sweep: str = ""

    @property
    def name(self) -> str:
        """The loss and its settings, as a reader would name them."""
        options = ", ".join(str(value) for value in self.settings.values())
        return f"{self.loss.removesuffix('Loss')}{f' ({options})' if options else ''}"

    @property
    def size(self) -> str:
        """Shape, queue, head class and network, and what departs from float32, CPU and eager."""
        usual = {"dtype": "float32", "device": "cpu", "mode": "eager"}
        unusual = [
            value for name, default in usual.items() if (value := getattr(self, name)) != default
        ]
        queue = [] if self.queue is None else [f"queue {self.queue}"]
        head = [f"head {self.head:.0%}"] if self.head else []
        network = [f"in {self.network}"] if self.network else []
        return " ".join(["x".join(map(str, self.shape)), *queue, *head, *network, *unusual])

    @property
    def key(self) -> str:
        """What tells the case from every other, and what `--only` searches."""
        return f"{self.name} {self.size}"

    @property
    def classes(self) -> int:
        """C, the number of one-vs-rest problems."""
        return self.shape[1]

    @property
    def rows(self) -> int:
        """M, the rows of a ranking loss's pool: the batch and the queue."""
        return self.shape[0] + (self.queue or 0)

    @property
    def positive_rows(self) -> float:
        """P, the expected number of positives of a class in the pool."""
        return self.rows * (self.positives if self.classes == 1 else 1 / self.classes)

    def batches(self) -> Iterator[Batch]:
        """As many batches as fill the queue, and one more; the same ones at every call."""
        count = 1 if not self.queue else -(-self.queue // self.shape[0]) + 1
        for seed in range(count):
            yield _batch(self, torch.Generator().manual_seed(seed))


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


def mlp(classes: int) -> tuple[nn.Module, tuple[int, ...]]:
    """Two hidden layers on a table of 64 columns."""
    layers = (nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
    return nn.Sequential(*layers, nn.Linear(128, classes)), (64,)


class _Block(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(inside, outside, 3, stride), nn.ReLU(), *_convolution(outside, outside, 3)
        )
        self.shortcut: nn.Module = nn.Identity()
        if inside != outside:
            self.shortcut = nn.Sequential(*_convolution(inside, outside, 1, stride))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.relu(self.body(inputs) + self.shortcut(inputs))


def _convolution(inside: int, outside: int, size: int, stride: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inside, outside, size, stride, padding=size // 2, bias=False)
    return convolution, nn.BatchNorm2d(outside)


def resnet18(classes: int) -> tuple[nn.Module, tuple[int, ...]]:
    """He et al., CVPR 2016, https://arxiv.org/abs/1512.03385, on pictures of 64 x 64 pixels."""
    layers: list[nn.Module] = [*_convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    widths = (64, 64, 128, 256, 512)
    for inside, outside in itertools.pairwise(widths):
        layers += [_Block(inside, outside, outside // inside), _Block(outside, outside, 1)]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes))
    return nn.Sequential(*layers, *head), (3, 64, 64)


# Each makes a network of so many classes, and says the shape of one of its inputs.
NETWORKS: dict[str, Callable[[int], tuple[nn.Module, tuple[int, ...]]]] = {
    "MLP": mlp,
    "ResNet-18": resnet18,
}


smooth_ap = partial(Case, "SmoothAPLoss")
recall = partial(Case, "RecallAtQuantileLoss")
trapezoid = partial(Case, "PAUCAtBudgetLoss", settings={"surrogate": "trapezoid"})
pairwise = partial(Case, "PAUCAtBudgetLoss", settings={"surrogate": "pairwise"})
softmax_focal = partial(Case, "SoftmaxFocalLoss")
sigmoid_focal = partial(Case, "SigmoidFocalLoss")

RANKING = (smooth_ap, recall, trapezoid, pairwise)
POINTWISE = (softmax_focal, sigmoid_focal)

CASES = [
    # Pointwise losses, from dense logits to a batch in which the number of operators decides.
    softmax_focal((65536, 10)),
    softmax_focal((8192, 1000)),
    softmax_focal((8, 21, 128, 128)),
    softmax_focal((262144, 5)),
    softmax_focal((4096, 10)),
    softmax_focal((256, 5)),
    sigmoid_focal((65536, 10)),
    sigmoid_focal((8, 21, 128, 128)),
    sigmoid_focal((256, 5)),
    *(loss((65536, 10), dtype="bfloat16") for loss in POINTWISE),
    # Ranking losses: the default queue, a long one, and a large batch without one.
    *(loss((256, 5), 1024) for loss in RANKING),
    *(loss((256, 5), 0) for loss in RANKING),
    *(loss((1024, 10), 8192) for loss in RANKING),
    *(loss((1024, 10), 8192, head=0.8) for loss in RANKING),
    *(loss((1024, 100), 8192) for loss in (recall, trapezoid, pairwise)),
    *(loss((15360, 10), 0) for loss in RANKING),
    *(loss((256, 1), 8192) for loss in RANKING),
    smooth_ap((1024, 10), 8192, dtype="bfloat16"),
    # Retrieval's Smooth-AP wants classes of one size.
    smooth_ap((255, 5), 0),
    # What a loss adds to a whole training step.
    *(loss((256, 5), 1024, network="MLP") for loss in RANKING),
    softmax_focal((256, 5), network="MLP"),
    smooth_ap((32, 5), 1024, network="ResNet-18"),
    smooth_ap((32, 5), 1024),
    # What grows how.
    *(loss((4**k, 1), 0, sweep="rows") for k in range(5, 11) for loss in RANKING),
    *(smooth_ap((4096, classes), 0, sweep="classes") for classes in (3, 10, 30, 100, 300)),
    # Compiled, beside torch's own, compiled.
    *(loss((65536, 10), mode="compiled") for loss in POINTWISE),
    *(loss((256, 5), mode="compiled") for loss in POINTWISE),
    *(loss((256, 5), 1024, mode="compiled") for loss in RANKING),
    *(loss((1024, 10), 8192, mode="compiled") for loss in RANKING),
    # An accelerator.
    *(softmax_focal((65536, 1000), device="cuda", mode=mode) for mode in ("eager", "compiled")),
    softmax_focal((262144, 10), device="cuda"),
    softmax_focal((8, 21, 512, 512), device="cuda"),
    sigmoid_focal((8, 80, 128, 128), device="cuda"),
    *(loss((256, 1), 1024, device="cuda") for loss in RANKING),
    *(loss((1024, 10), 8192, device="cuda") for loss in RANKING),
    *(loss((16384, 1), 65536, device="cuda") for loss in RANKING),
    *(loss((2**20, 1), 0, device="cuda") for loss in RANKING),
]

QUICK = [
    *(loss((128, 4), 128) for loss in RANKING),
    *(loss((256, 4)) for loss in POINTWISE),
    softmax_focal((256, 4), dtype="bfloat16"),
    softmax_focal((256, 4), mode="compiled"),
    softmax_focal((64, 3), network="MLP"),
    *(smooth_ap((rows, 1), 0, sweep="rows") for rows in (200, 400, 800, 1600, 3200)),
]


def find(key: str) -> Case:
    """The case with this key."""
    return next(case for case in [*CASES, *QUICK] if case.key == key)
