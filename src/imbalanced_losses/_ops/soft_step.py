"""The logistic function as a soft step, away from numbers that are slow to compute with."""

import math

import torch
from torch import Tensor

# Exponentials that underflow and products of denormal numbers are many times slower than others.
# Smaller ones than these change no sum here, and products of three of them are still normal.
SMALLEST_EXPONENT = {torch.float32: -29.0, torch.float64: -200.0}


def soft_step(difference: Tensor, temperature: Tensor) -> Tensor:
    """sigma(difference / tau).

    In float32 sigma does not move beyond +-60, where its slope is below 1e-26 / tau.
    """
    bound = 700.0 if difference.dtype == torch.float64 else 60.0
    return torch.sigmoid((difference / temperature).clamp(-bound, bound))


def step_slope(steps: Tensor, temperature: Tensor) -> Tensor:
    """The derivative of `steps`, which are those of `soft_step`, in their difference."""
    return torch.addcmul(steps, steps, steps, value=-1) / temperature


def soft_steps_(x: Tensor) -> Tensor:
    """sigma(x) in the place of x, for sums: its smallest value is that of SMALLEST_EXPONENT.

    In place, because half the time of many steps is waiting for fresh memory.
    """
    bound = SMALLEST_EXPONENT[x.dtype]
    return x.clamp_(bound, -bound).sigmoid_()


def decay_(exponent: Tensor) -> Tensor:
    """exp(exponent) in its place, for exponents up to 0 and for sums, as in `soft_steps_`."""
    return exponent.clamp_(min=SMALLEST_EXPONENT[exponent.dtype]).exp_()


def no_denormals_(decays: Tensor) -> Tensor:
    """Products of two decays of `decay_`, at least as large as its smallest, in their place."""
    return decays.clamp_(min=math.exp(SMALLEST_EXPONENT[decays.dtype]))
