"""Training with Hugging Face Accelerate: prepare the model, and leave the loss as it is.

Run it with `accelerate launch --multi_gpu examples/accelerate_training.py` on GPUs, with
`torchrun --standalone --nproc-per-node 2 examples/accelerate_training.py` on anything, or with
`python` for one process: the result is the same to rounding. It needs
`pip install ".[accelerate]"`, in a clone of this repository.
"""

import argparse

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from imbalanced_losses import LossWarmupWrapper, SmoothAPLoss, SoftmaxFocalLoss

SHARES = (0.90, 0.08, 0.02)
CLASSES = len(SHARES)
FEATURES = 8
BATCH_ROWS = 128  # of all processes together


def make_data(rows: int) -> tuple[Tensor, Tensor]:
    """Three overlapping Gaussian classes, the same in every process."""
    generator = torch.Generator().manual_seed(0)
    y = torch.multinomial(torch.tensor(SHARES), rows, replacement=True, generator=generator)
    centres = 0.9 * torch.randn(CLASSES, FEATURES, generator=generator)
    return centres[y] + torch.randn(rows, FEATURES, generator=generator), y


def main(rows: int = 4_000, epochs: int = 6) -> float:
    """Train, print the last loss and return it; every process has the same one."""
    # cpu: without it, processes on a machine without a GPU would each train alone.
    # split_batches: the loader's batch is that of all processes, each takes its part of it.
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),
        dataloader_config=DataLoaderConfiguration(split_batches=True),
    )
    torch.manual_seed(0)
    # An incomplete batch would be filled up with rows that the others have already.
    loader = DataLoader(
        TensorDataset(*make_data(rows)),
        batch_size=BATCH_ROWS,
        shuffle=True,
        generator=torch.Generator().manual_seed(0),
        drop_last=True,
    )
    model = nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, CLASSES))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    loss_fn = LossWarmupWrapper(
        SoftmaxFocalLoss(),
        SmoothAPLoss(num_classes=CLASSES, queue_size=512),
        warmup_epochs=epochs // 3,
        blend_epochs=1,
        temp_start=0.5,
        temp_end=0.1,
        temp_decay_steps=epochs * len(loader),
    ).to(accelerator.device)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    # The loss has no parameters to prepare, and finds the process group by itself. Its queue and
    # schedule go into the checkpoints of `accelerator.save_state`.
    accelerator.register_for_checkpointing(loss_fn)

    loss, step = torch.zeros(()), 0
    for epoch in range(epochs):
        loss_fn.on_train_epoch_start(epoch)
        for x, y in loader:
            loss_fn.on_train_batch_start(step)
            loss = loss_fn(model(x), y)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            step += 1

    rank, ranks = accelerator.process_index, accelerator.num_processes
    print(f"rank {rank} of {ranks}: final loss {loss.item():.4f}")
    accelerator.wait_for_everyone()  # a rank that leaves early takes its connections with it
    accelerator.end_training()
    return loss.item()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4_000)
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()
    # A model this small runs faster on one thread than on several.
    torch.set_num_threads(1)
    main(options.rows, options.epochs)
