"""What may be said of the rows of a table: better, worse or unclear, and the sentence for it."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from imbalanced_losses._paired import corrected_interval, holm
from imbalanced_losses.compare._result import BOOSTING, Difference, Floats, Outcome
from imbalanced_losses.recipes import BASELINE

KEEP = "no clear difference: keep cross-entropy with prior bias"


def differences(
    values: Mapping[str, Floats], baseline: Floats, test_share: float, level: float
) -> dict[str, Difference | None]:
    """Each row's paired differences to the baseline, with a verdict that holds for all of them.

    Of m rows, the one with the k-th smallest p-value is tested at error (1 - level) / (m - k + 1),
    as Holm does, until one is not below it; that one and all behind it are unclear. Each interval
    is the one of the error at which its row was tested, so that it leaves out 0 exactly where the
    verdict is clear. Copies of the baseline are called different, any of them, with a probability
    of 1 - level at most.

    Args:
        values: The goal on each fold by row, `[folds]`; NaN where it could not be judged.
        baseline: Likewise.
        test_share: Of a fold, see `corrected_interval`.
        level: In (0, 1).

    Returns:
        By row; None where fewer than two folds can be compared.
    """
    gaps = {name: _finite(row - baseline) for name, row in values.items()}
    found: dict[str, Difference | None] = dict.fromkeys(values)
    names = [name for name, gap in gaps.items() if len(gap) > 1]
    p_values = [corrected_interval(gaps[name], test_share, level).p for name in names]
    adjusted = holm(p_values)
    left, error = len(names), 1 - level
    for place in np.argsort(p_values, kind="stable"):
        name = names[place]
        clear = bool(adjusted[place] < error)
        interval = corrected_interval(gaps[name], test_share, 1 - error / left)
        # The first that is unclear keeps its error for all behind it.
        left -= clear
        found[name] = Difference(
            mean=interval.mean,
            low=interval.low,
            high=interval.high,
            p=interval.p,
            p_holm=float(adjusted[place]),
            wins=int((gaps[name] > 0).sum()),
            losses=int((gaps[name] < 0).sum()),
            verdict="unclear" if not clear else "better" if interval.mean > 0 else "worse",
        )
    return found


def judged(
    outcomes: Sequence[Outcome], test_share: float, level: float
) -> tuple[tuple[Outcome, ...], str]:
    """The rows with their differences, from the highest mean to the lowest, and the choice.

    Gradient boosting is another model, not another loss: it is tested alone and never chosen. The
    choice is the row with the highest mean among those that are clearly better than the baseline,
    which is chosen itself where there are none.
    """
    rows = {one.recipe: np.array(one.values) for one in outcomes}
    baseline = rows.pop(BASELINE)
    outside = {BOOSTING: rows.pop(BOOSTING)} if BOOSTING in rows else {}
    found = differences(rows, baseline, test_share, level)
    found |= differences(outside, baseline, test_share, level)
    told = [dataclasses.replace(one, difference=found.get(one.recipe)) for one in outcomes]
    # NaN goes last, and equal means stay in the order in which they came.
    told.sort(key=lambda one: -np.inf if np.isnan(one.mean) else one.mean, reverse=True)
    better = [one.recipe for one in _with_verdict(told, "better")]
    return tuple(told), better[0] if better else BASELINE


def sentence(outcomes: Sequence[Outcome], goal_title: str) -> str:
    """The verdict of judged rows, for people."""
    better, worse = _with_verdict(outcomes, "better"), _with_verdict(outcomes, "worse")
    if better:
        best, *others = better
        told = f"For {goal_title}, use {best.title}: {_against(best)}."
        if others:
            told += f" Clearly better too: {_listed(others)}."
    elif worse:
        told = f"For {goal_title}, nothing is clearly better: keep cross-entropy with prior bias."
    else:
        told = f"For {goal_title} there is {KEEP}."
    if worse:
        told += f" Clearly worse: {_listed(worse)}."
    for one in outcomes:
        if one.recipe == BOOSTING and one.difference is not None:
            told += f" {_outside(one)}"
    return told


def _outside(one: Outcome) -> str:
    assert one.difference is not None
    if one.difference.verdict == "unclear":
        return (
            "Gradient boosting, another model, is not clearly different from that network: "
            f"{_against(one)}."
        )
    return (
        f"Gradient boosting, another model, is clearly {one.difference.verdict}: {_against(one)}."
    )


def _against(one: Outcome) -> str:
    found = one.difference
    assert found is not None
    return (
        f"{found.mean:+.3g} against cross-entropy with prior bias (between {found.low:+.3g} and "
        f"{found.high:+.3g})"
    )


def _with_verdict(outcomes: Sequence[Outcome], verdict: str) -> list[Outcome]:
    """The recipes of this verdict."""
    return [
        one
        for one in outcomes
        if one.recipe != BOOSTING
        and one.difference is not None
        and one.difference.verdict == verdict
    ]


def _listed(outcomes: Sequence[Outcome]) -> str:
    return ", ".join(one.title for one in outcomes)


def _finite(values: Floats) -> Floats:
    return values[np.isfinite(values)]
