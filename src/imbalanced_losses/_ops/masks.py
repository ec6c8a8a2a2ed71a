"""How many cells of each row of a mask are set."""

import torch
from torch import Tensor
from torch.nn import functional as F

from imbalanced_losses._ops.runtime import readable

# Up to so many columns a copy costs less than an operation more.
_SHORT = 2048


def row_counts(member: Tensor) -> Tensor:
    """Members of each row, `[C, 1]` int32."""
    if readable(member) and member.shape[1] > _SHORT:
        # Few enough to be summed as bytes, which needs no wider copy of the mask.
        size = 128
        padded = F.pad(member.view(torch.uint8), (0, -member.shape[1] % size))
        member = padded.view(len(member), size, -1).sum(1, dtype=torch.uint8)
    return member.sum(1, keepdim=True, dtype=torch.int32)
