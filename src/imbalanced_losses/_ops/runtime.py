"""What the runtime permits: reading values, and shortcuts through autograd."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

# The layers of the dispatcher in which autograd notes operators, and views.
_AUTOGRAD = torch._C.DispatchKeySet(torch._C.DispatchKey.AutogradFunctionality) | (
    torch._C.DispatchKeySet(torch._C.DispatchKey.ADInplaceOrView)
)


def is_compiling() -> bool:
    """Whether a compiler is tracing this."""
    return torch.compiler.is_compiling()


def calls_operators(tensor: Tensor) -> bool:
    """Whether a compiler is tracing this for a CPU, and an operator of ours may stand in its graph.

    Not in a graph that is exported, which may run where this package is not; nor in that of a
    `torch.func` transform, which has to see the operations.
    """
    return (
        tensor.device.type == "cpu"
        and is_compiling()
        and not torch.compiler.is_exporting()
        and not torch._C._are_functorch_transforms_active()
    )


def readable(tensor: Tensor) -> bool:
    """Whether the tensor is on a CPU, and neither a compiler nor a transform is at work.

    Only then may Python read a value, to raise at once or to choose a faster way by a count.
    Elsewhere that would stall an accelerator, break a graph or fail.
    """
    return tensor.device.type == "cpu" and is_plain(tensor)


def is_plain(tensor: Tensor) -> bool:
    """Whether this is an eager tensor: no compiler and no `torch.func` transform at work."""
    return not (is_compiling() or _is_wrapped(tensor))


def is_transformed(tensor: Tensor) -> bool:
    """Whether a `torch.func` transform such as vmap is at work on this tensor, uncompiled.

    So are the batched gradients of `torch.autograd.grad`, which run on an older vmap.
    """
    return not is_compiling() and _is_wrapped(tensor)


def _is_wrapped(tensor: Tensor) -> bool:
    return torch._C._functorch.is_functorch_wrapped_tensor(
        tensor
    ) or torch._C._functorch.is_legacy_batchedtensor(tensor)


def is_followed(tensor: Tensor) -> bool:
    """Whether autograd follows this tensor, backwards or (uncompiled) forwards."""
    if torch.is_grad_enabled() and tensor.requires_grad:
        return True
    return not is_compiling() and unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]


def apply(function: type[torch.autograd.Function], *inputs: Any) -> Any:
    """`function.apply(*inputs)`, in plain eager mode without what only `torch.func` needs of it.

    There the inputs are bound to the signature anew at every call, which is a good part of the time
    that a loss takes on a small batch.
    """
    if is_compiling() or torch._C._are_functorch_transforms_active():
        return function.apply(*inputs)  # type: ignore[no-untyped-call]
    return super(torch.autograd.Function, function).apply(*inputs)  # type: ignore[misc]


def below_autograd() -> AbstractContextManager[object]:
    """In plain eager mode a block whose operators go past autograd, for what it does not follow.

    To ask it at every operator, for nothing, takes a tenth of the time of a small batch, and more
    where a graph has it note how views came about.
    """
    if is_compiling() or torch._C._are_functorch_transforms_active():
        return nullcontext()
    return torch._C._ExcludeDispatchKeyGuard(_AUTOGRAD)


def is_in_backward(tensor: Tensor) -> bool:
    """Whether this runs inside a backward pass, as recomputation does."""
    return is_plain(tensor) and torch._C._current_graph_task_id() != -1


def may_overwrite_saved(grad: Tensor) -> bool:
    """Whether a backward pass that got `grad` may write into its own saved tensors.

    It may when nobody reads them later: the graph is not retained, and no derivative of the
    gradient is wanted. This spares an array of the size of the gradient.
    """
    return (
        is_plain(grad)
        and not torch.is_grad_enabled()
        and not torch._C._autograd._get_current_graph_task_keep_graph()
    )
