"""Rows in ascending order, by the fastest way that PyTorch has."""

import torch
from torch import Tensor

from imbalanced_losses._ops.runtime import readable

# With FBGEMM, PyTorch sorts a single line of so many integers or more by radix.
_HAS_RADIX = "fbgemm" in torch.backends.quantized.supported_engines
_LONG = 2**15
# Several rows are sorted as one line and then parted. In longer lines that reaches too far.
_MOST_OF_ROWS = 2**20
_MOST_ROWS = 256


def ascending(values: Tensor) -> tuple[Tensor, Tensor]:
    """`values.sort(1)`, sorted values and where they came from, for `[C, M]` without NaN.

    Equal values come in any order.
    """
    if not _radix_pays(values):
        ordered, origin = values.sort(1)
        return ordered, origin
    rows, length = values.shape
    # The bits of a float are ordered as its value is; those of a negative one need a mirror.
    bits = values.view(torch.int32)
    mirrored = bits ^ (bits >> 31).bitwise_and_(0x7FFFFFFF)
    origin = mirrored.reshape(-1).sort().indices
    if rows > 1:
        row = origin.div(length, rounding_mode="floor").to(torch.uint8)
        origin = origin.index_select(0, row.sort(stable=True).indices)
    origin = origin.view(rows, length) - torch.arange(0, values.numel(), length).unsqueeze(1)
    return values.gather(1, origin), origin


def _radix_pays(values: Tensor) -> bool:
    if not (_HAS_RADIX and values.dtype == torch.float32 and readable(values)):
        return False
    rows, cells = len(values), values.numel()
    return cells >= _LONG and (rows == 1 or (rows <= _MOST_ROWS and cells <= _MOST_OF_ROWS))
