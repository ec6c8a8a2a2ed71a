"""Where a training runs: torch alone, or Lightning Fabric for other precisions and strategies."""

import os
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from imbalanced_losses.distributed import has_process_group

PRECISION, STRATEGY = "32-true", "auto"


def place_among_ranks() -> tuple[int, int]:
    """The rank of this process and how many there are, 0 and 1 where no launcher started it."""
    if has_process_group():
        return dist.get_rank(), dist.get_world_size()
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


class Engine:
    """Puts a network and its optimizer to work on a device.

    Args:
        device: As torch names it, such as "cpu", "cuda" or "cuda:1"; "auto": the accelerator that
            torch finds, else the CPU.
        precision: As Lightning Fabric names it, such as "bf16-mixed".
        strategy: As Lightning Fabric names it. A process that a launcher such as torchrun has
            started takes its place in the group.

    Raises:
        ImportError: Precision or strategy are not torch's own and Lightning is missing.
        ValueError: The device is not there.
    """

    def __init__(
        self, device: str = "cpu", precision: str = PRECISION, strategy: str = STRATEGY
    ) -> None:
        self.device = _available(device)
        self._fabric: Any = None
        if (precision, strategy) != (PRECISION, STRATEGY):
            self._fabric = _fabric(self.device, precision, strategy)
            self.device = self._fabric.device

    def setup(self, net: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
        """The network and the optimizer, to be called in the place of the ones given."""
        return (net, optimizer) if self._fabric is None else self._fabric.setup(net, optimizer)

    def backward(self, loss: Tensor) -> None:
        """Gradients of the loss."""
        if self._fabric is None:
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            self._fabric.backward(loss)

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of the row numbers of a batch, on the device."""
        if self._fabric is not None and self._fabric.world_size > 1:
            batch = batch[self._fabric.global_rank :: self._fabric.world_size]
        return batch.to(self.device)


def _available(device: str) -> torch.device:
    if device == "auto":
        found = torch.accelerator.current_accelerator(check_available=True)
        return torch.device("cpu") if found is None else found
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"device must be one that torch has here; got {device!r}.") from error
    return chosen


def _fabric(device: torch.device, precision: str, strategy: str) -> Any:
    try:
        from lightning.fabric import Fabric
    except ModuleNotFoundError as error:
        raise ImportError(
            f"precision={precision!r} and strategy={strategy!r} need Lightning Fabric: in a clone "
            'of this repository, pip install ".[lightning]".'
        ) from error
    devices: Any = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if device.index is not None:
        devices = [device.index]
    fabric = Fabric(
        accelerator=device.type, devices=devices, precision=precision, strategy=strategy
    )
    fabric.launch()
    return fabric
