"""From a wish to a threshold and what to expect of it."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from imbalanced_losses._checks import number
from imbalanced_losses._ops.beta import clopper_pearson
from imbalanced_losses.metrics._cells import ArrayLike
from imbalanced_losses.thresholds._wishes import CHOICES, Ranked, ranked, share_at


class Expected(NamedTuple):
    """What to expect on new rows, and the interval around it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what to expect of it on new rows.

    Attributes:
        wish: What it was chosen for, such as `"budget=0.005"`.
        threshold: A score of at least this raises an alert.
        precision: Share of positives among the alerts; its value is NaN where the only alert is
            the row at the threshold.
        recall: Share of the positives that raise an alert.
        fpr: Share of the negatives that raise an alert.
        alerts_per_1000: Alerts among 1,000 rows.
        level: Share of such intervals, of each of the four, that hold the truth, or more.
    """

    wish: str
    threshold: float
    precision: Expected
    recall: Expected
    fpr: Expected
    alerts_per_1000: Expected
    level: float

    def __str__(self) -> str:
        """All of it in a sentence."""
        parts = {
            "precision": self.precision,
            "recall": self.recall,
            "alerts per 1,000 rows": self.alerts_per_1000,
        }
        words = (
            f"{name} {part.value:.3g} ({part.low:.3g} to {part.high:.3g})"
            for name, part in parts.items()
        )
        return (
            f"For {self.wish}, raise an alert from a score of {self.threshold:.6g} on. Expect on "
            f"new rows, each with its {100 * self.level:g} % interval: {', '.join(words)}."
        )


@torch.no_grad()
def choose(
    scores: ArrayLike,
    targets: ArrayLike,
    *,
    budget: float | None = None,
    precision: float | None = None,
    recall: float | None = None,
    fpr: float | None = None,
    cost: float | None = None,
    level: float = 0.95,
    ignore_index: int = -100,
) -> OperatingPoint:
    """Choose the threshold for one wish, on held-out rows, and say what to expect of it.

    With n rows, P positives and Q negatives, the threshold is the lowest score with

    - `budget` b: at most b (n + 1) alerts, so that b is kept on new rows in the mean;
    - `fpr` f: at most f (Q + 1) false alarms, the same for the negatives;
    - `recall` r: the highest score instead, with at least r (P + 1) positives found, so that r is
      reached on new rows in the mean;
    - `precision` p: (TP - 1) / (alerts - 1) of at least p, which leaves out the positive that the
      threshold stands at;
    - `cost` c: the least FP + c FN.

    The reasons, and those for the intervals, stand at the top of `imbalanced_losses.thresholds`.

    Args:
        scores: `[N]` or `[N, 1]`, floating, higher meaning more likely positive: a tensor, an array
            or a list. One class of several, or one label, is `scores[:, c]` with `targets == c`.
        targets: 0/1 of the scores' shape.
        budget: Share of all rows that may raise an alert, within (0, 1).
        precision: Share of the alerts that are to be positives, within (0, 1).
        recall: Share of the positives that are to raise an alert, within (0, 1).
        fpr: Share of the negatives that may raise an alert, within (0, 1).
        cost: What a missed positive costs, in units of a false alarm, above 0.
        level: Promise of each interval, within (0, 1).
        ignore_index: Target value of the rows to leave out.

    Returns:
        The threshold with the precision, recall, false-positive rate and alerts per 1,000 rows to
        expect on new rows, each `(value, low, high)`.

    Raises:
        TypeError: For a wrong dtype.
        ValueError: If the wish cannot be met on these rows; the message says what can be. Also for
            none or several wishes, an option out of range, shapes that do not fit, a NaN score, or
            targets without a positive or without a negative.

    Examples:
        >>> import torch
        >>> from imbalanced_losses.thresholds import choose
        >>> targets = torch.arange(1000) % 20 == 0
        >>> point = choose(torch.linspace(0, 1, 1000) + targets, targets, budget=0.03)
        >>> print(point)
        For budget=0.03, raise an alert from a score of 1.4004 on. Expect on new rows, each with \
its 95 % interval: precision 1 (0.881 to 1), recall 0.6 (0.452 to 0.736), alerts per 1,000 rows \
30 (20.3 to 42.6).
    """
    wishes = {
        "budget": budget,
        "precision": precision,
        "recall": recall,
        "fpr": fpr,
        "cost": cost,
    }
    given = {name: value for name, value in wishes.items() if value is not None}
    if len(given) != 1:
        got = " and ".join(given) or "none"
        raise ValueError(f"Exactly one of {', '.join(wishes)} must be given; got {got}.")
    ((wish, wanted),) = given.items()
    wanted = number(wish, wanted, above=0, below=math.inf if wish == "cost" else 1)
    level = number("level", level, above=0, below=1)
    return choose_from(ranked(scores, targets, ignore_index), wish, wanted, level)


def choose_from(rows: Ranked, wish: str, wanted: float, level: float) -> OperatingPoint:
    """The operating point of one wish, all of whose settings are checked."""
    where, candidates = CHOICES[wish](rows, wanted)
    found, alarms = int(rows.found[where]), int(rows.alarms[where])
    alerts = found + alarms
    error = (1 - level) / candidates

    recall = Expected(
        found / (rows.positives + (wish == "recall")),
        *clopper_pearson(found, rows.positives, error),
    )
    fpr = Expected(
        alarms / (rows.negatives + (wish == "fpr")), *clopper_pearson(alarms, rows.negatives, error)
    )
    # The row that the threshold was put at says nothing of the rows beyond it.
    at_threshold = {"budget": share_at(rows, where), "fpr": 0.0}.get(wish, 1.0)
    precision = (found - at_threshold) / (alerts - 1) if alerts > 1 else math.nan
    if wish == "budget":
        of_alerts = clopper_pearson(found - at_threshold, alerts - 1, error)
        of_rows = clopper_pearson(alerts, rows.rows, error)
    else:
        hit_low, hit_high = clopper_pearson(found, rows.rows, error / 2)
        miss_low, miss_high = clopper_pearson(alarms, rows.rows, error / 2)
        of_alerts = hit_low / (hit_low + miss_high), hit_high / (hit_high + miss_low)
        of_rows = hit_low + miss_low, min(1.0, hit_high + miss_high)
    share = alerts / (rows.rows + (wish == "budget"))
    return OperatingPoint(
        wish=f"{wish}={wanted:g}",
        threshold=float(rows.threshold[where]),
        precision=Expected(precision, *of_alerts),
        recall=recall,
        fpr=fpr,
        alerts_per_1000=Expected(*(1000 * part for part in (share, *of_rows))),
        level=level,
    )
