"""A user's own network, by name."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import torch
from torch import nn

from imbalanced_losses._errors import DataError, quoted
from imbalanced_losses.compare._features import ToNumbers
from imbalanced_losses.compare._table import Table

Factory: TypeAlias = Callable[[int, int], nn.Module]

_ROWS = 32


def load_factory(name: str) -> Factory:
    """What `package:factory` names: a function of the numbers of inputs and outputs.

    Packages are looked for where Python looks, and in the folder that the command runs in.

    Raises:
        DataError: There is no such thing, importing it fails, or it cannot be called.
    """
    package, colon, path = name.partition(":")
    if not (package and colon and path):
        raise DataError(f"model must be of the form package:factory; got {quoted(name)}.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(package)
    except Exception as error:
        raise DataError(
            f"model {quoted(name)}: importing {quoted(package)} fails with "
            f"{type(error).__name__}: {error}."
        ) from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise DataError(f"model {quoted(name)}: {quoted(package)} has no {quoted(path)}.")
        found = getattr(found, part)
    if not callable(found):
        raise DataError(
            f"model {quoted(name)} must be a function of the numbers of inputs and outputs that "
            f"returns a network; got {type(found).__name__}."
        )
    factory: Factory = found
    return factory


def check_factory(factory: Factory, table: Table) -> None:
    """Build the network once and show it rows of the table, before it is trained many times.

    Raises:
        DataError: It cannot be built, cannot take the rows, or gives logits of another shape.
    """
    rows = ToNumbers().fit_transform(table.features[:_ROWS])
    inputs, outputs = rows.shape[1], table.problem.outputs
    try:
        net = factory(inputs, outputs)
    except Exception as error:
        raise DataError(
            f"model cannot be built for {inputs} inputs and {outputs} outputs: "
            f"{type(error).__name__}: {error}."
        ) from error
    if not isinstance(net, nn.Module):
        raise DataError(f"model must return a torch.nn.Module; got {type(net).__name__}.")
    wanted = f"[rows, {outputs}]"
    try:
        with torch.no_grad():
            logits = net.eval()(torch.from_numpy(rows))
    except Exception as error:
        raise DataError(
            f"model must give logits of shape {wanted} for rows of shape {list(rows.shape)}; it "
            f"fails with {type(error).__name__}: {error}."
        ) from error
    if not isinstance(logits, torch.Tensor) or list(logits.shape) != [len(rows), outputs]:
        got = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise DataError(
            f"model must give logits of shape {wanted} for {len(rows)} rows; got {got}."
        )
