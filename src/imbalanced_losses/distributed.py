"""What crosses ranks: two gathers, one scalar reduction, and the scale of the gradient.

Every rank computes the same global loss, and only a rank's own rows carry gradient there.
`DistributedDataParallel` averages the ranks' gradients, so what a rank sends back is its local
gradient times the world size: after the average that is the gradient of one process on the joined
batch. This module is the only place that applies the factor.

Ranks first exchange one message of a fixed size, two numbers and a line of text that says what each
is about to do. It brings the lengths of uneven shards, or the sums of a pointwise loss, which are
needed anyway; and because the text comes with it, ranks that are about to do different things
raise together instead of waiting for messages that never come.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["all_gather_no_grad", "all_gather_with_grad"]

_TEXT_BYTES = 240  # beside two numbers of 8 bytes: a message of 256
_FAILED = "stopped: "


def all_gather_with_grad(t: Tensor) -> Tensor:
    """Join the tensors of all ranks along dimension 0, in rank order, with gradient.

    Ranks may bring different lengths, zero included; the other dimensions and the dtype must
    agree. At world size 1 the input itself is returned.

    The backward pass assumes that every rank computes the same loss from the joined tensor, as all
    losses here do. It sends no message: a rank keeps the gradient of its own rows, times the world
    size, so that the average taken by `DistributedDataParallel` equals the gradient of a single
    process on the joined batch.

    Args:
        t: Local rows, `[n, ...]`, any dtype; `n` may differ between ranks.

    Returns:
        All rows, `[sum of n, ...]`.

    Raises:
        RuntimeError: If no process group is initialised.
        ValueError: If `t` has no dimension 0; on every rank, if the ranks disagree.

    Examples:
        >>> from imbalanced_losses import all_gather_with_grad
        >>> try:
        ...     all_gather_with_grad(torch.ones(2))
        ... except RuntimeError as error:
        ...     print(error)
        all_gather_with_grad needs a process group; call torch.distributed.init_process_group first.
    """
    if _world_size_for_gather("all_gather_with_grad", t) == 1:
        return t
    return join_rows(t, describe("all_gather_with_grad", t.dtype, t.shape[1:]))


def all_gather_no_grad(t: Tensor) -> Tensor:
    """Join the tensors of all ranks along dimension 0, in rank order, without gradient.

    Ranks may bring different lengths, zero included; the other dimensions and the dtype must
    agree. At world size 1 the input is returned, detached.

    Args:
        t: Local rows, `[n, ...]`, any dtype; `n` may differ between ranks.

    Returns:
        All rows, `[sum of n, ...]`, detached.

    Raises:
        RuntimeError: If no process group is initialised.
        ValueError: If `t` has no dimension 0; on every rank, if the ranks disagree.

    Examples:
        >>> from imbalanced_losses import all_gather_no_grad
        >>> try:
        ...     all_gather_no_grad(torch.ones(2))
        ... except RuntimeError as error:
        ...     print(error)
        all_gather_no_grad needs a process group; call torch.distributed.init_process_group first.
    """
    if _world_size_for_gather("all_gather_no_grad", t) == 1:
        return t.detach()
    return _gather_rows(t.detach(), describe("all_gather_no_grad", t.dtype, t.shape[1:]))[0]


def resolve_gather(gather_distributed: bool | None) -> bool:
    """Whether a loss with this setting talks to other ranks in the present call.

    None asks anew at every call, so a loss that was built before the process group started takes
    part once it runs.

    Raises:
        RuntimeError: If the setting is True and there is no process group.
    """
    if gather_distributed is False:
        return False
    if not has_process_group():
        if gather_distributed:
            raise RuntimeError(
                "gather_distributed=True needs a process group; call "
                "torch.distributed.init_process_group first, or pass gather_distributed=None."
            )
        return False
    return dist.get_world_size() > 1


def describe(call: str, dtype: torch.dtype, shape: Sequence[object], **options: object) -> str:
    """A line that agrees between ranks where their calls do; of the options, which are given."""
    sizes = ", ".join(("n", *map(str, shape)))
    given = [f"{name} {'missing' if value is None else 'given'}" for name, value in options.items()]
    return ", ".join((f"{call} of {str(dtype).removeprefix('torch.')} [{sizes}]", *given))


@contextmanager
def failing_together(logits: object) -> Iterator[None]:
    """Tell the other ranks of an error in this block, so that they raise instead of waiting.

    For what a rank does alone, such as checks of its batch, before it meets the others in
    `join_rows` or `sum_across_ranks`. Sends nothing unless there is an error.

    Args:
        logits: Where the others' messages will be is on the device of this tensor. Anything else
            is an error of which nobody can be told.
    """
    try:
        yield
    except Exception as error:
        if isinstance(logits, Tensor):
            numbers = torch.zeros(2, dtype=torch.float64, device=logits.device)
            _exchange(numbers, f"{_FAILED}{type(error).__name__}: {error}")
        raise


def join_rows(t: Tensor, call: str) -> Tensor:
    """`all_gather_with_grad` for several ranks that are about to make the same `call`."""
    joined: Tensor = _JoinRows.apply(t, call)  # type: ignore[no-untyped-call]
    return joined


def sum_across_ranks(numerator: Tensor, denominator: Tensor, call: str) -> tuple[Tensor, Tensor]:
    """Global sums of two scalars in one message; gradient flows to the local numerator only."""
    sums: tuple[Tensor, Tensor] = _SumAcrossRanks.apply(numerator, denominator, call)  # type: ignore[no-untyped-call]
    return sums


def has_process_group() -> bool:
    """Whether this process is one of a group by now."""
    return dist.is_available() and dist.is_initialized()


def _world_size_for_gather(name: str, t: Tensor) -> int:
    if not has_process_group():
        raise RuntimeError(
            f"{name} needs a process group; call torch.distributed.init_process_group first."
        )
    if t.dim() == 0:
        raise ValueError(f"{name}: t must have a dimension 0 to join along; got a scalar.")
    return dist.get_world_size()


class _JoinRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, t: Tensor, call: str) -> Tensor:
        joined, ctx.start = _gather_rows(t, call)
        ctx.length, ctx.world_size = t.shape[0], dist.get_world_size()
        return joined

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0].narrow(0, ctx.start, ctx.length) * ctx.world_size, None


class _SumAcrossRanks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, numerator: Tensor, denominator: Tensor, call: str
    ) -> tuple[Tensor, Tensor]:
        messages = _exchange(torch.stack((numerator.double(), denominator.double())), call)
        if messages.is_cpu or call not in _agreed:
            _check_agreement(messages)
            _agreed.add(call)
        else:
            _assert_agreement(messages, call)
        sums = messages[:, :2].contiguous().view(torch.float64).sum(0).to(numerator.dtype)
        total_numerator, total_denominator = sums.unbind()
        ctx.mark_non_differentiable(total_denominator)
        ctx.world_size = dist.get_world_size()
        return total_numerator, total_denominator

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0] * ctx.world_size, None, None


# Calls of pointwise losses on which the ranks have agreed once. Reading messages stalls an
# accelerator: there it happens at the first of equal calls, and later ones assert on the device.
_agreed: set[str] = set()


def _gather_rows(t: Tensor, call: str) -> tuple[Tensor, int]:
    """Joined rows and the position of this rank's first row in them."""
    length = torch.full((2,), t.shape[0], dtype=torch.float64, device=t.device)
    messages = _exchange(length, call).cpu()
    _check_agreement(messages)
    sizes = [int(n) for n in messages[:, 0].contiguous().view(torch.float64)]
    start = sum(sizes[: dist.get_rank()])
    longest = max(sizes)
    pieces = t.new_empty((len(sizes), longest, *t.shape[1:]))
    if pieces.numel() > 0:
        # Collectives want equal shapes: pad to the longest rank, cut again on arrival. As bytes
        # they take any dtype.
        padded = torch.cat((t, t.new_zeros((longest - t.shape[0], *t.shape[1:]))))
        dist.all_gather([_as_bytes(piece) for piece in pieces], _as_bytes(padded))
    return torch.cat([piece[:n] for piece, n in zip(pieces, sizes, strict=True)]), start


