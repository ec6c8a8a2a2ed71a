"""Five classes from 51 % to 3 %: cross-entropy, class-weighted focal loss, and Smooth-AP.

Run it with `python examples/multiclass_long_tail.py`.
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn

from imbalanced_losses import LossWarmupWrapper, SmoothAPLoss, SoftmaxFocalLoss, class_weights

try:
    from sklearn.datasets import make_classification
    from sklearn.metrics import average_precision_score
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import label_binarize
except ImportError as error:
    raise SystemExit('This example needs scikit-learn: pip install ".[demo]"') from error

CLASSES = 5
BATCH_ROWS = 256


def make_data(rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`(x_train, x_test, y_train, y_test)`; each class has half the rows of the one before."""
    shares = [0.5**c for c in range(CLASSES)]
    x, y = make_classification(
        n_samples=rows,
        n_features=20,
        n_informative=15,
        n_redundant=2,
        n_classes=CLASSES,
        n_clusters_per_class=1,
        weights=[share / sum(shares) for share in shares],
        flip_y=0.01,
        random_state=42,
    )
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.25, random_state=42)
    return (
        torch.tensor(x_train, dtype=torch.float32),
        torch.tensor(x_test, dtype=torch.float32),
        torch.tensor(y_train),
        torch.tensor(y_test),
    )


def per_class_ap(model: nn.Module, x: Tensor, y: Tensor) -> list[float]:
    """One-vs-rest average precision of each class."""
    with torch.no_grad():
        probabilities = model(x).softmax(1).numpy()
    one_hot = label_binarize(y.numpy(), classes=range(CLASSES))
    return [float(ap) for ap in average_precision_score(one_hot, probabilities, average=None)]


def train(
    loss_fn: nn.Module,
    x: Tensor,
    y: Tensor,
    epochs: int,
    after_epoch: Callable[[int, nn.Module], None] = lambda epoch, model: None,
) -> nn.Module:
    """Train one network; same initial weights and batches for every loss."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(x.shape[1], 128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, CLASSES),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
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
        after_epoch(epoch, model)
    return model


def main(rows: int = 10_000, epochs: int = 20) -> dict[str, list[float]]:
    """Train with each loss and print the test average precision; returns it per class."""
    x_train, x_test, y_train, y_test = make_data(rows)
    counts = torch.bincount(y_train, minlength=CLASSES).tolist()
    alpha = class_weights(counts=counts, method="balanced", normalize="max")
    print(f"{len(y_train)} training rows, per class {counts}")
    print(f"focal alpha {[round(a, 3) for a in alpha.tolist()]}\n")

    warmup, blend = max(1, epochs // 4), max(1, epochs // 10)
    smooth_ap = LossWarmupWrapper(
        warmup_loss=nn.CrossEntropyLoss(),
        main_loss=SmoothAPLoss(num_classes=CLASSES, queue_size=1024),
        warmup_epochs=warmup,
        blend_epochs=blend,
        temp_start=1.0,
        temp_end=0.5,
        temp_decay_steps=(epochs - warmup) * -(-len(y_train) // BATCH_ROWS),
    )

    def log_phase(epoch: int, model: nn.Module) -> None:
        phase = "warm-up" if smooth_ap.in_warmup else "blend" if smooth_ap.in_blend else "main"
        ap = per_class_ap(model, x_test, y_test)
        line = f"epoch {epoch:2d}  {phase:<8} macro AP {sum(ap) / CLASSES:.4f}"
        if smooth_ap.current_temperature is not None:
            line += f"  temperature {smooth_ap.current_temperature:.4f}"
        print(line)

    models = {
        "cross-entropy": train(nn.CrossEntropyLoss(), x_train, y_train, epochs),
        "weighted focal": train(SoftmaxFocalLoss(alpha=alpha, gamma=2.0), x_train, y_train, epochs),
        "Smooth-AP after warm-up": train(smooth_ap, x_train, y_train, epochs, log_phase),
    }
    result = {name: per_class_ap(model, x_test, y_test) for name, model in models.items()}
    print(f"\n{'test AP':<26}macro  " + "".join(f"class {c} " for c in range(CLASSES)))
    for name, ap in result.items():
        print(f"{name:<26}{sum(ap) / CLASSES:.4f} " + "".join(f" {value:.4f} " for value in ap))
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    # A model this small runs faster on one thread than on several.
    torch.set_num_threads(1)
    main(options.rows, options.epochs)
