"""What a comparison found: plain data, written as `result.json` with `scores.npz` beside it."""

import dataclasses
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from imbalanced_losses.compare._table import Finding
from imbalanced_losses.recipes import BASELINE, Goal, Kind

VERSION = 1
BOOSTING = "boosting"
"""Name of the row that is no recipe: gradient boosting, the outside view."""

Floats: TypeAlias = NDArray[np.float64]
Verdict: TypeAlias = Literal["better", "worse", "unclear"]


class Estimate(NamedTuple):
    """A figure with the interval around it, at the comparison's level."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassCount:
    """Rows of one class, or positives of one label."""

    name: str
    count: int


@dataclass(frozen=True)
class Data:
    """What was compared on.

    Attributes:
        name: File name, or what the caller called it.
        rows: Number of rows.
        features: Number of columns that were used.
        kind: Of the problem.
        target: Name of the target.
        classes: In the order of the outputs; binary: (negative, positive).
        findings: What was found and done before training.
    """

    name: str
    rows: int
    features: int
    kind: Kind
    target: str
    classes: tuple[ClassCount, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The class of each output: the positive one of a binary problem, else all."""
        names = tuple(one.name for one in self.classes)
        return names[1:] if self.kind == "binary" else names


@dataclass(frozen=True)
class Difference:
    """Of one row to the baseline on the same folds; above 0: better than the baseline.

    Attributes:
        mean: Over all folds of all repeats.
        low: End of the interval that the verdict is read from, so wider the more was tried.
        high: Its other end. The verdict is "unclear" where 0 lies within.
        p: Of the corrected resampled t-test, two-sided, alone.
        p_holm: The same, adjusted for the number of recipes that were tried.
        wins: Folds in which it is above the baseline.
        losses: Folds in which it is below.
        verdict: "better", "worse" or "unclear".
    """

    mean: float
    low: float
    high: float
    p: float
    p_holm: float
    wins: int
    losses: int
    verdict: Verdict


@dataclass(frozen=True)
class Outcome:
    """One row of the table: a recipe, or gradient boosting.

    Attributes:
        recipe: Its name in `recipes.RECIPES`, or `"boosting"`.
        title: What a table calls it.
        values: The goal on each fold, all folds of the first repeat first, `[repeats * folds]`.
        mean: Their mean.
        low: End of the corrected resampled interval of that mean, which is cut where the goal can
            go no further.
        high: Its other end.
        per_class: Mean over the folds for each output, in the order of `Data.labels` (one for goals
            that have no classes, such as log-likelihood); NaN where no fold could judge it.
        seconds: Training time of one fold, the mean.
        others: The other goals, mean over the folds.
        learning_rates: Chosen on each fold; empty for boosting.
        difference: To the baseline; None for the baseline itself.
    """

    recipe: str
    title: str
    values: tuple[float, ...]
    mean: float
    low: float
    high: float
    per_class: tuple[float, ...]
    seconds: float
    others: Mapping[str, float] = field(default_factory=dict)
    learning_rates: tuple[float, ...] = ()
    difference: Difference | None = None


@dataclass(frozen=True)
class Decision:
    """A threshold on the calibrated probability of one class, and what to expect on new rows.

    Attributes:
        label: Of which class.
        wish: What it was chosen for, such as `"budget=0.005"`.
        threshold: Alert from this probability on; None where the wish cannot be met.
        precision: Share of positives among alerts; None where the wish cannot be met, as below.
        recall: Share of positives that raise an alert.
        fpr: Share of negatives that do.
        alerts_per_1000: Alerts among 1,000 rows.
        sentence: All of it, or why the wish cannot be met.
    """

    label: str
    wish: str
    threshold: float | None
    precision: Estimate | None
    recall: Estimate | None
    fpr: Estimate | None
    alerts_per_1000: Estimate | None
    sentence: str


