"""Small tensors of constants."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from imbalanced_losses._ops.runtime import is_compiling


def constants(
    make: Callable[[Any], Sequence[Any]],
    argument: Any,
    like: Tensor,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The numbers `make(argument)` on the device of `like`, in its dtype or another, made once.

    A tensor made from a list is a copy that an accelerator waits for.
    """
    tensor_of = _tensor if is_compiling() else _kept
    return tensor_of(make, argument, dtype or like.dtype, like.device)


def _tensor(
    make: Callable[[Any], Sequence[Any]], argument: Any, dtype: torch.dtype, device: torch.device
) -> Tensor:
    return torch.tensor(make(argument), dtype=dtype, device=device)


_kept = lru_cache(_tensor)
