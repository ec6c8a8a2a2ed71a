"""Small tensors of constants."""

from functools import lru_cache

import torch
from torch import Tensor


def constants(numbers: tuple[float, ...], like: Tensor) -> Tensor:
    """The numbers as a tensor of the dtype and on the device of `like`, made once.

    A tensor made from a list is a copy that an accelerator waits for.
    """
    make = _tensor if torch.compiler.is_compiling() else _kept
    return make(numbers, like.dtype, like.device)


def _tensor(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(numbers, dtype=dtype, device=device)


_kept = lru_cache(_tensor)
