"""What crosses ranks: two gathers, one scalar reduction, and the scale of the gradient.

Every rank computes the same global loss, and only a rank's own rows carry gradient there.
`DistributedDataParallel` averages the ranks' gradients, so what a rank sends back is its local
gradient times the world size: after the average that is the gradient of one process on the joined
batch. This module is the only place that applies the factor.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["all_gather_no_grad", "all_gather_with_grad"]


def all_gather_with_grad(t: Tensor) -> Tensor:
    """Join the tensors of all ranks along dimension 0, in rank order, with gradient.

    Ranks may bring different lengths, zero included; the other dimensions and the dtype must
    agree. At world size 1 the input itself is returned.

    The backward pass assumes that every rank computes the same loss from the joined tensor, as all
    losses here do. It sends no message: a rank keeps the gradient of its own rows, times the world
    size, so that the average taken by `DistributedDataParallel` equals the gradient of a single
    process on the joined batch.

    Args:
        t: Local rows, `[n, ...]`; `n` may differ between ranks.

    Returns:
        All rows, `[sum of n, ...]`.

    Raises:
        RuntimeError: If no process group is initialised.
        ValueError: If `t` has no dimension 0.

    Example:
        >>> from imbalanced_losses import all_gather_with_grad
        >>> try:
        ...     all_gather_with_grad(torch.ones(2))
        ... except RuntimeError as error:
        ...     print(error)
        all_gather_with_grad needs a process group; call torch.distributed.init_process_group first.
    """
    if _world_size_for_gather("all_gather_with_grad", t) == 1:
        return t
    joined: Tensor = _GatherWithGrad.apply(t)  # type: ignore[no-untyped-call]
    return joined


def all_gather_no_grad(t: Tensor) -> Tensor:
    """Join the tensors of all ranks along dimension 0, in rank order, without gradient.

    Ranks may bring different lengths, zero included; the other dimensions and the dtype must
    agree. At world size 1 the input is returned, detached.

    Args:
        t: Local rows, `[n, ...]`; `n` may differ between ranks.

    Returns:
        All rows, `[sum of n, ...]`, detached.

    Raises:
        RuntimeError: If no process group is initialised.
        ValueError: If `t` has no dimension 0.

    Example:
        >>> from imbalanced_losses import all_gather_no_grad
        >>> try:
        ...     all_gather_no_grad(torch.ones(2))
        ... except RuntimeError as error:
        ...     print(error)
        all_gather_no_grad needs a process group; call torch.distributed.init_process_group first.
    """
    if _world_size_for_gather("all_gather_no_grad", t) == 1:
        return t.detach()
    return _gather_rows(t.detach())[0]


def resolve_gather(gather_distributed: bool | None) -> bool:
    """Whether a loss with this setting talks to other ranks in the present call.

    None asks anew at every call, so a loss that was built before the process group started takes
    part once it runs.

    Raises:
        RuntimeError: If the setting is True and there is no process group.
    """
    if gather_distributed is False:
        return False
    if not _has_process_group():
        if gather_distributed:
            raise RuntimeError(
                "gather_distributed=True needs a process group; call "
                "torch.distributed.init_process_group first, or pass gather_distributed=None."
            )
        return False
    return dist.get_world_size() > 1


def sum_across_ranks(numerator: Tensor, denominator: Tensor) -> tuple[Tensor, Tensor]:
    """Global sums of two scalars in one message; gradient flows to the local numerator only."""
    total_numerator, total_denominator = _SumAcrossRanks.apply(numerator, denominator)  # type: ignore[no-untyped-call]
    return total_numerator, total_denominator


def _has_process_group() -> bool:
    return dist.is_available() and dist.is_initialized()


def _world_size_for_gather(name: str, t: Tensor) -> int:
    if not _has_process_group():
        raise RuntimeError(
            f"{name} needs a process group; call torch.distributed.init_process_group first."
        )
    if t.dim() == 0:
        raise ValueError(f"{name}: t must have a dimension 0 to join along; got a scalar.")
    return dist.get_world_size()


def _gather_rows(t: Tensor) -> tuple[Tensor, int]:
    """Joined rows and the position of this rank's first row in them."""
    length = torch.tensor([t.shape[0]], device=t.device)
    lengths = [torch.empty_like(length) for _ in range(dist.get_world_size())]
    dist.all_gather(lengths, length)
    sizes = [int(n) for n in lengths]
    # Collectives want equal shapes: pad to the longest rank, cut again on arrival.
    padded = t.new_zeros((max(sizes), *t.shape[1:]))
    padded[: t.shape[0]] = t
    pieces = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(pieces, padded)
    joined = torch.cat([piece[:n] for piece, n in zip(pieces, sizes, strict=True)])
    return joined, sum(sizes[: dist.get_rank()])


class _GatherWithGrad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, t: Tensor) -> Tensor:
        joined, ctx.start = _gather_rows(t)
        ctx.length = t.shape[0]
        return joined

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        own = grads[0].narrow(0, ctx.start, ctx.length)
        return own * dist.get_world_size()


class _SumAcrossRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, numerator: Tensor, denominator: Tensor) -> tuple[Tensor, Tensor]:
        sums = torch.stack((numerator, denominator.to(numerator.dtype)))
        dist.all_reduce(sums)
        total_numerator, total_denominator = sums.unbind()
        ctx.mark_non_differentiable(total_denominator)
        return total_numerator, total_denominator

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * dist.get_world_size(), None
