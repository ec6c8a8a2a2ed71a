"""What a step of `RareClassClassifier` costs beside a bare loop: `python -m benchmarks.estimator`.

Both train the same network on the same rows, in turns. The estimator's time is that of its whole
fit: validation, scaling, looks at the held-out rows and the copies of what did best are in it. Its
steps are those of both its trainings, the one that is watched and the one on all rows.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim.optimizer import register_optimizer_step_post_hook

from imbalanced_losses.estimator import RareClassClassifier

FEATURES, BATCH, HIDDEN, RATE = 20, 256, (128, 128), 3e-3
HELD_OUT = 0.2


def bare_loop(x: torch.Tensor, y: torch.Tensor, epochs: int) -> None:
    """Train."""
    first, second = HIDDEN
    net = nn.Sequential(
        nn.Linear(FEATURES, first),
        nn.ReLU(),
        nn.Linear(first, second),
        nn.ReLU(),
        nn.Linear(second, 1),
    )
    optimizer = torch.optim.AdamW(net.parameters(), RATE, fused=True)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(x)), BATCH):
            optimizer.zero_grad()
            loss = binary_cross_entropy_with_logits(net(x[rows]), y[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def estimator(x: np.ndarray, y: np.ndarray, epochs: int, loss: str) -> None:
    """Fit."""
    model = RareClassClassifier(
        loss,
        hidden=HIDDEN,
        batch_size=BATCH,
        learning_rate=RATE,
        max_epochs=epochs,
        patience=1000,
        validation_fraction=HELD_OUT,
        random_state=0,
    )
    model.fit(x, y)


def seconds_per_step(train: Callable[[], None]) -> float:
    """Processor time of the training, by the steps that its optimizers made."""
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    counter = register_optimizer_step_post_hook(count)
    start = time.process_time()
    train()
    seconds = time.process_time() - start
    counter.remove()
    return seconds / steps


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--losses", nargs="+", default=["prior_bias"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(options.rows, FEATURES))
    y = (x[:, 0] + rng.normal(size=options.rows) > 2.5).astype(int)
    trained = round((1 - HELD_OUT) * options.rows)
    rows = torch.from_numpy(x[:trained]).float()
    marks = torch.from_numpy(y[:trained, None]).float()
    warnings.simplefilter("ignore")
    for loss in options.losses:
        ratios = []
        for _ in range(options.turns + 1):
            bare = seconds_per_step(lambda: bare_loop(rows, marks, options.epochs))
            ours = seconds_per_step(lambda loss=loss: estimator(x, y, options.epochs, loss))  # type: ignore[misc]
            ratios.append((ours / bare, bare, ours))
        ratio, bare, ours = (statistics.median(part) for part in zip(*ratios[1:], strict=True))
        print(
            f"{loss}: {ratio:.2f} of a bare loop ({1e6 * ours:,.0f} against {1e6 * bare:,.0f} us "
            f"of processor time a step, median of {options.turns} turns)"
        )


if __name__ == "__main__":
    main()
