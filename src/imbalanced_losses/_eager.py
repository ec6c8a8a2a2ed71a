"""When Python may look at the values of a tensor."""

import torch
from torch import Tensor


def readable(tensor: Tensor) -> bool:
    """Whether a look at values is free: no stall of an accelerator, no graph break, no transform.

    Checks that raise at once, and choices of a faster way by a count, are made only then.
    """
    return tensor.device.type == "cpu" and is_plain(tensor)


def is_plain(tensor: Tensor) -> bool:
    """Whether this is an eager tensor: no compiler and no `torch.func` transform at work."""
    return not torch.compiler.is_compiling() and not is_transformed(tensor)


def is_transformed(tensor: Tensor) -> bool:
    """Whether a `torch.func` transform such as vmap is at work on this tensor, uncompiled."""
    return not torch.compiler.is_compiling() and torch._C._functorch.is_functorch_wrapped_tensor(
        tensor
    )
