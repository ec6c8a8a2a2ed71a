"""What is measured: one declarative list of cases, each with its goals."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.goals import Goal, at_most, faster, megabytes, milliseconds, no_more_memory, passes

PEER = "imbalanced-losses"


@dataclass(frozen=True)
class Case:
    """One loss at one size.

    Attributes:
        loss: Name of the loss's class in `imbalanced_losses`.
        shape: Shape of the logits; dim 1 holds the classes.
        queue: Queue size of a ranking loss, None for a pointwise loss.
        goals: Bounds on our median of forward and backward, on one thread.
        settings: Constructor arguments beside the number of classes and the queue size.
        positives: Share of positives where there is one class.
        head: Share of the first of several classes, the others sharing the rest; 0: all equal.
        dtype: Name of the logits' dtype.
        device: "cpu" or "cuda".
        mode: "eager" or "compiled".
        sweep: Title of the series of growing sizes that the case belongs to.
    """

    loss: str
    shape: tuple[int, ...]
    queue: int | None = None
    goals: tuple[Goal, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    positives: float = 0.01
    head: float = 0.0
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
        """Shape, queue and head class, and what departs from float32, CPU and eager."""
        usual = {"dtype": "float32", "device": "cpu", "mode": "eager"}
        unusual = [
            value for name, default in usual.items() if (value := getattr(self, name)) != default
        ]
        queue = [] if self.queue is None else [f"queue {self.queue}"]
        head = [f"head {self.head:.0%}"] if self.head else []
        return " ".join(["x".join(map(str, self.shape)), *queue, *head, *unusual])

    @property
    def key(self) -> str:
        """What tells the case from every other."""
        return f"{self.name} {self.size}"

    @property
    def is_headline(self) -> bool:
        """Whether its floor stands beside its time: it has goals, and nothing is fused for it."""
        return bool(self.goals) and self.mode == "eager" and self.device == "cpu"

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


smooth_ap = partial(Case, "SmoothAPLoss")
recall = partial(Case, "RecallAtQuantileLoss")
trapezoid = partial(Case, "PAUCAtBudgetLoss", settings={"surrogate": "trapezoid"})
pairwise = partial(Case, "PAUCAtBudgetLoss", settings={"surrogate": "pairwise"})
softmax_focal = partial(Case, "SoftmaxFocalLoss")
sigmoid_focal = partial(Case, "SigmoidFocalLoss")

RANKING = (smooth_ap, recall, trapezoid, pairwise)
THRESHOLDS = (recall, trapezoid, pairwise)
POINTWISE = (softmax_focal, sigmoid_focal)

CHEAP = at_most(3)
BELOW_CE = (at_most(0.8), no_more_memory())

CASES = [
    # Large pools.
    smooth_ap((15360, 10), 0, (faster(PEER, 100),)),
    smooth_ap((1024, 10), 8192, (faster(PEER, 50),)),
    smooth_ap((256, 1), 8192, (faster(PEER, 1.5),)),
    *(loss((15360, 10), 0, (faster(PEER, 2),)) for loss in THRESHOLDS),
    *(loss((1024, 10), 8192, (faster(PEER, 2),)) for loss in THRESHOLDS),
    *(loss((1024, 100), 8192, (faster(PEER, 10),)) for loss in THRESHOLDS),
    *(loss((256, 1), 8192) for loss in THRESHOLDS),
    *(loss((1024, 10), 8192, mode="compiled") for loss in RANKING),
    smooth_ap((1024, 10), 8192, dtype="bfloat16"),
    # One class with most of the rows, as is usual where others are rare.
    smooth_ap((15360, 10), 0, head=0.8),
    *(loss((1024, 10), 8192, head=0.8) for loss in RANKING),
    # Dense logits.
    softmax_focal((8192, 1000), goals=BELOW_CE),
    softmax_focal((65536, 10), goals=BELOW_CE),
    softmax_focal((8, 21, 128, 128), goals=BELOW_CE),
    softmax_focal((65536, 10), mode="compiled"),
    sigmoid_focal((65536, 10), goals=(at_most(1.6),)),
    sigmoid_focal((65536, 10), goals=(at_most(1.2),), mode="compiled"),
    *(loss((65536, 10), dtype="bfloat16") for loss in POINTWISE),
    # Small batches, where the number of operators decides.
    smooth_ap((256, 5), 1024, (CHEAP, faster(PEER, 3))),
    *(loss((256, 5), 1024, (CHEAP,)) for loss in THRESHOLDS),
    *(loss((256, 5), 1024, (CHEAP,), mode="compiled") for loss in RANKING),
    *(loss((256, 5), 0, (CHEAP,), mode=mode) for mode in ("eager", "compiled") for loss in RANKING),
    *(
        loss((256, 5), None, (CHEAP,), mode=mode)
        for mode in ("eager", "compiled")
        for loss in POINTWISE
    ),
    smooth_ap((255, 5), 0),
    # Growing sizes.
    *(
        loss((4**k, 1), 0, sweep="Rows, one class, 1 % positives")
        for k in range(5, 10)
        for loss in RANKING
    ),
    smooth_ap(
        (4**10, 1), 0, (milliseconds(1000), megabytes(600)), sweep="Rows, one class, 1 % positives"
    ),
    *(loss((4**10, 1), 0, sweep="Rows, one class, 1 % positives") for loss in THRESHOLDS),
    *(smooth_ap((4096, 10**k), 0, sweep="Classes, 4,096 rows") for k in (1, 2)),
    smooth_ap((4096, 1000), 0, (megabytes(600),), sweep="Classes, 4,096 rows"),
    # An accelerator.
    *(
        softmax_focal((65536, 1000), goals=(passes(4.5),), device="cuda", mode=mode)
        for mode in ("eager", "compiled")
    ),
    smooth_ap((2**20, 1), 0, (milliseconds(30),), device="cuda"),
    smooth_ap((15360, 10), 0, (faster(PEER, 1),), device="cuda"),
    *(loss((1024, 10), 8192, device="cuda") for loss in RANKING),
    *(loss((256, 5), 1024, device="cuda") for loss in RANKING),
    sigmoid_focal((65536, 10), device="cuda"),
]

ROWS = "Rows of a quick look"
QUICK = [
    *(loss((128, 4), 128, (CHEAP,)) for loss in RANKING),
    *(loss((256, 4), goals=(CHEAP,)) for loss in POINTWISE),
    smooth_ap((60, 3), 0),
    softmax_focal((256, 4), dtype="bfloat16"),
    softmax_focal((256, 4), mode="compiled"),
    *(smooth_ap((rows, 1), 0, (megabytes(600),), sweep=ROWS) for rows in (200, 800, 3200)),
]


def find(key: str) -> Case:
    """The case with this key."""
    return next(case for case in [*CASES, *QUICK] if case.key == key)
