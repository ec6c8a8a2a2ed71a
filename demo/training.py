"""One training run: same network, initialisation, batches and optimiser for every loss."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from imbalanced_losses import LossWarmupWrapper, init_prior_bias

from .data import Split
from .strategies import Plan, Strategy

Phase = Literal["warm-up", "blend", "main"]

BATCH_ROWS = 64
HIDDEN = 64
LEARNING_RATE = 2e-3


class Network(nn.Module):
    """Two hidden layers; one logit per class, or a single one for a binary task."""

    def __init__(self, pixels: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(pixels, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU()
        )
        self.head = nn.Linear(HIDDEN, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[N, outputs]`, or `[N]` for one output."""
        logits: Tensor = self.head(self.body(x))
        return logits.squeeze(1) if self.head.out_features == 1 else logits


@dataclass
class Run:
    """What one run leaves behind."""

    scores: np.ndarray
    """Held-out scores of the last epoch: log-odds `[N, C]`, or one logit per row `[N]`."""
    losses: list[float] = field(default_factory=list)
    """Mean training loss of each epoch."""
    phases: list[Phase] = field(default_factory=list)
    """Phase of each epoch, as the loss itself reports it."""
    curve: list[tuple[int, float]] = field(default_factory=list)
    """Held-out average precision after some epochs: for the picture, nothing is chosen by it."""


def train(
    strategy: Strategy,
    split: Split,
    seed: int,
    epochs: int,
    metric: Callable[[np.ndarray, np.ndarray], float],
    on_epoch: Callable[[], None] = lambda: None,
) -> Run:
    """Train one network with one loss and score the held-out rows.

    Args:
        strategy: The loss, and whether the output bias starts at the class priors.
        split: Rows to train on and to score.
        seed: Fixes the initial weights and the order of the batches, whatever the loss.
        epochs: Passes over the training rows.
        metric: `(held-out labels, scores) -> float`, drawn as the training curve.
        on_epoch: Called after each epoch, for a progress bar.
    """
    torch.manual_seed(seed)
    counts = split.train_counts
    binary = len(counts) == 2
    network = Network(split.x_train.shape[1], 1 if binary else len(counts))
    if strategy.prior_bias and binary:
        init_prior_bias(network.head, counts=counts[1:], total=sum(counts), activation="sigmoid")
    elif strategy.prior_bias:
        init_prior_bias(network.head, counts=counts)

    targets = split.y_train.float() if binary else split.y_train
    order = torch.Generator().manual_seed(seed)
    steps_per_epoch = -(-len(targets) // BATCH_ROWS)
    loss_fn = strategy.build(Plan(split.y_train, epochs, steps_per_epoch))
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)

    run = Run(scores=np.empty(0))
    labels = split.y_test.numpy()
    for epoch in range(epochs):
        if isinstance(loss_fn, LossWarmupWrapper):
            loss_fn.on_train_epoch_start(epoch)
        total = 0.0
        batches = torch.split(torch.randperm(len(targets), generator=order), BATCH_ROWS)
        for step, rows in enumerate(batches):
            if isinstance(loss_fn, LossWarmupWrapper):
                loss_fn.on_train_batch_start(epoch * steps_per_epoch + step)
            loss = loss_fn(network(split.x_train[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        run.losses.append(total / len(targets))
        run.phases.append(_phase(loss_fn))
        if (epoch + 1) % max(1, epochs // 20) == 0 or epoch + 1 == epochs:
            run.scores = held_out_scores(network, split.x_test)
            run.curve.append((epoch + 1, metric(labels, run.scores)))
        on_epoch()
    return run


@torch.no_grad()
def held_out_scores(network: Network, x: Tensor) -> np.ndarray:
    """The ranked quantity: the logit of a binary task, else the log-odds of the softmax.

    Log-odds order rows as the softmax probability does, and do not round to ties near 1.
    """
    network.eval()
    logits = network(x).double()
    network.train()
    if logits.ndim == 1:
        return np.asarray(logits)
    own = torch.eye(logits.shape[1], dtype=torch.bool)
    others = logits[:, None, :].masked_fill(own, -torch.inf).logsumexp(2)
    return np.asarray(logits - others)


def _phase(loss_fn: nn.Module) -> Phase:
    if not isinstance(loss_fn, LossWarmupWrapper):
        return "main"
    return "warm-up" if loss_fn.in_warmup else "blend" if loss_fn.in_blend else "main"
