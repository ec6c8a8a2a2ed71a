"""The logistic function as a soft step, away from numbers that are slow to compute with."""

import torch
from torch import Tensor

# exp(-42) is below 1e-18. Smaller values change no sum here, while exponentials that underflow and
# products of denormal numbers are many times slower than normal ones.
SMALLEST_EXPONENT = -42.0


def soft_step(x: Tensor) -> Tensor:
    """sigma(x); in float32 no gradient is left beyond +-60, where it is below 1e-26."""
    bound = 700.0 if x.dtype == torch.float64 else 60.0
    return torch.sigmoid(x.clamp(-bound, bound))


def no_autocast(tensor: Tensor) -> torch.autocast:
    """Matrix products keep the precision of their operands inside an autocast region."""
    return torch.autocast(tensor.device.type, enabled=False)
