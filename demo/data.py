"""Scikit-learn's handwritten digits, made rare: a long-tailed task and a rare-digit task."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

HeldOut = Literal["test", "validation"]

CLASSES = 10
HEAD_ROWS = 150
TAIL_ROWS = 5
TEST_ROWS_PER_CLASS = 28
GROUPS = {"head": (0, 1, 2), "middle": (3, 4, 5, 6), "tail": (7, 8, 9)}

RARE_DIGIT = 8
RARE_TRAIN = (700, 10)  # rows of the other digits, rows of the rare one
RARE_TEST = (900, 100)


@dataclass(frozen=True)
class Split:
    """Rows to train on and rows to score, without a row in common."""

    x_train: Tensor
    """Pixels in [0, 1], float32 `[N, 64]`."""
    y_train: Tensor
    """Class ids, int64 `[N]`."""
    x_test: Tensor
    y_test: Tensor
    train_rows: tuple[int, ...]
    """Positions of the training rows in the original data set."""
    test_rows: tuple[int, ...]

    @property
    def train_counts(self) -> list[int]:
        """Training rows per class."""
        return torch.bincount(self.y_train).tolist()

    @property
    def test_counts(self) -> list[int]:
        """Held-out rows per class."""
        return torch.bincount(self.y_test).tolist()


def long_tail_counts() -> list[int]:
    """Training rows of digit 0 to 9, falling geometrically from the head to the tail."""
    return [int(n) for n in np.geomspace(HEAD_ROWS, TAIL_ROWS, CLASSES).round()]


def long_tailed_digits(seed: int, held_out: HeldOut = "test") -> Split:
    """Ten classes: a long-tailed training set and a balanced test set.

    Args:
        seed: Draws the rows; the numbers of rows never change.
        held_out: "test" scores the test rows. "validation" never looks at them: it takes a fifth
            of each class's training rows away and scores those, to choose settings by.
    """
    _, digits = _digits()
    wanted = {digit: (n, TEST_ROWS_PER_CLASS) for digit, n in enumerate(long_tail_counts())}
    return _draw(digits, wanted, seed, held_out)


def rare_digit(seed: int, held_out: HeldOut = "test") -> Split:
    """One rare digit against the rest; the test set holds enough positives to measure with."""
    _, digits = _digits()
    labels = (digits == RARE_DIGIT).astype(np.int64)
    wanted = {label: (RARE_TRAIN[label], RARE_TEST[label]) for label in (0, 1)}
    return _draw(labels, wanted, seed, held_out)


def one_image_per_digit() -> list[np.ndarray[tuple[int, int], np.dtype[np.float64]]]:
    """The first image of each digit, `[8, 8]` with values in [0, 1]."""
    pixels, digits = _digits()
    return [pixels[np.argmax(digits == digit)].reshape(8, 8) for digit in range(CLASSES)]


def _digits() -> tuple[np.ndarray, np.ndarray]:
    pixels, digits = load_digits(return_X_y=True)
    return pixels / 16.0, digits.astype(np.int64)


def _draw(
    labels: np.ndarray, wanted: dict[int, tuple[int, int]], seed: int, held_out: HeldOut
) -> Split:
    """Draw `wanted[label] = (training rows, test rows)` at random and without overlap."""
    generator = np.random.default_rng(seed)
    train: list[int] = []
    test: list[int] = []
    for label, (n_train, n_test) in wanted.items():
        rows = generator.permutation(np.flatnonzero(labels == label))
        # Test rows come first, so that they stay put whatever is done to the training rows.
        own_test, own_train = rows[:n_test], rows[n_test : n_test + n_train]
        if held_out == "validation":
            fifth = max(1, n_train // 5)
            own_test, own_train = own_train[:fifth], own_train[fifth:]
        train += own_train.tolist()
        test += own_test.tolist()
    pixels, _ = _digits()
    x, y = torch.tensor(pixels, dtype=torch.float32), torch.from_numpy(labels)
    return Split(x[train], y[train], x[test], y[test], tuple(train), tuple(test))
