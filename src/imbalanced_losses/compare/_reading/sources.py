"""Where rows come from: CSV, Parquet, NPZ, data frames and arrays, read whole or refused."""

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from imbalanced_losses._errors import DataError, counted, doubled, listed, quoted
from imbalanced_losses.compare._reading.csv import read_csv
from imbalanced_losses.compare._table import Finding

MOST_BYTES = 4_000_000_000
"""A Parquet or NPZ file of more bytes, once unpacked, is refused before it is read."""


@dataclass(frozen=True)
class Source:
    """Rows as they came.

    Attributes:
        name: Of the file, or what the data are called without one.
        features: A frame in which the targets are columns, where `targets` is None; else the
            features alone, as a frame or an array `[N, columns]` of numbers.
        targets: `[N]` or `[N, L]`, where they came apart from the features.
        labels: What the columns of the targets are called.
        groups: `[N]`, where the group of a row came apart from the features.
        findings: What was met in reading.
    """

    name: str
    features: pd.DataFrame | NDArray[Any]
    targets: NDArray[Any] | None = None
    labels: tuple[str, ...] = ()
    groups: NDArray[Any] | None = None
    findings: tuple[Finding, ...] = ()


def read_source(data: Any, targets: Sequence[str], group: str | None = None) -> Source:
    """The rows of a file, a frame, or a pair of features and targets.

    Args:
        data: A path to a CSV, Parquet or NPZ file; a data frame that holds the target; or a pair
            `(X, y)`, also as a mapping with these keys.
        targets: Names of the target columns, as far as they are known.
        group: What the groups of rows are called, if there are any: an array of an NPZ file, or a
            column of the features, which stays there.

    Raises:
        DataError: It cannot be read as a table, or is too large.
    """
    if isinstance(data, str | os.PathLike):
        return _checked(_read_file(Path(data), targets, group))
    if isinstance(data, pd.DataFrame):
        return _checked(Source("data", data))
    if isinstance(data, Mapping) and {"X", "y"} <= set(data):
        data = (data["X"], data["y"])
    if isinstance(data, tuple | list) and len(data) == 2:
        return _checked(_pair(*data))
    raise DataError(
        "data must be a path to a CSV, Parquet or NPZ file, a pandas data frame, or a pair (X, y); "
        f"got {type(data).__name__}."
    )


def _read_file(path: Path, targets: Sequence[str], group: str | None) -> Source:
    name = quoted(path.name)
    try:
        if not path.is_file():
            kind = "a folder" if path.is_dir() else "not there" if not path.exists() else "no file"
            raise DataError(f"{quoted(path)} is {kind}. Name a CSV, Parquet or NPZ file.")
        with path.open("rb") as file:
            start = file.read(8)
        if not start:
            raise DataError(f"{name} is empty.")
        if start.startswith(b"PAR1"):
            return Source(path.name, _parquet(path))
        if start.startswith(b"PK"):
            return _npz(path, targets, group)
        if start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
            raise DataError(f"{name} is compressed. Unpack it, or store the table as Parquet.")
        frame, findings = read_csv(path, targets)
        return Source(path.name, frame, findings=findings)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{quoted(path)} cannot be read: {reason}.") from error
    except MemoryError as error:
        raise DataError(f"{name} does not fit into memory. Draw a sample of its rows.") from error


