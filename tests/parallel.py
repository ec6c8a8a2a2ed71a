"""Run a function on several gloo processes and hand back what each returned."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run(world_size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Results of `function(rank, *arguments)`, by rank; an error on any rank is raised here."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_rank, (world_size, folder, function, arguments), nprocs=world_size)
        return [
            torch.load(Path(folder) / f"{rank}.pt", weights_only=False)
            for rank in range(world_size)
        ]


def _rank(
    rank: int, world_size: int, folder: str, function: Callable[..., Any], arguments: tuple
) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", world_size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size)
    try:
        torch.save(function(rank, *arguments), f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()
