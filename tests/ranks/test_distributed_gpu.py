"""Ranks whose batches are on an accelerator: the same results, and no stall but for lengths."""

import warnings

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import parallel
from cases import CASES
from imbalanced_losses.distributed import join_rows, sum_across_ranks

pytestmark = pytest.mark.gpu
SHARDS = (45, 15)


def train(name: str, device: str, rank: int | None) -> tuple[list[Tensor], list[Tensor]]:
    """Losses, and this rank's part of the gradient that one process would have."""
    case = CASES[name]
    loss_fn, losses, gradients = case.build().to(device), [], []
    rows = slice(None) if rank is None else slice(rank * SHARDS[0], SHARDS[0] + rank * SHARDS[1])
    for step in range(3):
        joined = case.batch(seed=step, rows=sum(SHARDS), dtype=torch.float64)
        logits, targets = (t[rows].to(device) for t in joined)
        loss = loss_fn(logits.requires_grad_(), targets)
        loss.backward()
        losses.append(loss.detach().cpu())
        gradients.append(logits.grad.cpu() / (1 if rank is None else dist.get_world_size()))
    return losses, gradients


def on_gpu(rank: int) -> dict[str, object]:
    trained = {name: train(name, "cuda", rank) for name in CASES}
    errors = []
    for name in ("smooth_ap", "softmax_focal"):
        logits, targets = (t.cuda() for t in CASES[name].batch())
        with pytest.raises(ValueError, match="rank 1") as caught:
            CASES[name].build()(logits.half() if rank else logits, targets)
        errors.append(str(caught.value))
    return {"trained": trained, "errors": errors}


def test_ranks_on_a_gpu_equal_one_process_on_the_cpu() -> None:
    results = parallel.run(2, on_gpu)
    for name in CASES:
        losses, gradients = train(name, "cpu", None)
        joined = zip(*(rank["trained"][name][1] for rank in results), strict=True)
        torch.testing.assert_close([torch.cat(parts) for parts in joined], gradients)
        for rank in results:
            torch.testing.assert_close(rank["trained"][name][0], losses)
    assert results[0]["errors"] == results[1]["errors"]


@pytest.fixture
def nccl(tmp_path):
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group(
        "nccl", store=store, rank=0, world_size=1, device_id=torch.device("cuda", 0)
    )
    yield
    torch.cuda.set_sync_debug_mode("default")
    dist.destroy_process_group()


def stalls(function, *arguments) -> int:
    """How often the second of two equal calls waits for the device."""
    function(*arguments)
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function(*arguments)
    torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(warning.message) for warning in caught)


def test_sums_wait_for_nothing_and_rows_for_their_lengths(nccl) -> None:
    one = torch.ones((), device="cuda", requires_grad=True)
    assert stalls(sum_across_ranks, one, one.detach(), "sums") == 0
    assert stalls(join_rows, torch.ones(5, 3, device="cuda"), "rows") == 1
