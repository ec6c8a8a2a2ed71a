"""Binary classification with 5 % positives: BCE, focal loss, and Smooth-AP after a warm-up.

Run it with `python examples/binary_rare_positives.py`.
"""

import argparse

import torch
from torch import Tensor, nn

from imbalanced_losses import LossWarmupWrapper, SigmoidFocalLoss, SmoothAPLoss, init_prior_bias

try:
    from sklearn.datasets import make_classification
    from sklearn.metrics import average_precision_score
    from sklearn.model_selection import train_test_split
except ImportError as error:
    raise SystemExit('This example needs scikit-learn: pip install ".[demo]"') from error

BATCH_ROWS = 256


def make_data(rows: int) -> list[Tensor]:
    """`[x_train, x_test, y_train, y_test]`, 5 % positives in both parts."""
    x, y = make_classification(
        n_samples=rows,
        n_features=20,
        n_informative=8,
        n_clusters_per_class=3,
        weights=[0.95],
        class_sep=0.8,
        flip_y=0.01,
        random_state=0,
    )
    parts = train_test_split(x, y, test_size=0.4, stratify=y, random_state=0)
    return [torch.tensor(part, dtype=torch.float32) for part in parts]


def train(loss_fn: nn.Module, x: Tensor, y: Tensor, epochs: int, *, prior_bias: bool) -> nn.Module:
    """Train one network; same initial weights and batches for every loss."""
    torch.manual_seed(0)
    head = nn.Linear(64, 1)
    model = nn.Sequential(nn.Linear(x.shape[1], 64), nn.ReLU(), head, nn.Flatten(0))
    if prior_bias:
        init_prior_bias(head, counts=[int(y.sum())], total=len(y), activation="sigmoid")
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    step = 0
    for epoch in range(epochs):
        if isinstance(loss_fn, LossWarmupWrapper):
            loss_fn.on_train_epoch_start(epoch)
        for rows in torch.split(torch.randperm(len(y)), BATCH_ROWS):
            if isinstance(loss_fn, LossWarmupWrapper):
                loss_fn.on_train_batch_start(step)
            optimizer.zero_grad()
            loss_fn(model(x[rows]), y[rows]).backward()
            optimizer.step()
            step += 1
    return model


def main(rows: int = 10_000, epochs: int = 30) -> dict[str, float]:
    """Train with each loss and print the test average precision; returns it by name."""
    x_train, x_test, y_train, y_test = make_data(rows)
    steps_per_epoch = -(-len(y_train) // BATCH_ROWS)
    warmup, blend = max(1, epochs // 3), max(1, epochs // 10)
    smooth_ap = LossWarmupWrapper(
        warmup_loss=nn.BCEWithLogitsLoss(),
        main_loss=SmoothAPLoss(num_classes=1, queue_size=2048),
        warmup_epochs=warmup,
        blend_epochs=blend,
        temp_start=1.0,
        temp_end=0.5,
        temp_decay_steps=(epochs - warmup) * steps_per_epoch,
    )
    losses: dict[str, tuple[nn.Module, bool]] = {
        "BCE": (nn.BCEWithLogitsLoss(), False),
        "BCE + prior bias": (nn.BCEWithLogitsLoss(), True),
        "focal": (SigmoidFocalLoss(alpha=0.25, gamma=2.0), False),
        "Smooth-AP after warm-up": (smooth_ap, False),
    }
    print(f"{len(y_train)} training rows, {int(y_train.sum())} positive")
    print(f"{'loss':<26}test AP   (a random ranking: {y_test.mean():.3f})")
    result = {}
    for name, (loss_fn, prior_bias) in losses.items():
        model = train(loss_fn, x_train, y_train, epochs, prior_bias=prior_bias)
        with torch.no_grad():
            scores = model(x_test)
        result[name] = float(average_precision_score(y_test.numpy(), scores.numpy()))
        print(f"{name:<26}{result[name]:.3f}")
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    # A model this small runs faster on one thread than on several.
    torch.set_num_threads(1)
    main(options.rows, options.epochs)