def _parquet(path: Path) -> pd.DataFrame:
    try:
        meta = pq.read_metadata(path)
        size = sum(meta.row_group(k).total_byte_size for k in range(meta.num_row_groups))
        _small_enough(path.name, max(size, 8 * meta.num_rows * meta.num_columns), meta.num_rows)
        frame: pd.DataFrame = pq.read_table(path).to_pandas()
        return frame
    except (pa.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise DataError(f"{quoted(path.name)} is a broken Parquet file: {reason}") from error


def _npz(path: Path, targets: Sequence[str], group: str | None) -> Source:
    """Arrays by name, without pickle: `X`, `y`, groups, and the names of columns and labels."""
    name = quoted(path.name)
    try:
        with zipfile.ZipFile(path) as archive:
            if "[Content_Types].xml" in archive.namelist():
                raise DataError(f"{name} is an Excel workbook. Save the sheet as CSV.")
            shapes = {
                entry.removesuffix(".npy"): _header(archive, entry, name)
                for entry in archive.namelist()
                if entry.endswith(".npy")
            }
        labels = targets[0] if len(targets) == 1 else "y"
        for wanted in ("X", labels):
            if wanted not in shapes:
                raise DataError(
                    f"{name} has no array {quoted(wanted)}; it has {listed(shapes) or 'none'}. "
                    "Save features as X [rows, columns] and targets as y [rows]."
                )
        sizes = [int(np.prod(shape, dtype=object)) * item for shape, item in shapes.values()]
        rows = shapes["X"][0][:1] or (0,)
        _small_enough(path.name, sum(sizes), rows[0])
        with np.load(path, allow_pickle=False) as arrays:
            columns = arrays["feature_names"].tolist() if "feature_names" in shapes else None
            names = arrays["label_names"].tolist() if "label_names" in shapes else None
            source = _pair(arrays["X"], arrays[labels], columns, names)
            groups = arrays[group] if group in shapes else None
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, NotImplementedError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{name} is no NPZ file of plain arrays: {error}.") from error
    if groups is not None and groups.shape != (len(source.features),):
        raise DataError(
            f"{quoted(str(group))} must hold the group of each row, [{len(source.features)}]; got "
            f"shape {list(groups.shape)}."
        )
    return replace(source, name=path.name, groups=groups)


def _header(archive: zipfile.ZipFile, entry: str, name: str) -> tuple[tuple[int, ...], int]:
    """Shape and bytes per number of an array that is not read."""
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        if version not in read:
            raise DataError(f"{name} holds an array of format {version}, which cannot be read.")
        shape, _, dtype = read[version](file)
    if dtype.hasobject:
        raise DataError(
            f"{name} holds Python objects, which could run code when loaded. Save arrays of "
            "numbers or of strings (dtype str)."
        )
    return shape, dtype.itemsize


def _small_enough(name: str, size: int, rows: int) -> None:
    """Refuse what would not fit into the memory of an ordinary machine, before it is read."""
    if size > MOST_BYTES:
        raise DataError(
            f"{quoted(name)} is too large: {counted(rows, 'row')} need {size / 1e9:,.1f} GB in "
            f"memory, of which at most {MOST_BYTES / 1e9:g} are taken. Draw a sample of its rows."
        )


def _pair(
    features: Any,
    targets: Any,
    columns: Sequence[object] | None = None,
    labels: Sequence[object] | None = None,
) -> Source:
    """Features and targets that came apart."""
    if isinstance(targets, pd.DataFrame):
        labels = list(targets.columns)
    elif isinstance(targets, pd.Series) and targets.name is not None:
        labels = [targets.name]
    y = _array("y", targets)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim not in (1, 2):
        raise DataError(
            f"y must have one target per row [N], or one column per label [N, L]; got shape "
            f"{list(y.shape)}."
        )
    if not isinstance(features, pd.DataFrame):
        x = _array("X", features)
        if x.ndim != 2:
            raise DataError(
                f"X must have shape [rows, columns]; got {list(x.shape)}. Reshape it to "
                "[rows, -1], and back inside of your own network."
            )
        features = _numbers(x)
        if columns is not None or isinstance(features, pd.DataFrame):
            columns = list(range(x.shape[1])) if columns is None else columns
            if len(columns) != x.shape[1]:
                raise DataError(
                    f"feature_names must hold one name for each of the {x.shape[1]} columns of X; "
                    f"got {len(columns)}."
                )
            features = pd.DataFrame(features)
            features.columns = pd.Index(columns)
    if len(features) != len(y):
        raise DataError(
            f"X and y must have equally many rows; got {len(features):,} and {len(y):,}."
        )
    count = 1 if y.ndim == 1 else y.shape[1]
    if labels is None or len(labels) != count:
        labels = ["y"] if y.ndim == 1 else [f"label {k}" for k in range(count)]
    return Source("data", features, y, tuple(map(str, labels)))


def _array(name: str, value: Any) -> NDArray[Any]:
    """A list, array, series or tensor as an array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    if hasattr(value, "toarray"):
        raise DataError(f"{name} must be dense; got a sparse matrix. Pass {name}.toarray().")
    try:
        if isinstance(value, list | tuple):
            # Strings and numbers side by side must not all become strings.
            value = pd.DataFrame(value).to_numpy() if name == "X" else pd.Series(value).to_numpy()
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} must be an array with rows of equal length; {error}.") from error
    if array.ndim == 0 or array.dtype.kind in "cV":
        raise DataError(
            f"{name} must be an array of numbers or of strings; got {array.dtype} of shape "
            f"{list(array.shape)}."
        )
    return array


def _numbers(x: NDArray[Any]) -> NDArray[Any] | pd.DataFrame:
    """Numbers as floats; anything else as the columns of a frame."""
    if x.dtype.kind == "f":
        return x if x.dtype == np.float32 else x.astype(np.float64)
    if x.dtype.kind in "biu":
        return x.astype(np.float64)
    return pd.DataFrame(x).infer_objects()


def _checked(source: Source) -> Source:
    """The source, if it has rows, and columns that can be told apart by name."""
    features = source.features
    if isinstance(features, pd.DataFrame):
        names = [str(name) for name in features.columns]
        if len(set(names)) < len(names):
            raise DataError(doubled(quoted(source.name), names))
        # Rows are counted from 0 here: a frame may come with an index of its own.
        features = features.set_axis(names, axis=1).reset_index(drop=True)
    if len(features) == 0:
        raise DataError(f"{quoted(source.name)} has no rows.")
    return replace(source, features=features)
