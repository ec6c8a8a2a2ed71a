"""Matrix products in the precision of their operands, whatever a model's products run at."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def no_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """Matrix products keep the precision of their operands inside an autocast region."""
    device = tensor.device.type
    if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
        return nullcontext()
    return torch.autocast(device, enabled=False)


def bmm(left: Tensor, right: Tensor) -> Tensor:
    """`torch.bmm` of `[B, n, m]` and `[B, m, p]`, `[B, n, p]`, never in TF32 or bfloat16.

    `torch.set_float32_matmul_precision` allows these to a model's layers; soft counts are sums of
    terms that nearly cancel, and lose their digits. A compiler reads the setting as it compiles.
    """
    if left.dtype == torch.float64 or _float32_is_kept():
        return torch.bmm(left, right)
    return (left.unsqueeze(3) * right.unsqueeze(1)).sum(2)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _float32_is_kept() -> bool:
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # it was set for one backend, which torch does not put in one word
        return False
