"""Rows in ascending order, by the fastest way that PyTorch has."""

import torch
from torch import Tensor

from imbalanced_losses._eager import readable

# From so many integers on, PyTorch sorts a single line of them by radix on most CPUs.
_LONG = 2**15


def ascending(values: Tensor) -> tuple[Tensor, Tensor]:
    """`values.sort(1)`, sorted values and where they came from, for `[C, M]` without NaN.

    The bits of a float are ordered as its value is; those of a negative one need a mirror. Equal
    values come in any order.
    """
    is_long = len(values) == 1 and values.shape[1] >= _LONG
    if not (is_long and values.dtype == torch.float32 and readable(values)):
        ordered, origin = values.sort(1)
        return ordered, origin
    bits = values.view(torch.int32)
    mirrored = bits ^ (bits >> 31).bitwise_and_(0x7FFFFFFF)
    origin = mirrored.view(-1).sort().indices.unsqueeze(0)
    return values.gather(1, origin), origin
