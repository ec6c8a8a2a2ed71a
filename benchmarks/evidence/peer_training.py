"""The process that trains with other libraries: `peers.py` asks for it in JSON.

LibAUC is used as its tutorials have it: probabilities go into its losses, `DualSampler` makes the
batches, `AUCMLoss` in its second version goes with `PESG` (rate .1, epoch decay .002, a tenth of
the rate from half and from three quarters of the training on), `APLoss` (margin .6, gamma .1) with
`SOAP` and half of a batch positive. Only the learning rate is tuned, around theirs.
"""

import contextlib
import importlib
import json
import sys
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.evidence.outside import in_turn, rows_of
from benchmarks.evidence.run import CHECKPOINTS, LARGE_SET, MODELS, Model
from benchmarks.evidence.sets import Floats, Fold, Task, family, in_order, tasks
from imbalanced_losses._training.settings import FitSettings

BATCH = 256
TRAINED = ("linear", "mlp32")
MOST_ROWS = 6000

# Makes of a network, labels of the fitted rows `[N]`, learning rate and number of steps: the
# batches (row numbers), and what is done with a batch in a step.
Step = Callable[[int, Tensor, Tensor, Tensor], None]
Make = Callable[[nn.Module, Tensor, float, int], tuple[Iterator[Tensor], Step]]


def auc_margin(net: nn.Module, y: Tensor, rate: float, steps: int) -> tuple[Iterator[Tensor], Step]:
    """LibAUC's AUC margin loss."""
    optimizers = importlib.import_module("libauc.optimizers")
    loss = importlib.import_module("libauc.losses").AUCMLoss(version="v2", device="cpu")
    optimizer = optimizers.PESG(
        net.parameters(),
        loss_fn=loss,
        lr=rate,
        momentum=0.9,
        epoch_decay=0.002,
        weight_decay=0,
        verbose=False,
        device="cpu",
    )

    def step(number: int, outputs: Tensor, targets: Tensor, rows: Tensor) -> None:
        if number in (steps // 2, 3 * steps // 4):
            optimizer.update_regularizer(decay_factor=10)
        _descend(optimizer, loss(outputs.sigmoid(), targets))

    return _dual_batches(y, BATCH, 0.2), step


def average_precision(
    net: nn.Module, y: Tensor, rate: float, steps: int
) -> tuple[Iterator[Tensor], Step]:
    """LibAUC's average precision loss."""
    optimizers = importlib.import_module("libauc.optimizers")
    losses = importlib.import_module("libauc.losses")
    loss = losses.APLoss(data_len=len(y), margin=0.6, gamma=0.1, device="cpu")
    optimizer = optimizers.SOAP(
        net.parameters(), lr=rate, mode="adam", weight_decay=0, verbose=False, device="cpu"
    )

    def step(number: int, outputs: Tensor, targets: Tensor, rows: Tensor) -> None:
        if number == steps // 2:
            optimizer.update_lr(decay_factor=10)
        _descend(optimizer, loss(outputs.sigmoid(), targets, rows))

    return _dual_batches(y, 64, 0.5), step


ARMS: dict[str, tuple[Make, tuple[float, ...]]] = {
    "libauc_auc_margin": (auc_margin, (0.03, 0.1, 0.3)),
    "libauc_ap": (average_precision, (0.001, 0.01, 0.03)),
}


def fit(
    make: Make, rates: Sequence[float], model: Model, task: Task, x: Floats, part: Fold
) -> tuple[Floats, Sequence[float]]:
    """Logits of all rates and checkpoints on validation and test rows, and their rates."""
    inputs, y = torch.as_tensor(x[part.fit]), torch.as_tensor(task.y[part.fit])
    judged = torch.as_tensor(x[np.concatenate([part.validation, part.test])])
    steps = model.steps[task.rows >= LARGE_SET]
    marks = {max(1, round(share * steps)) for share in CHECKPOINTS}
    found = []
    for rate in rates:
        torch.manual_seed(0)
        net = FitSettings(model.hidden).network(inputs.shape[1], 1)
        batches, step = make(net, y, rate, steps)
        for number in range(steps):
            rows = next(batches)
            step(number, net(inputs[rows])[:, 0], y[rows].float(), rows)
            if number + 1 in marks:
                with torch.no_grad():
                    found.append(net(judged).nan_to_num().numpy())
    return np.stack(found), [rate for rate in rates for _ in marks]


def is_trained(task: Task, every: Sequence[Task]) -> bool:
    """Of each family the counted set with the most positives, if it is not large.

    All others would take hours: these networks are trained one by one.
    """
    own = [
        other
        for other in every
        if other.counts and other.kind == "binary" and other.rows <= MOST_ROWS
        if family(other.name) == family(task.name)
    ]
    return bool(own) and task.name == max(own, key=lambda other: other.positives).name


def rows(task: Task) -> pd.DataFrame:
    """The rows of all arms and models on a set."""
    return pd.concat(
        [
            rows_of(task, model, arm, partial(fit, make, rates, MODELS[model]))
            for arm, (make, rates) in ARMS.items()
            for model in TRAINED
        ]
    )


def main() -> None:
    """Answer the request on the command line."""
    request: dict[str, Any] = json.loads(sys.argv[1])
    options = Namespace(**request)
    options.keel, options.data = (Path(p) if p else None for p in (options.keel, options.data))
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    sys.path.insert(0, options.folder)
    prepare()
    every = in_order(tasks(options.keel, options.data))
    with contextlib.suppress(KeyboardInterrupt):
        for _ in in_turn(options, Path(options.chunks), rows, lambda t: is_trained(t, every)):
            pass


def prepare() -> None:
    """Let torchvision be imported where its compiled operators do not fit torch, as on a CPU.

    LibAUC's samplers only look for its data sets.
    """
    for name in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):
            schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{name}", schema)


def _descend(optimizer: Any, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _dual_batches(y: Tensor, size: int, rate: float) -> Iterator[Tensor]:
    """LibAUC's batches without end; not larger than the common class."""
    sampler = importlib.import_module("libauc.sampler").DualSampler
    size = min(size, int((y == 0).sum()))
    drawn = sampler(None, size, labels=y.numpy(), sampling_rate=rate)
    while True:
        yield from torch.split(torch.as_tensor(np.array(list(drawn))), size)


if __name__ == "__main__":
    main()
