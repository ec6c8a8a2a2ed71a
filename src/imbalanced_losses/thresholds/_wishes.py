"""Which of the scores each wish chooses as its threshold, or why none."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from imbalanced_losses.metrics._cells import ArrayLike, binary_cells

# 0.29 * 100 is below 29 in floating point; 29 is meant.
_SLACK = 1e-9


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
            "Choose for one class at a time: scores[:, c] with targets == c; flatten maps."
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


def share_at(rows: Ranked, where: int) -> float:
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
CHOICES: dict[str, Callable[[Ranked, float], tuple[int, int]]] = {
    "budget": _for_budget,
    "fpr": _for_fpr,
    "recall": _for_recall,
    "precision": _for_precision,
    "cost": _for_cost,
}
