"""What all losses share as modules: settings in frozen objects, and state that is no buffer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from typing import Self

T = TypeVar("T")


class Setting(Generic[T]):
    """An attribute of a module that is a field of one of its frozen objects.

    Assigning it makes a new object, which checks the new value.
    """

    def __init__(self, holder: str) -> None:
        self.holder = holder

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, module: None, owner: type) -> Self: ...
    @overload
    def __get__(self, module: nn.Module, owner: type) -> T: ...
    def __get__(self, module: nn.Module | None, owner: type) -> Self | T:
        if module is None:
            return self
        value: T = getattr(getattr(module, self.holder), self.name)
        return value

    def __set__(self, module: nn.Module, value: T) -> None:
        holder: Any = getattr(module, self.holder)
        setattr(module, self.holder, dataclasses.replace(holder, **{self.name: value}))


class Loss(nn.Module):
    """A module whose tensors follow its device, and which nothing else touches.

    Buffers would be filled with uninitialised memory on the way from the meta device, cast with a
    model's dtype, averaged with its weights and broadcast by `DistributedDataParallel`.
    """

    def _held(self) -> Tensor | None:
        """One of the tensors that this module holds, where it holds any."""
        raise NotImplementedError

    def _move(self, device: torch.device) -> None:
        """Put all of them on a device."""
        raise NotImplementedError

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        held = self._held()
        if held is not None:
            device = fn(torch.empty(0, device=held.device)).device
            if device.type != "meta":
                self._move(device)
        return self
