"""Held-out scores of one class, and what every threshold on them does."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalanced_losses.compare._result import Comparison
from imbalanced_losses.thresholds._wishes import Ranked, ranked

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """One class against the rest, in the rows that every model here was held out from.

    Attributes:
        label: Name of the class.
        output: Its place among the outputs.
        positive: Which rows are of it, `[n]`.
        calibrated: Probabilities by row of the table, each `[n]`.
        raw: Those of the choice before calibration, `[n]`.
    """

    label: str
    output: int
    positive: NDArray[np.bool_]
    calibrated: dict[str, Floats]
    raw: Floats

    @property
    def counts(self) -> tuple[int, int]:
        """Positives and negatives."""
        found = int(self.positive.sum())
        return found, len(self.positive) - found

    def curve(self, name: str) -> "Curve":
        """What the thresholds on the scores of one row of the table do."""
        return Curve.of(ranked(self.calibrated[name], self.positive.astype(np.int64), -100))


@dataclass(frozen=True)
class Curve:
    """Each distinct score as a threshold, from the highest, `[T]`, and what it does.

    Attributes:
        threshold: An alert is raised from this score on.
        hits: Positives among the alerts.
        alerts: Alerts.
        positives: In all rows.
        rows: All.
    """

    threshold: Floats
    hits: NDArray[np.int64]
    alerts: NDArray[np.int64]
    positives: int
    rows: int

    @classmethod
    def of(cls, found: Ranked) -> "Curve":
        """From the ranks that `thresholds` work on."""
        hits, alarms = found.found.numpy(), found.alarms.numpy()
        return cls(found.threshold.numpy(), hits, hits + alarms, found.positives, found.rows)

    @property
    def recall(self) -> Floats:
        """Share of the positives that raise an alert."""
        return self.hits / self.positives

    @property
    def precision(self) -> Floats:
        """Share of positives among the alerts."""
        return self.hits / self.alerts

    @property
    def false_alarms(self) -> Floats:
        """Share of the negatives that raise an alert."""
        return (self.alerts - self.hits) / (self.rows - self.positives)

    def at(self, threshold: float) -> int:
        """Place of the lowest score that is at least this threshold; 0 where all are below."""
        return max(0, int(np.searchsorted(-self.threshold, -threshold, side="right")) - 1)

    def settings(self, most: int, *needed: int) -> NDArray[np.int64]:
        """At most so many places, evenly spread over the logarithm of the alerts, and `needed`."""
        wanted = np.geomspace(1, self.rows, most - len(needed))
        places = np.searchsorted(self.alerts, wanted + 1e-9, side="right") - 1
        return np.unique(np.concatenate([places.clip(0), needed]).astype(np.int64))


def held_out(comparison: Comparison) -> Iterator[HeldOut]:
    """Each class that some held-out row is of and some is not, in the order of the outputs."""
    scores = comparison.scores
    if scores is None:
        return
    seen = np.isfinite(scores.raw).all(1)
    for values in scores.calibrated.values():
        seen &= np.isfinite(values).all(1)
    for output, label in enumerate(comparison.data.labels):
        positive = _positive(scores.targets, output, comparison.data.kind)[seen]
        if 0 < positive.sum() < len(positive):
            calibrated = {name: values[seen, output] for name, values in scores.calibrated.items()}
            yield HeldOut(label, output, positive, calibrated, scores.raw[seen, output])


def _positive(targets: NDArray[Any], output: int, kind: str) -> NDArray[np.bool_]:
    if kind == "multiclass":
        return np.asarray(targets == output)
    return np.asarray(targets.reshape(len(targets), -1)[:, output] == 1)
