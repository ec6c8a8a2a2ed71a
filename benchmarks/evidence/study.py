"""All rows of the study, and its tables, each made once."""

from collections.abc import Sequence

import pandas as pd

from benchmarks.evidence.statistics import (
    CLASSES,
    GOALS,
    MODELS,
    PEERS,
    REFERENCE,
    counted,
    fold_gains,
    over_sets,
    set_gains,
)


class Study:
    """The rows of the study, and its tables, each made once.

    Attributes:
        frame: All rows but those of other libraries.
        peers: The rows of other libraries, and of the reference.
        models: The neural ones that were measured, from small to large.
        words: What a reader calls each class of models, of those that were measured.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        # Boosting and peers may have seen sets that the networks did not.
        frame = frame[frame["set"].isin(frame.loc[frame["arm"] == REFERENCE, "set"])]
        is_peer = frame["arm"].isin(list(PEERS))
        self.frame = frame[~is_peer]
        self.peers = frame[is_peer | (frame["arm"] == REFERENCE)]
        there = set(frame.loc[frame["arm"] == REFERENCE, "model"])
        self.models = [name for name in MODELS if name in there]
        self.words = {
            name: " and ".join(MODELS[model] for model in models if model in there)
            for name, models in CLASSES.items()
        }
        self._by_set: dict[tuple[str, tuple[str, ...]], pd.DataFrame] = {}
        self._over: dict[tuple[str, tuple[str, ...], str], pd.DataFrame] = {}

    @property
    def goals(self) -> list[str]:
        """The goals that were measured."""
        return [name for name in GOALS if name in self.frame and self.frame[name].notna().any()]

    def by_set(self, goal: str, models: Sequence[str]) -> pd.DataFrame:
        """`set_gains` of all sets, the mean over the models."""
        key = (goal, tuple(models))
        if key not in self._by_set:
            self._by_set[key] = set_gains(self.frame, fold_gains(self.frame, goal, models))
        return self._by_set[key]

    def counted(self, goal: str, models: Sequence[str], half: str = "all") -> pd.DataFrame:
        """`counted` of them."""
        return counted(self.by_set(goal, models), half)

    def over(self, goal: str, models: Sequence[str], half: str = "all") -> pd.DataFrame:
        """`over_sets` of the counted sets."""
        key = (goal, tuple(models), half)
        if key not in self._over:
            self._over[key] = over_sets(self.counted(goal, models, half))
        return self._over[key]
