"""Which recipe helps a convolutional network of one's own: `compare` on images of a rare digit.

Run it with `python examples/own_network.py`.
"""

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import TensorDataset

from imbalanced_losses.compare import Comparison, compare

try:
    from sklearn.datasets import load_digits
except ImportError as error:
    raise SystemExit('This example needs scikit-learn: pip install ".[compare]"') from error

RARE = 8


def network(channels: int, outputs: int) -> nn.Module:
    """Any module from a batch of features to `outputs` logits; here from images `[N, 1, 8, 8]`."""
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, outputs),
    )


def make_data(eights: int) -> TensorDataset:
    """Images `[N, 1, 8, 8]` and whether each is an 8, of which only so many are kept."""
    pixels, digits = load_digits(return_X_y=True)
    images = torch.tensor(pixels / 16.0, dtype=torch.float32).reshape(-1, 1, 8, 8)
    rare = torch.tensor(digits == RARE)
    kept = torch.cat([(~rare).nonzero(), rare.nonzero()[:eights]]).flatten()
    return TensorDataset(images[kept], rare[kept].long())


def main(
    eights: int = 60, epochs: int = 40, folds: int = 5, jobs: int = -1, out: Path | None = None
) -> Comparison:
    """Compare, print verdict and threshold, and return what was found."""
    return compare(
        make_data(eights),
        model=network,
        goal="recall_at_budget",
        budget=0.03,  # three of a hundred images can be looked at
        recipes=("class_weights", "focal", "recall_mix"),
        folds=folds,
        repeats=1,
        jobs=jobs,
        max_epochs=epochs,
        out=out,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--eights", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--out", type=Path, help="folder for report.html and for going on")
    options = parser.parse_args()
    main(options.eights, options.epochs, out=options.out)
