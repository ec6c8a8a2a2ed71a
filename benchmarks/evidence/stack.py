"""Many networks of one shape, trained at once.

The axes are L learning rates, F folds and A recipes. All networks of a fold see the same rows, so
that their first layers are one matrix product; later layers are batched ones. Each learns as it
would alone: a test holds it against a plain loop.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.evidence.sets import Integers

WEIGHT_DECAY = 0.01
AVERAGE_DECAY = 0.99


@dataclass(frozen=True)
class Shape:
    """Inputs, units of each hidden layer, and outputs of every network."""

    inputs: int
    hidden: tuple[int, ...]
    outputs: int


class Stack:
    """Networks `[L, F, A]` with ReLU between their layers, and AdamW for all of them.

    Args:
        shape: Of each network.
        rates: L learning rates; each follows a cosine to 0 over `steps`.
        bias: `[F, A, C]` of the output layer before training; NaN leaves torch's own.
        seeds: One per recipe; recipes of one seed start from the same weights in each fold.
        steps: Training steps.
        seed: Of this set and repeat.
    """

    def __init__(
        self,
        shape: Shape,
        rates: Sequence[float],
        bias: Tensor,
        seeds: Sequence[int],
        steps: int,
        seed: int,
    ) -> None:
        self.shape, self.steps = shape, steps
        folds = len(bias)
        self.axes = (len(rates), folds, len(seeds))
        widths = (shape.inputs, *shape.hidden, shape.outputs)
        by_fold = [[_layers(widths, (seed, fold, own)) for own in seeds] for fold in range(folds)]
        self.weights: list[Tensor] = []
        for number in range(len(widths) - 1):
            # [F, A, in, out] and [F, A, 1, out]
            matrix = torch.stack([torch.stack([n[number][0] for n in row]) for row in by_fold])
            offset = torch.stack([torch.stack([n[number][1] for n in row]) for row in by_fold])
            if number == len(widths) - 2:
                offset = torch.where(bias.isnan(), offset, bias)
            if number == 0:
                # All recipes side by side: [F, in, A * out] and [F, 1, A * out].
                matrix, offset = matrix.transpose(1, 2).flatten(2), offset.flatten(1)
            offset = offset.unsqueeze(-2)
            for weight in (matrix, offset):
                whole = weight.expand(len(rates), *weight.shape).clone()
                self.weights.append(whole.requires_grad_())
        # Torch's own optimizer on views: one group for each learning rate.
        self._views = [
            [nn.Parameter(weight.detach()[place]) for weight in self.weights]
            for place in range(len(rates))
        ]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": views, "lr": rate, "base": rate}
                for views, rate in zip(self._views, rates, strict=True)
            ],
            weight_decay=WEIGHT_DECAY,
            fused=True,
        )
        self.averages = [weight.detach().clone() for weight in self.weights]
        self.step_number = 0

    def forward(
        self,
        x: Tensor,
        weights: Sequence[Tensor] | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        """Outputs `[L, F, A, N, C]` for rows `[F, N, inputs]`."""
        weights = self.weights if weights is None else weights
        recipes = self.axes[2]
        h = _affine(x.expand(len(weights[0]), *x.shape), weights[0], weights[1])
        h = h.view(*h.shape[:-1], recipes, -1).transpose(-3, -2)  # [L, F, A, N, H]
        for matrix, offset in zip(weights[2::2], weights[3::2], strict=True):
            h = h.relu_()
            if dropout:
                h = F.dropout(h, dropout)
            h = _affine(h, matrix, offset)
        return h

    def step(self, outputs: Tensor, gradient: Tensor) -> None:
        """One step of AdamW with the gradient of each network's loss on its outputs."""
        outputs.backward(gradient)  # type: ignore[no-untyped-call]
        share = (1 + math.cos(math.pi * self.step_number / self.steps)) / 2
        for place, (group, views) in enumerate(
            zip(self._optimizer.param_groups, self._views, strict=True)
        ):
            group["lr"] = group["base"] * share
            for view, weight in zip(views, self.weights, strict=True):
                assert weight.grad is not None
                view.grad = weight.grad[place]
        self._optimizer.step()
        for weight in self.weights:
            weight.grad = None
        self.step_number += 1
        # The first averages are over the few steps there are.
        decay = min(AVERAGE_DECAY, self.step_number / (self.step_number + 9))
        detached = [weight.detach() for weight in self.weights]
        torch._foreach_lerp_(self.averages, detached, 1 - decay)

    @torch.no_grad()
    def predict(self, x: Tensor, fold: int, *, averaged: bool = False) -> Tensor:
        """Outputs `[L, A, N, C]` of one fold's networks for rows `[N, inputs]`."""
        whole = self.averages if averaged else self.weights
        weights = [weight[:, fold : fold + 1] for weight in whole]
        parts = [self.forward(part[None], weights)[:, 0] for part in torch.split(x, 2048)]
        return torch.cat(parts, 2)


def _affine(x: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """Rows times matrix plus offset, over all leading axes."""
    axes = x.shape[:-2]
    h = torch.baddbmm(offset.flatten(0, -3), x.flatten(0, -3), matrix.flatten(0, -3))
    return h.view(*axes, *h.shape[1:])


def _layers(widths: Sequence[int], seed: tuple[int, ...]) -> list[tuple[Tensor, Tensor]]:
    """Weights `[in, out]` and offsets `[out]` as `nn.Linear` draws them."""
    number = 0
    for part in seed:
        number = number * 1_000_003 + part
    generator = torch.Generator().manual_seed(number)
    made = []
    for inputs, outputs in itertools.pairwise(widths):
        bound = inputs**-0.5
        matrix = torch.empty(inputs, outputs).uniform_(-bound, bound, generator=generator)
        offset = torch.empty(outputs).uniform_(-bound, bound, generator=generator)
        made.append((matrix, offset))
    return made


def batches(
    fit: Integers, labels: Tensor, size: int, seed: int, *, stratified: bool
) -> Iterator[Tensor]:
    """Row numbers of one batch after another, `[size]`, without end.

    Shuffled epochs of the rows `fit`; `stratified` gives each batch its share of every class and at
    least one row of it.
    """
    rows = torch.as_tensor(fit)
    if stratified:
        from imbalanced_losses.samplers import StratifiedBatchSampler

        sampler = StratifiedBatchSampler(labels[rows], size, seed=seed)
        for epoch in range(10**9):
            sampler.set_epoch(epoch)
            for batch in sampler:
                yield rows[batch]
    generator = torch.Generator().manual_seed(seed)
    left = rows[:0]
    while True:
        while len(left) < size:
            left = torch.cat([left, rows[torch.randperm(len(rows), generator=generator)]])
        yield left[:size]
        left = left[size:]
