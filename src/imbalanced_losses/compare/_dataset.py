"""A torch data set of one's own as the table that folds are made of."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from imbalanced_losses._errors import DataError
from imbalanced_losses.compare._table import Table
from imbalanced_losses.recipes import Kind

_TOGETHER = 256


def read_dataset(data: Dataset[Any], loader: Mapping[str, Any] | None) -> Table:
    """Read a map-style data set of pairs `(x, y)` once, as a table of ready numbers.

    Targets of zeros and ones are a binary problem, other class indices a multiclass one, and zeros
    and ones `[L]` for each item a multi-label one. What is random in the data set is drawn once.
    Equal items belong in one fold.

    Args:
        data: Items are `(x, y)`, x a tensor of one shape.
        loader: Options of `torch.utils.data.DataLoader` to read it by, such as `num_workers` and
            `collate_fn`. It is not shuffled: folds are made of rows.

    Raises:
        DataError: The items are not such pairs, or hold one class.
    """
    options = {"batch_size": _TOGETHER} | dict(loader or {}) | {"shuffle": False}
    parts = []
    for batch in DataLoader(data, **options):
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise DataError(
                f"Batches of the data set must be pairs (x, y); got {type(batch).__name__}. Give a "
                "collate_fn in loader that makes them."
            )
        parts.append((torch.as_tensor(batch[0]), torch.as_tensor(batch[1])))
    if not parts:
        raise DataError("The data set is empty.")
    x, y = (torch.cat([part[place] for part in parts]) for place in (0, 1))
    if x.dim() < 2:
        raise DataError(f"x must be a tensor of features per item; got shape {list(x.shape[1:])}.")
    if not bool(x.isfinite().all()):
        raise DataError("The x of the data set hold a number that is not finite.")
    targets, kind, classes = _read_targets(y)
    features = x.float().numpy()
    return Table(
        name=type(data).__name__,
        features=features,
        targets=targets,
        kind=kind,
        classes=classes,
        groups=_equal(features),
    )


def _read_targets(y: Tensor) -> tuple[Any, Kind, tuple[str, ...]]:
    if y.dim() == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.dim() not in (1, 2) or not bool((y == y.long()).all()) or bool((y < 0).any()):
        raise DataError(
            "The y of the data set must be class indices, or zeros and ones for each label; got "
            f"{y.dtype} of shape {list(y.shape)}."
        )
    top = int(y.max())
    if y.dim() == 2:
        if top > 1:
            raise DataError(f"The labels of the data set must be zeros and ones; got {top}.")
        return y.numpy().astype(np.uint8), "multilabel", tuple(map(str, range(y.shape[1])))
    targets = y.numpy().astype(np.int64)
    there = sorted(set(targets.tolist()))
    if there != list(range(top + 1)) or top == 0:
        raise DataError(
            f"The classes of the data set must be 0, 1 and so on, each of them there; got {there}."
        )
    return targets, "binary" if top == 1 else "multiclass", tuple(map(str, range(top + 1)))


def _equal(features: Any) -> Any:
    """Numbers of the rows `[N]`, equal for equal ones."""
    flat = np.ascontiguousarray(features.reshape(len(features), -1))
    rows = flat.view(np.dtype((np.void, flat.dtype.itemsize * flat.shape[1])))[:, 0]
    return np.unique(rows, return_inverse=True)[1].astype(np.int64)