@dataclass(frozen=True)
class Scores:
    """Held-out probabilities of one repeat, every row scored by a model that did not see it.

    Attributes:
        calibrated: By row of the table (the choice, the baseline, boosting): `[N, outputs]`, in the
            order of the data's rows; NaN in the rows that were never held out.
        raw: Probabilities of the choice before calibration, as its loss left them, likewise.
        targets: `[N]` class indices or 0/1, or `[N, outputs]` for multi-label problems.
    """

    calibrated: Mapping[str, Floats]
    raw: Floats
    targets: NDArray[Any]


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        data: What it was found on.
        goal: What was compared.
        goal_title: What a table calls it.
        budget: Of the goal, or of the decision's wish; None where neither has one.
        repeats: How often the rows were split anew.
        folds: Parts of each split.
        seed: Of splits, initial weights and orders.
        level: Of every interval, and one minus the error rate of the verdict.
        outcomes: The table, from the highest mean to the lowest.
        sentence: The verdict.
        choice: Name of the recipe to use.
        decisions: One for each of `data.labels`.
        notes: What was met on the way and has to be known to read the rest.
        scores: Kept in `scores.npz`; None where that file is missing.
    """

    data: Data
    goal: Goal
    goal_title: str
    budget: float | None
    repeats: int
    folds: int
    seed: int
    level: float
    outcomes: tuple[Outcome, ...]
    sentence: str
    choice: str
    decisions: tuple[Decision, ...]
    notes: tuple[str, ...] = ()
    scores: Scores | None = field(default=None, compare=False, repr=False)

    def outcome(self, recipe: str) -> Outcome:
        """The row of this name.

        Raises:
            KeyError: There is none.
        """
        for outcome in self.outcomes:
            if outcome.recipe == recipe:
                return outcome
        raise KeyError(
            f"no row {recipe!r}; there are {', '.join(one.recipe for one in self.outcomes)}"
        )

    @property
    def baseline(self) -> Outcome:
        """The row that the others are measured against."""
        return self.outcome(BASELINE)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it, without the scores: NaN is None."""
        fields = {one.name for one in dataclasses.fields(self)} - {"scores"}
        return {"version": VERSION} | {name: _plain(getattr(self, name)) for name in sorted(fields)}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any], scores: Scores | None = None) -> "Comparison":
        """The comparison that `to_dict` wrote.

        Raises:
            ValueError: It was written by another version, or is none.
        """
        if not isinstance(found, Mapping) or found.get("version") != VERSION:
            version = found.get("version") if isinstance(found, Mapping) else type(found).__name__
            raise ValueError(f"result must be of version {VERSION}; got {version!r}. Compare anew.")
        given = {name: value for name, value in found.items() if name != "version"}
        try:
            given["data"] = _data(given["data"])
            given["outcomes"] = tuple(map(_outcome, given["outcomes"]))
            given["decisions"] = tuple(map(_decision, given["decisions"]))
            given["notes"] = tuple(given["notes"])
            return cls(**given, scores=scores)
        except (KeyError, TypeError) as error:
            raise ValueError(f"result must hold what to_dict wrote; {error}.") from error

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `result.json`, and `scores.npz` where there are scores; returns the first.

        Args:
            folder: Is made where it is missing. Files of these names in it are replaced.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False, ensure_ascii=False)
        if self.scores is not None:
            arrays: dict[str, Any] = {"raw": self.scores.raw, "targets": self.scores.targets}
            for name, one in self.scores.calibrated.items():
                arrays[f"calibrated_{name}"] = one
            write_whole(folder / "scores.npz", lambda part: np.savez_compressed(part, **arrays))
        path = folder / "result.json"
        write_whole(path, lambda part: part.write_text(text + "\n", encoding="utf-8"))
        return path

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "Comparison":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: There is no `result.json`.
            ValueError: It was written by another version, or is none.
        """
        folder, scores = Path(folder), None
        found = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        if (folder / "scores.npz").exists():
            with np.load(folder / "scores.npz", allow_pickle=False) as arrays:
                calibrated = {
                    name.removeprefix("calibrated_"): arrays[name]
                    for name in arrays
                    if name.startswith("calibrated_")
                }
                scores = Scores(calibrated, arrays["raw"], arrays["targets"])
        return cls.from_dict(found, scores)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write(path)` make a file, so that under its name there is all of it or none."""
    # numpy puts its ending behind any other.
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """Dataclasses and tuples as dictionaries and lists, NaN as None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (one.name for one in dataclasses.fields(value))
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(map(_number, values))


def _data(found: Mapping[str, Any]) -> Data:
    findings = (Finding(**one | {"columns": tuple(one["columns"])}) for one in found["findings"])
    classes = (ClassCount(**one) for one in found["classes"])
    return Data(**{**found, "classes": tuple(classes), "findings": tuple(findings)})


def _outcome(found: Mapping[str, Any]) -> Outcome:
    given = dict(found)
    for name in ("values", "per_class", "learning_rates"):
        given[name] = _numbers(given[name])
    for name in ("mean", "low", "high", "seconds"):
        given[name] = _number(given[name])
    given["others"] = {name: _number(one) for name, one in given["others"].items()}
    if given["difference"] is not None:
        # Numbers of a difference are never NaN: without two folds there is none.
        given["difference"] = Difference(**given["difference"])
    return Outcome(**given)


def _decision(found: Mapping[str, Any]) -> Decision:
    given = dict(found)
    for name in ("precision", "recall", "fpr", "alerts_per_1000"):
        given[name] = None if given[name] is None else Estimate(*_numbers(given[name]))
    return Decision(**given)