def _exchange(numbers: Tensor, text: str) -> Tensor:
    """Two float64 numbers and a text of every rank, as int64 `[world size, 32]`."""
    own = torch.cat((numbers.view(torch.int64), _encode(text, numbers.device)))
    messages = own.new_empty((dist.get_world_size(), len(own)))
    dist.all_gather(list(messages), own)
    return messages


@lru_cache(maxsize=64)
def _encode(text: str, device: torch.device) -> Tensor:
    """Kept on its device, so that a call like the last one copies nothing to it."""
    raw = bytearray(text.encode()[:_TEXT_BYTES].ljust(_TEXT_BYTES, b"\0"))
    return torch.frombuffer(raw, dtype=torch.int64).to(device)


def _check_agreement(messages: Tensor) -> None:
    """Raise, on every rank alike, unless all messages carry the same text."""
    texts = messages[:, 2:].cpu()
    if (texts == texts[0]).all():
        return
    ranks_by_text: dict[str, list[int]] = {}
    for rank, text in enumerate(texts.view(torch.uint8).tolist()):
        ranks_by_text.setdefault(bytes(text).rstrip(b"\0").decode(errors="ignore"), []).append(rank)
    lines = [f"  {_named(ranks)}: {text}" for text, ranks in ranks_by_text.items()]
    if any(text.startswith(_FAILED) for text in ranks_by_text):
        raise RuntimeError("\n".join(("Not all ranks have come as far as this loss.", *lines)))
    raise ValueError("\n".join(("All ranks must make the same call; they differ.", *lines)))


def _assert_agreement(messages: Tensor, call: str) -> None:
    """The same without a look at the messages, which would stall an accelerator."""
    same = (messages[:, 2:] == messages[:1, 2:]).all()
    torch._assert_async(same, f"All ranks must make the same call, as here {call}; they differ.")


def _named(ranks: list[int]) -> str:
    names = ", ".join(map(str, ranks[:8]))
    more = f" and {len(ranks) - 8} more" if len(ranks) > 8 else ""
    return f"rank{'s' if len(ranks) > 1 else ''} {names}{more}"


def _as_bytes(t: Tensor) -> Tensor:
    return t.flatten().view(torch.uint8)
