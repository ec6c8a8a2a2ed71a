"""Rows in small files of what is done, where a killed run goes on, and a fresh clone too."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd


def restore(results: Path, folder: Path, by: Sequence[str]) -> None:
    """Make the files that are not there from earlier results, if there are any.

    Args:
        results: One CSV file of all rows.
        folder: Where the small files lie.
        by: Columns whose values, joined by points, are the name of a row's file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not results.exists():
        return
    for key, rows in pd.read_csv(results).groupby(list(by)):
        path = folder / f"{'.'.join(map(str, key))}.csv"
        if not path.exists():
            rows.to_csv(path, index=False, float_format="%.5g")


def merged(folder: Path) -> pd.DataFrame:
    """The rows of all small files."""
    parts = [pd.read_csv(path) for path in sorted(folder.glob("*.csv"))]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
