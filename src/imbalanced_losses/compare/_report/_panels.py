"""What the page says of each class: the decision, every alert budget, the pictures."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from imbalanced_losses.calibration import calibration_error
from imbalanced_losses.compare._report import _class_pictures, _words
from imbalanced_losses.compare._report._held_out import Curve, Floats, HeldOut, held_out
from imbalanced_losses.compare._result import Comparison, Decision

# Settings of the slider; with several classes each has fewer, so that the page stays small.
MOST_SETTINGS = 240
_ALL_SETTINGS = 1200
MOST_PANELS = 10
_TABLE_ROWS = 8
_MARKS = (1000.0, 500.0, 200.0, 100.0, 50.0, 20.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.01)
_MARKS_APART = 11.0


@dataclass(frozen=True)
class Dial:
    """Alert budgets of one class, from the fewest alerts to the most.

    Attributes:
        rows: Held-out rows.
        positives: Of them.
        alerts: At each setting.
        hits: Positives among these alerts.
        thresholds: The lowest probability that raises an alert, as it is written on the page.
        start: The setting to begin with.
    """

    rows: int
    positives: int
    alerts: tuple[int, ...]
    hits: tuple[int, ...]
    thresholds: tuple[str, ...]
    start: int

    @classmethod
    def of(cls, curve: Curve, threshold: float | None, most: int) -> "Dial":
        """From a curve; it starts at the decision's threshold, else at one alert per positive."""
        if threshold is None:
            start = int(np.searchsorted(curve.alerts, curve.positives + 0.5)) - 1
        else:
            start = curve.at(threshold)
        start = max(0, start)
        places = curve.settings(most, start)
        return cls(
            rows=curve.rows,
            positives=curve.positives,
            alerts=tuple(curve.alerts[places].tolist()),
            hits=tuple(curve.hits[places].tolist()),
            thresholds=tuple(_words.probability(t) for t in curve.threshold[places].tolist()),
            start=int(np.searchsorted(places, start)),
        )

    def data(self) -> dict[str, Any]:
        """What the script works on."""
        return {
            "rows": self.rows,
            "positives": self.positives,
            "alerts": self.alerts,
            "hits": self.hits,
            "thresholds": self.thresholds,
        }

    def reading(self, setting: int) -> dict[str, str]:
        """What the page shows at one setting; the script shows the same."""
        alerts, hits = self.alerts[setting], self.hits[setting]
        missed = self.positives - hits
        return {
            "threshold": self.thresholds[setting],
            "budget": _words.fixed(1000 * alerts / self.rows, 1),
            "recall": _words.fixed(100 * hits / self.positives, 1) + " %",
            "precision": _words.fixed(100 * hits / alerts, 1) + " %",
            "hits": _words.count(hits),
            "alarms": _words.count(alerts - hits),
            "missed": _words.count(missed),
            "passed": _words.count(self.rows - alerts - missed),
        }

    def table(self) -> list[dict[str, str]]:
        """A few settings, for paper and for pages without script."""
        last = len(self.alerts) - 1
        settings = np.unique(np.linspace(0, last, _TABLE_ROWS).round().astype(int))
        return [self.reading(int(one)) for one in settings]

    def points(self, hits: bool) -> str:
        """Recall (or precision) over the settings, for a polyline in a box of 1000 by 100."""
        last = max(1, len(self.alerts) - 1)
        of = [self.positives] * len(self.alerts) if hits else self.alerts
        shares = [found / all_ for found, all_ in zip(self.hits, of, strict=True)]
        return " ".join(
            f"{1000 * k / last:.0f},{100 * (1 - share):.1f}" for k, share in enumerate(shares)
        )

    @property
    def marker(self) -> str:
        """Place of the start along the slider, of 1000."""
        return f"{1000 * self.start / max(1, len(self.alerts) - 1):.1f}"

    @property
    def marks(self) -> list[tuple[str, str]]:
        """Place along the slider, in percent, and text of round numbers of alerts per 1,000."""
        last = len(self.alerts) - 1
        if not last:
            return []
        budgets = 1000 * np.array(self.alerts) / self.rows
        places = np.interp(np.log(_MARKS), np.log(budgets), 100 * np.arange(last + 1) / last)
        found: list[tuple[float, float]] = []
        for mark, place in zip(_MARKS, places.tolist(), strict=True):
            inside = budgets[0] <= mark <= budgets[-1] + 1e-9
            if inside and (not found or found[-1][0] - place > _MARKS_APART):
                found.append((place, mark))
        return [(f"{place:.2f}", f"{mark:,g}") for place, mark in found]


@dataclass(frozen=True)
class Panel:
    """One class.

    Attributes:
        label: Its name, as the data has it.
        decision: Threshold and what to expect.
        dial: Every alert budget; None without held-out scores of both kinds of rows.
        pictures: By name.
        errors: Debiased calibration error before and after.
    """

    label: str
    positives: int
    decision: Decision | None
    dial: Dial | None
    pictures: dict[str, Markup]
    errors: tuple[float, float] | None


def panels(comparison: Comparison) -> list[Panel]:
    """One for each class; where there are many, for the rarest of them, the rarest first."""
    counts = comparison.data.classes[-len(comparison.data.labels) :]
    outputs = sorted(range(len(counts)), key=lambda c: (counts[c].count, c))[:MOST_PANELS]
    decisions: dict[int, Decision] = dict(enumerate(comparison.decisions))
    scored = {rows.output: rows for rows in held_out(comparison) if rows.output in outputs}
    most = max(60, min(MOST_SETTINGS, _ALL_SETTINGS // len(outputs)))
    return [
        _panel(comparison, counts[one].name, counts[one].count, decisions.get(one), rows, most)
        for one, rows in ((one, scored.get(one)) for one in outputs)
    ]


def _panel(
    comparison: Comparison,
    label: str,
    positives: int,
    decision: Decision | None,
    rows: HeldOut | None,
    most: int,
) -> Panel:
    if rows is None:
        return Panel(label, positives, decision, None, {}, None)
    threshold = None if decision is None else decision.threshold
    before, after = _class_pictures.calibration(comparison, rows)
    pictures = {
        "precision": _class_pictures.precision_recall(comparison, rows, threshold),
        "alarms": _class_pictures.low_false_alarms(comparison, rows, threshold),
        "before": before,
        "after": after,
        "scores": _class_pictures.scores_by_class(comparison, rows),
    }
    errors = tuple(_errors(rows, comparison.choice))
    dial = Dial.of(rows.curve(comparison.choice), threshold, most)
    return Panel(label, positives, decision, dial, pictures, (errors[0], errors[1]))


def _errors(rows: HeldOut, choice: str) -> Iterator[float]:
    scores: Floats
    for scores in (rows.raw, rows.calibrated[choice]):
        yield float(calibration_error(scores, rows.positive.astype(np.int64)))
