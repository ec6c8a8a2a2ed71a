"""The threshold for an alert budget, a precision, a recall, a rate of false alarms or a cost.

With it comes what to expect of it on new rows, each figure with an interval that holds for a finite
number of rows although the threshold was chosen on the same rows. Why it does:

- A threshold at a fixed rank (budget: of all rows; recall: of the positives; false-positive rate:
  of the negatives) is an order statistic. The share of new rows beyond the m-th highest of n has
  the distribution Beta(m, n - m + 1), whatever the scores are (David and Nagaraja, "Order
  Statistics", 2003, https://doi.org/10.1002/0471722162, section 2.2): its mean m / (n + 1) is the
  rule by which m is chosen, and the interval of Clopper and Pearson contains its quantiles.
- Given such a threshold, the rows of the other kind beyond it are a plain binomial count, and so
  are the positives among the alerts of a budget; what stands at the threshold itself is left out,
  for it is there because the threshold was put there. (For the positives beyond the threshold of a
  budget: it stops where positives and negatives add up to m. The negatives let it stop at fewer
  positives the lower it goes, so it fails only if a count at one fixed score does.)
- The precision for a recall or a rate of false alarms, and its alerts, depend on two counts: of the
  positives and of the negatives beyond the threshold, as shares of all rows. Both have an interval
  at half the error (Bonferroni), and the worst corners are taken.
- A precision or a cost is sought: the best of J candidate thresholds, which flatters it. All J have
  an interval at 1 / J of the error, so that the one of the chosen threshold holds too.

New rows are taken to be drawn as these are, each on its own. Rows that the model was trained on, or
that come in groups, are not: choose on held-out rows, one per group.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from imbalanced_losses._checks import number
from imbalanced_losses._kernel.beta import clopper_pearson
from imbalanced_losses.metrics._cells import ArrayLike, binary_cells

__all__ = ["Expected", "OperatingPoint", "choose"]

# 0.29 * 100 is below 29 in floating point; 29 is meant.
_SLACK = 1e-9


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

    Example:
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


class Ranked(NamedTuple):
    """Each distinct score as a threshold, from the highest: `[T]`, and what lies at or above it."""

    threshold: Tensor
    found: Tensor  # positives, int64
    alarms: Tensor  # negatives, int64
    positives: int
    negatives: int

    @property
    def rows(self) -> int:
        return self.positives + self.negatives

    @property
    def at_a_positive(self) -> Tensor:
        return self.found.diff(prepend=self.found.new_zeros(1)) > 0

    @property
    def at_a_negative(self) -> Tensor:
        return self.alarms.diff(prepend=self.alarms.new_zeros(1)) > 0


def ranked(scores: ArrayLike, targets: ArrayLike, ignore_index: int) -> Ranked:
    """Check and sort the rows."""
    given, cells = binary_cells(scores, targets, None, ignore_index)
    if list(given.shape[1:]) not in ([], [1]):
        raise ValueError(
            f"scores must have shape [N] or [N, 1], one binary problem; got {list(given.shape)}. "
            "Choose for one class at a time: scores[:, c] with targets == c."
        )
    valid = cells.valid[0].cpu()
    if not valid.any() and given.isnan().any():
        raise ValueError("scores must not be NaN where targets are not ignored.")
    values, order = cells.scores[0].cpu()[valid].sort(descending=True)
    positive = cells.positive[0].cpu()[valid][order].long()
    positives = int(positive.sum())
    if not 0 < positives < len(positive):
        raise ValueError(
            "targets must hold a positive and a negative that are not ignored; got "
            f"{positives} positives in {len(positive)} rows."
        )
    # -0 and 0 are one score. Where a score changes, the rows above are complete.
    last = torch.ones_like(values, dtype=torch.bool)
    last[:-1] = values[1:] != values[:-1]
    found = positive.cumsum(0)
    alarms = torch.arange(1, len(values) + 1, device="cpu") - found
    return Ranked(values[last], found[last], alarms[last], positives, len(values) - positives)


def choose_from(rows: Ranked, wish: str, wanted: float, level: float) -> OperatingPoint:
    """The operating point of one wish, all of whose settings are checked."""
    where, candidates = _CHOICES[wish](rows, wanted)
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
    at_threshold = {"budget": _share_at(rows, where), "fpr": 0.0}.get(wish, 1.0)
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


def _share_at(rows: Ranked, where: int) -> float:
    """Share of positives among the rows at a threshold."""
    before = max(where - 1, 0)
    found = int(rows.found[where]) - (int(rows.found[before]) if where else 0)
    alarms = int(rows.alarms[where]) - (int(rows.alarms[before]) if where else 0)
    return found / (found + alarms)


def _for_budget(rows: Ranked, budget: float) -> tuple[int, int]:
    most = math.floor(budget * (rows.rows + 1) + _SLACK)
    if most < 1:
        raise ValueError(
            f"budget={budget:g} cannot be met: on {rows.rows} rows it is less than one alert. Give "
            f"at least {math.ceil(1 / budget - _SLACK) - 1} rows, or a budget of at least "
            f"{1 / (rows.rows + 1):.3g}."
        )
    alerts = rows.found + rows.alarms
    where = int((alerts <= most).sum()) - 1
    if where < 0:
        raise ValueError(
            f"budget={budget:g} cannot be met: {int(alerts[0])} of {rows.rows} rows share the "
            f"highest score, and the budget is {most}. A budget of "
            f"{int(alerts[0]) / (rows.rows + 1):.3g} can be; or give scores that tell rows apart."
        )
    return where, 1


def _for_fpr(rows: Ranked, fpr: float) -> tuple[int, int]:
    most = math.floor(fpr * (rows.negatives + 1) + _SLACK)
    if most < 1:
        raise ValueError(
            f"fpr={fpr:g} cannot be met: on {rows.negatives} negatives it is less than one false "
            f"alarm. Give at least {math.ceil(1 / fpr - _SLACK) - 1} negatives, or a rate of at "
            f"least {1 / (rows.negatives + 1):.3g}."
        )
    at = rows.at_a_negative.nonzero().flatten()
    fits = at[rows.alarms[at] <= most]
    if not len(fits):
        first = int(rows.alarms[at[0]])
        raise ValueError(
            f"fpr={fpr:g} cannot be met: {first} of {rows.negatives} negatives share the highest "
            f"score of a negative, and {most} may raise an alarm. A rate of "
            f"{first / (rows.negatives + 1):.3g} can be; or give scores that tell rows apart."
        )
    return int(fits[-1]), 1


def _for_recall(rows: Ranked, recall: float) -> tuple[int, int]:
    least = math.ceil(recall * (rows.positives + 1) - _SLACK)
    if least > rows.positives:
        raise ValueError(
            f"recall={recall:g} cannot be met: even the lowest score of {rows.positives} positives "
            f"finds {rows.positives / (rows.positives + 1):.3g} of new ones in the mean. Give at "
            f"least {math.ceil(recall / (1 - recall) - _SLACK)} positives, or a lower recall."
        )
    return int((rows.found < least).sum()), 1


def _for_precision(rows: Ranked, precision: float) -> tuple[int, int]:
    at = rows.at_a_positive.nonzero().flatten()
    found, alerts = rows.found[at], (rows.found + rows.alarms)[at]
    reached = (found - 1) / (alerts.double() - 1)
    fits = at[reached >= precision - _SLACK]
    if not len(fits):
        best = int(reached.nan_to_num(-1).argmax())
        raise ValueError(
            f"precision={precision:g} cannot be met: the highest on these rows is "
            f"{float(reached[best].nan_to_num(0)):.3g}, at a recall of "
            f"{int(found[best]) / rows.positives:.3g}."
        )
    return int(fits[-1]), len(at)


def _for_cost(rows: Ranked, cost: float) -> tuple[int, int]:
    at = rows.at_a_positive.nonzero().flatten()
    paid = rows.alarms[at] + cost * (rows.positives - rows.found[at]).double()
    least = int(paid.argmin())
    if paid[least] >= cost * rows.positives:
        raise ValueError(
            f"cost={cost:g} cannot be met by any threshold: to raise no alert at all costs "
            f"{cost * rows.positives:g}, and the best threshold {float(paid[least]):g}, in units "
            "of a false alarm."
        )
    return int(at[least]), len(at)


# Each returns the index of its threshold, and of how many it is the best.
_CHOICES: dict[str, Callable[[Ranked, float], tuple[int, int]]] = {
    "budget": _for_budget,
    "fpr": _for_fpr,
    "recall": _for_recall,
    "precision": _for_precision,
    "cost": _for_cost,
}
