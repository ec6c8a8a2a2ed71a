"""Warnings that name the user's line."""

import sys
import warnings

import torch

_INSIDE = ("imbalanced_losses.", "torch.", "contextlib")  # modules that are not the user's


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def warn(message: str) -> None:
    """Warn at the line of the user, however many frames of torch lie between.

    The decorator lets the compiler call this while it traces, so that a warning breaks no graph.
    """
    frame, level = sys._getframe(), 1
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(_INSIDE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)
