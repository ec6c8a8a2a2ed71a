"""From data to a comparison: reads, trains, judges, decides, writes."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from torch import nn

from imbalanced_losses.compare._result import Comparison
from imbalanced_losses.recipes import Goal, Recipe

Factory: TypeAlias = Callable[[int, int], nn.Module]


def compare(
    data: Any,
    target: str | Sequence[str] | None = None,
    *,
    positive: Any = None,
    goal: Goal = "average_precision",
    budget: float | None = None,
    wish: Mapping[str, float] | None = None,
    model: str | Factory | None = None,
    hidden: Sequence[int] = (128, 128),
    recipes: Sequence[str | Recipe] | None = None,
    folds: int = 5,
    repeats: int | None = None,
    seed: int = 0,
    jobs: int = -1,
    out: str | os.PathLike[str] | None = None,
    drop: Sequence[str] = (),
    group: str | None = None,
    epochs: int = 100,
    batch_size: int = 256,
    learning_rate: float | str = "auto",
    loader: Mapping[str, Any] | None = None,
    device: str = "auto",
    precision: str | None = None,
    strategy: str | None = None,
    level: float = 0.95,
    resume: bool = True,
    quiet: bool = False,
) -> Comparison:
    """Which recipe helps on this data, where to put the threshold, and what to expect of it."""
    raise NotImplementedError
