"""Log what a ranking loss says about each class while it trains (`return_per_class=True`).

Run it with `python examples/per_class_logging.py`. It needs torch alone.
"""

import argparse

import torch
from torch import Tensor, nn

from imbalanced_losses import LossWarmupWrapper, SmoothAPLoss

SHARES = (0.80, 0.15, 0.04, 0.01)
CLASSES = len(SHARES)
FEATURES = 8
BATCH_ROWS = 64


def make_data(rows: int) -> tuple[Tensor, Tensor]:
    """Four overlapping Gaussian classes; the last one is 1 % of the rows."""
    generator = torch.Generator().manual_seed(0)
    y = torch.multinomial(torch.tensor(SHARES), rows, replacement=True, generator=generator)
    centres = 0.9 * torch.randn(CLASSES, FEATURES, generator=generator)
    return centres[y] + torch.randn(rows, FEATURES, generator=generator), y


def main(rows: int = 4_000, epochs: int = 12) -> list[list[float]]:
    """Train and print one line per main-phase epoch; returns its per-class AP estimates.

    1 minus the per-class loss is an estimate of the class's average precision on the batch and
    the queue. A class is left out of the mean wherever it had no positive there (`valid` False).
    """
    x, y = make_data(rows)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, CLASSES))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    steps_per_epoch = -(-rows // BATCH_ROWS)
    warmup = max(1, epochs // 4)
    loss_fn = LossWarmupWrapper(
        nn.CrossEntropyLoss(),
        SmoothAPLoss(num_classes=CLASSES, queue_size=512),
        warmup_epochs=warmup,
        temp_start=0.5,
        temp_end=0.1,
        temp_decay_steps=(epochs - warmup) * steps_per_epoch,
    )
    print("epoch   " + "".join(f"class {c} ({SHARES[c]:.0%})".rjust(16) for c in range(CLASSES)))
    log: list[list[float]] = []
    for epoch in range(epochs):
        loss_fn.on_train_epoch_start(epoch)
        total, seen = torch.zeros(CLASSES), torch.zeros(CLASSES)
        for step, batch in enumerate(torch.split(torch.randperm(rows), BATCH_ROWS)):
            loss_fn.on_train_batch_start(epoch * steps_per_epoch + step)
            logits = model(x[batch])
            if loss_fn.in_warmup:
                loss = loss_fn(logits, y[batch])
            else:
                loss, per_class, valid = loss_fn(logits, y[batch], return_per_class=True)
                # NaN marks an invalid class, so it is dropped here, not averaged in.
                total += (1 - per_class.detach()).where(valid, torch.zeros(()))
                seen += valid
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if loss_fn.in_warmup:
            print(f"{epoch:5d}   warm-up")
            continue
        log.append((total / seen).tolist())
        print(f"{epoch:5d}   " + "".join(f"{ap:16.3f}" for ap in log[-1]))
    return log


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4_000)
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    # A model this small runs faster on one thread than on several.
    torch.set_num_threads(1)
    main(options.rows, options.epochs)
