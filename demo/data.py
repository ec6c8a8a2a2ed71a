"""The data of the demo: a file with its source in `WILT.md`, and digits that are made rare."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

WILT = Path(__file__).parent / "wilt.csv"
MOST, FEWEST = 150, 10


def digit_counts() -> list[int]:
    """Rows of digit 0 to 9, falling geometrically."""
    return [int(n) for n in np.geomspace(MOST, FEWEST, 10).round()]


def write_digits(path: Path, seed: int = 0) -> None:
    """Write scikit-learn's handwritten digits, the higher ones rare, as a CSV file.

    Args:
        path: Of the file: 64 columns for the pixels, and `digit`.
        seed: Draws the rows; how many there are of each digit never changes.
    """
    frame = load_digits(as_frame=True).frame.rename(columns={"target": "digit"})
    generator = np.random.default_rng(seed)
    drawn = [
        generator.choice(np.flatnonzero(frame["digit"] == digit), rows, replace=False)
        for digit, rows in enumerate(digit_counts())
    ]
    frame.iloc[np.sort(np.concatenate(drawn))].to_csv(path, index=False, float_format="%g")
