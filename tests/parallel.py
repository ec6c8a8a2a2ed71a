"""Run a function on several gloo processes and hand back what each returned."""

import multiprocessing
import tempfile
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

# Long for a machine that is busy, short for a test that hangs: the waiting rank raises.
PATIENCE = timedelta(seconds=300)

# Ranks are forked from a process that has imported what all of them need: several times faster than
# a new interpreter for each.
multiprocessing.set_forkserver_preload(["pytest", "torch.distributed.fsdp", "imbalanced_losses"])
# So is the worker of a data loader: forked from the process of the tests, it would write down
# all that has been covered there before it ends.
WORKERS: dict[str, Any] = {"num_workers": 1, "multiprocessing_context": "forkserver"}


def start(world_size: int, *arguments: Any, join: bool = True) -> Any:
    """Start the ranks, and wait for them if `join`."""
    return mp.start_processes(
        _rank, (world_size, *arguments), world_size, join=join, start_method="forkserver"
    )


def run(world_size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Results of `function(rank, *arguments)`, by rank; an error on any rank is raised here."""
    with tempfile.TemporaryDirectory() as folder:
        start(world_size, folder, function, arguments)
        return [
            torch.load(Path(folder) / f"{rank}.pt", weights_only=False)
            for rank in range(world_size)
        ]


def exit_codes(world_size: int, function: Callable[..., Any], *arguments: Any) -> list[int | None]:
    """How the ranks end that are expected to die in `function`; minus the number of a signal."""
    with tempfile.TemporaryDirectory() as folder:
        processes = start(world_size, folder, function, arguments, join=False).processes
        for process in processes:
            process.join(PATIENCE.total_seconds())
        return [process.exitcode for process in processes]


def _rank(
    rank: int, world_size: int, folder: str, function: Callable[..., Any], arguments: tuple
) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    for known in (
        "The pool of",
        "FSDP2-wrapped module .* returned a view",
        "TypedStorage is deprecated",  # by torch 2.8, which uses it
    ):
        warnings.filterwarnings("ignore", known)
    store = dist.FileStore(f"{folder}/store", world_size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size, timeout=PATIENCE)
    try:
        torch.save(function(rank, *arguments), f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()
