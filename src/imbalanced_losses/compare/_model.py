"""A user's own network, by name."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from imbalanced_losses.compare._errors import DataError, quoted

Factory = Callable[[int, int], nn.Module]


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


def check_factory(factory: Factory, inputs: int, outputs: int) -> None:
    """Build the network once and show it two rows.

    Raises:
        DataError: It cannot be built, cannot take the rows, or gives logits of another shape.
    """
    try:
        net = factory(inputs, outputs)
    except Exception as error:
        raise DataError(
            f"model cannot be built for {inputs} inputs and {outputs} outputs: "
            f"{type(error).__name__}: {error}."
        ) from error
    if not isinstance(net, nn.Module):
        raise DataError(f"model must return a torch.nn.Module; got {type(net).__name__}.")
    try:
        with torch.no_grad():
            logits = net.eval()(torch.zeros(2, inputs))
    except Exception as error:
        raise DataError(
            f"model cannot take rows of shape [2, {inputs}]: {type(error).__name__}: {error}."
        ) from error
    shape = list(getattr(logits, "shape", []))
    if shape != [2, outputs]:
        got = shape if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise DataError(
            f"model must return logits of shape [rows, {outputs}]; got {got} for 2 rows."
        )
