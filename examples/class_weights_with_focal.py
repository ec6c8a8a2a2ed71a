"""Class weights from the training counts, alone and together with focal loss.

Run it with `python examples/class_weights_with_focal.py`.
"""

import argparse

import torch
from torch import Tensor, nn

from imbalanced_losses import SoftmaxFocalLoss, class_weights, init_prior_bias

try:
    from sklearn.datasets import make_classification
    from sklearn.metrics import average_precision_score, recall_score
    from sklearn.model_selection import train_test_split
except ImportError as error:
    raise SystemExit('This example needs scikit-learn: pip install ".[compare]"') from error

CLASSES = 3
RARE = 2


def show_weights(counts: list[int]) -> None:
    """Print the weights that each method gives, and what smoothing is for."""
    print(f"rows per class {counts}")
    by_method = {
        "inverse": class_weights(counts=counts, method="inverse", normalize="mean"),
        "sqrt_inverse": class_weights(counts=counts, method="sqrt_inverse", normalize="mean"),
        "effective_number": class_weights(
            counts=counts, method="effective_number", normalize="mean"
        ),
    }
    for method, weights in by_method.items():
        print(f"  {method:<18}{[round(w, 3) for w in weights.tolist()]}")
    # A class without rows has no inverse frequency; smoothing gives it a large, finite weight.
    absent = class_weights(counts=[*counts, 0], smoothing=1.0, normalize="mean")
    print(f"  a fourth class without rows, smoothing 1: {[round(w, 3) for w in absent.tolist()]}\n")


def make_data(rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`(x_train, x_test, y_train, y_test)` with 80 %, 15 % and 5 % of the rows per class."""
    x, y = make_classification(
        n_samples=rows,
        n_features=20,
        n_informative=10,
        n_redundant=5,
        n_classes=CLASSES,
        weights=[0.8, 0.15, 0.05],
        random_state=42,
    )
    x_train, x_test, y_train, y_test = train_test_split(
        x, y, test_size=0.4, stratify=y, random_state=42
    )
    return (
        torch.tensor(x_train, dtype=torch.float32),
        torch.tensor(x_test, dtype=torch.float32),
        torch.tensor(y_train),
        torch.tensor(y_test),
    )


def train(loss_fn: nn.Module, x: Tensor, y: Tensor, epochs: int, *, prior_bias: bool) -> nn.Module:
    """Train one small network on full batches, from the same initial weights."""
    torch.manual_seed(0)
    head = nn.Linear(64, CLASSES)
    if prior_bias:
        init_prior_bias(head, y)
    model = nn.Sequential(nn.Linear(x.shape[1], 64), nn.ReLU(), head)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(epochs):
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        optimizer.step()
    return model


def main(rows: int = 5_000, epochs: int = 150) -> dict[str, dict[str, float]]:
    """Train with and without weights and print what happens to the rarest class."""
    x_train, x_test, y_train, y_test = make_data(rows)
    show_weights(torch.bincount(y_train).tolist())
    weights = class_weights(y_train, method="balanced")
    losses: dict[str, tuple[nn.Module, bool]] = {
        "cross-entropy": (nn.CrossEntropyLoss(), False),
        "CE + prior bias": (nn.CrossEntropyLoss(), True),
        "weighted CE": (nn.CrossEntropyLoss(weight=weights), False),
        "focal": (SoftmaxFocalLoss(gamma=2.0), False),
        "weighted focal": (SoftmaxFocalLoss(alpha=weights, gamma=2.0), False),
    }
    result = {}
    print(f"{'loss':<18}{'rare AP':>9}{'rare recall':>13}{'balanced accuracy':>19}")
    for name, (loss_fn, prior_bias) in losses.items():
        model = train(loss_fn, x_train, y_train, epochs, prior_bias=prior_bias)
        with torch.no_grad():
            probabilities = model(x_test).softmax(1).numpy()
        labels = y_test.numpy()
        recalls = recall_score(labels, probabilities.argmax(1), average=None)
        result[name] = {
            "rare AP": float(average_precision_score(labels == RARE, probabilities[:, RARE])),
            "rare recall": float(recalls[RARE]),
            "balanced accuracy": float(recalls.mean()),
        }
        ap, recall, accuracy = result[name].values()
        print(f"{name:<18}{ap:>9.3f}{recall:>13.3f}{accuracy:>19.3f}")
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--epochs", type=int, default=150)
    options = parser.parse_args()
    # A model this small runs faster on one thread than on several.
    torch.set_num_threads(1)
    main(options.rows, options.epochs)
