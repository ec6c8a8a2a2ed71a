"""A fake ranking loss, and wrappers around it, for the tests of LossWarmupWrapper."""

from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn

from imbalanced_losses import LossWarmupWrapper

N, C = 6, 3
LOGITS = torch.randn(N, C, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 1, 2, 0, 0, 1])
BINARY = torch.tensor([0, 1, 1, 0, 0, 1])
CE = F.cross_entropy(LOGITS, TARGETS)

# Temperature 1 -> 2^-8 in 8 steps, so that t steps after the switch it is 2^-t.
ANNEALING = {"temp_start": 1.0, "temp_end": 2.0**-8, "temp_decay_steps": 8}
OWN_TEMPERATURE = 0.25


class FakeMain(nn.Module):
    """What the wrapper knows of a ranking loss: temperature, queue, tuples, keyword arguments.

    The value depends on the temperature and on every batch since the last reset.
    """

    def __init__(self, num_classes=C):
        super().__init__()
        self.num_classes = num_classes
        self.gather_distributed = None
        self.register_buffer("_temperature", torch.tensor(OWN_TEMPERATURE, dtype=torch.float64))
        self.register_buffer("queue", torch.zeros(()))
        self.frozen = False
        self.calls = []
        self.resets = 0

    @property
    def temperature(self):
        return self._temperature.item()

    @temperature.setter
    def temperature(self, value):
        self._temperature.fill_(value)

    def reset_queue(self):
        self.resets += 1
        self.queue.zero_()

    @contextmanager
    def frozen_queue(self):
        self.frozen = True
        try:
            yield
        finally:
            self.frozen = False

    def forward(
        self,
        logits,
        targets,
        iid_mask=None,
        return_per_class=False,
        return_diagnostics=False,
        *,
        sample_weight=None,
    ):
        self.calls.append((targets, iid_mask, sample_weight))
        loss = (logits**2).mean() / self._temperature + self.queue
        if self.training and not self.frozen:
            self.queue += logits.detach().mean()
        extra = (torch.arange(3.0), torch.ones(3, dtype=torch.bool)) if return_per_class else ()
        extra += ({"tau_eff": torch.ones(3)},) if return_diagnostics else ()
        return (loss, *extra) if extra else loss


class PlainMain(nn.Module):
    """A main loss without temperature and queue."""

    def forward(self, logits, targets):
        return logits.mean()


def build(**kwargs):
    return LossWarmupWrapper(nn.CrossEntropyLoss(), FakeMain(), **kwargs)


def call(loss_fn, **kwargs):
    return loss_fn(LOGITS, TARGETS, **kwargs)


def at_phase(loss_fn, phase):
    """The wrapper in the given phase of a warm-up of one epoch and a blend of one epoch."""
    loss_fn.on_train_epoch_start({"warmup": 0, "blend": 1, "main": 2}[phase])
    loss_fn.on_train_batch_start(0)
    return loss_fn


def to_phase(phase, **kwargs):
    """A wrapper in the given phase, with weight 1/2 for the main loss in the blend."""
    return at_phase(build(warmup_epochs=1, blend_epochs=1, **kwargs), phase)


def run(loss_fn, steps, per_epoch=3, first=0):
    """Train from step `first`, with the hooks; the value and temperature of every step."""
    trace = []
    for step in range(first, steps):
        if step % per_epoch == 0 or step == first:
            loss_fn.on_train_epoch_start(step // per_epoch)
        loss_fn.on_train_batch_start(step)
        scaled = LOGITS * (1 + step)
        trace.append((loss_fn(scaled, TARGETS).item(), loss_fn.current_temperature))
    return trace
