"""What `docs/how-to/migrate.md` says of a gather by hand before a loss that gathers for itself."""

import torch
import torch.distributed as dist
from torch import Tensor

import parallel
from imbalanced_losses import SmoothAPLoss, all_gather_no_grad, all_gather_with_grad

SHARDS = (20, 44)


def gradient(rows: slice, *, by_hand: bool, copies: int = 1, **settings: bool) -> Tensor:
    """Gradient on a linear model of its own rows."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 8, generator=generator, dtype=torch.float64)[rows]
    targets = torch.randint(0, 4, (64,), generator=generator)[rows]
    weight = torch.linspace(-1, 1, 32, dtype=torch.float64).reshape(8, 4).requires_grad_()
    logits = (inputs @ weight).repeat(copies, 1)
    targets = targets.repeat(copies)
    if by_hand:
        logits, targets = all_gather_with_grad(logits), all_gather_no_grad(targets)
    loss_fn = SmoothAPLoss(num_classes=4, queue_size=0, temperature=0.1, **settings)
    loss_fn(logits, targets).backward()
    return weight.grad


def averaged(rank: int) -> dict[str, Tensor]:
    """What data parallelism hands to the optimizer."""
    rows = slice(None, SHARDS[0]) if rank == 0 else slice(SHARDS[0], None)
    gradients = {
        "the loss gathers": gradient(rows, by_hand=False),
        "by hand": gradient(rows, by_hand=True, gather_distributed=False),
        "both": gradient(rows, by_hand=True),
    }
    for value in gradients.values():
        dist.all_reduce(value)
    return {name: value / len(SHARDS) for name, value in gradients.items()}


def test_only_a_gather_by_hand_and_by_the_loss_together_changes_the_gradient() -> None:
    got = parallel.run(len(SHARDS), averaged)[0]
    whole = gradient(slice(None), by_hand=False)
    torch.testing.assert_close(got["the loss gathers"], whole)
    torch.testing.assert_close(got["by hand"], whole)
    # The page shows this error on one process, with every row as often as there are ranks.
    twice = gradient(slice(None), by_hand=False, copies=len(SHARDS))
    torch.testing.assert_close(got["both"], twice)
    assert (twice - whole).norm() > 0.05 * whole.norm()
