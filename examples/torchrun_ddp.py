"""Data-parallel training with plain PyTorch: each rank has its rows, the loss sees those of all.

Run it with `torchrun --standalone --nproc-per-node 2 examples/torchrun_ddp.py`, or with `python`
for one process: the result is the same to rounding. It needs torch alone.
"""

import argparse
import os

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from imbalanced_losses import LossWarmupWrapper, SmoothAPLoss, SoftmaxFocalLoss

SHARES = (0.90, 0.08, 0.02)
CLASSES = len(SHARES)
FEATURES = 8
BATCH_ROWS = 128  # of all ranks together


def make_data(rows: int) -> tuple[Tensor, Tensor]:
    """Three overlapping Gaussian classes, the same on every rank."""
    generator = torch.Generator().manual_seed(0)
    y = torch.multinomial(torch.tensor(SHARES), rows, replacement=True, generator=generator)
    centres = 0.9 * torch.randn(CLASSES, FEATURES, generator=generator)
    return centres[y] + torch.randn(rows, FEATURES, generator=generator), y


def main(rows: int = 4_000, epochs: int = 6) -> float:
    """Train, print the last loss and return it; every rank has the same one."""
    rank, ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    if "RANK" in os.environ:  # started by torchrun
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")

    torch.manual_seed(0)
    model: nn.Module = nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, CLASSES))
    model.to(device)
    if dist.is_initialized():
        model = DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    # The loss finds the process group by itself. It has no parameters and stays outside DDP; save
    # its state_dict beside the model's, for it holds the queue and the schedule.
    loss_fn = LossWarmupWrapper(
        SoftmaxFocalLoss(),
        SmoothAPLoss(num_classes=CLASSES, queue_size=512),
        warmup_epochs=epochs // 3,
        blend_epochs=1,
        temp_start=0.5,
        temp_end=0.1,
        temp_decay_steps=epochs * rows // BATCH_ROWS,
    ).to(device)

    x, y = make_data(rows)
    order = torch.Generator().manual_seed(0)  # the same on every rank
    loss, step = torch.zeros(()), 0
    for epoch in range(epochs):
        loss_fn.on_train_epoch_start(epoch)
        for batch in torch.split(torch.randperm(rows, generator=order), BATCH_ROWS):
            loss_fn.on_train_batch_start(step)
            own = batch[rank::ranks]  # the ranks need not have equally many rows
            loss = loss_fn(model(x[own].to(device)), y[own].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1

    print(f"rank {rank} of {ranks}: final loss {loss.item():.4f}")
    if dist.is_initialized():
        dist.barrier()  # a rank that leaves early takes its connections with it
        dist.destroy_process_group()
    return loss.item()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4_000)
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()
    # A model this small runs faster on one thread than on several.
    torch.set_num_threads(1)
    main(options.rows, options.epochs)
