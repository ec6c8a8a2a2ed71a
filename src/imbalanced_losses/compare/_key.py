"""What a stored trial depends on, in one hash: data, settings, code."""

import hashlib
import inspect
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
import torch

from imbalanced_losses.compare._folds import Fold
from imbalanced_losses.compare._table import Table

# Of this room, only what makes trials; the other files judge and show them.
_MAKES_TRIALS = ("_boosting", "_features", "_folds", "_trials")


def key_of(
    table: Table, folds: Iterable[Fold], model: Callable[..., Any] | None, *told: Any
) -> str:
    """A hash that changes with whatever changes a trial, and with nothing else."""
    digest = hashlib.sha256(code_version().encode())
    for part in (table.kind, table.classes, model_version(model), *told):
        digest.update(repr(part).encode() + b"\0")
    _add_features(digest, table.features)
    _add(digest, table.targets)
    for fold in folds:
        for rows in fold[2:]:
            _add(digest, rows)
    return digest.hexdigest()


@cache
def code_version() -> str:
    """A hash of the sources that make a trial, and of the versions of what they stand on."""
    digest = hashlib.sha256(f"{torch.__version__} {sklearn.__version__}".encode())
    room = Path(__file__).parent
    for path in sorted(room.parent.rglob("*.py")):
        if room not in path.parents or path.stem in _MAKES_TRIALS:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def model_version(model: Callable[..., Any] | None) -> str:
    """The factory's name, what it holds, and the source of its file, or its bytecode without one.

    The name of an object that is no function or class holds its address: it is never known again.
    """
    if model is None:
        return ""
    cells = [cell.cell_contents for cell in getattr(model, "__closure__", None) or ()]
    name = f"{getattr(model, '__module__', '')}.{getattr(model, '__qualname__', repr(model))}"
    held = f"{cells} {getattr(model, '__defaults__', None)}"
    try:
        source = Path(inspect.getfile(model)).read_text()
    except (OSError, TypeError):
        code = getattr(model, "__code__", None)
        source = "" if code is None else f"{code.co_code.hex()} {code.co_consts} {code.co_names}"
    return f"{name} {held} {hashlib.sha256(source.encode()).hexdigest()}"


def _add_features(digest: Any, features: Any) -> None:
    if isinstance(features, pd.DataFrame):
        digest.update(repr([(str(n), str(d)) for n, d in features.dtypes.items()]).encode())
        _add(digest, pd.util.hash_pandas_object(features, index=False).to_numpy())
    else:
        _add(digest, features)


def _add(digest: Any, array: Any) -> None:
    array = np.ascontiguousarray(array)
    digest.update(f"{array.dtype} {array.shape}".encode())
    digest.update(array.view(np.uint8).data if array.size else b"")
