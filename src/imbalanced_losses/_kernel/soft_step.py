"""The logistic function as a soft step, away from numbers that are slow to compute with."""

import torch
from torch import Tensor

# exp(-42) is below 1e-18. Smaller values change no sum here, while exponentials that underflow and
# products of denormal numbers are many times slower than normal ones.
SMALLEST_EXPONENT = -42.0


def soft_step(x: Tensor) -> Tensor:
    """sigma(x), x held within +-42: below 1e-18 of the step is left, and no gradient."""
    return torch.sigmoid(x.clamp(SMALLEST_EXPONENT, -SMALLEST_EXPONENT))
