"""The rule by which a recipe is chosen on one half of the sets, and the bar on the other half."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from benchmarks.evidence.statistics import ADJUSTED, CLASSES, GOALS, REFERENCE
from benchmarks.evidence.study import Study
from imbalanced_losses._paired import holm

FILE = "advice.json"
LEVEL = 0.01
Advice: TypeAlias = dict[str, dict[str, dict[str, Any]]]
FIGURES = ("sets", "families", "mean", "low", "high", "won", "lost", "tied", "worse", "worse_holm")


def choose_recipe(gains: pd.DataFrame) -> str:
    """The arm to report on the other half, from a table of `over_sets` of the sets to choose on.

    1. An arm that is worse on any set, by that set's own corrected interval, is out, and one
       measured on fewer than half of the sets that the most complete arm has.
    2. So is one whose mean gain is not above zero with all of its interval over families.
    3. Of those that are left, the arms that Wilcoxon's test over sets, adjusted for all arms, finds
       better at p < .01 go first; among them the highest lower end of the interval wins, which asks
       for a gain that is large and that many families share.

    None left: the reference, cross-entropy with the prior bias.
    """
    if gains.empty:
        return REFERENCE
    enough = gains["sets"] * 2 >= gains["sets"].max()
    left = gains[(gains["worse"] == 0) & (gains["low"] > 0) & enough]
    if left.empty:
        return REFERENCE
    sure = left[left["p_holm"] < LEVEL]
    return str((sure if len(sure) else left)["low"].idxmax())


def clears(figures: Mapping[str, Any]) -> bool:
    """Whether a recipe clears the bar by its figures on the half that it was not chosen on.

    It gains in the mean; Wilcoxon's test over sets, adjusted for all recipes that are reported, has
    p < .01; and on no set is it worse by that set's corrected interval.
    """
    return bool(figures["mean"] > 0 and figures["p_holm"] < LEVEL and figures["worse"] == 0)


def advice(study: Study) -> Advice:
    """For each goal and class of models the recipe, its figures, and whether it clears the bar.

    `use` is the recipe where it clears the bar, else the reference. Holm's adjustment on the report
    half is over all recipes chosen: each is one test there, whatever number of arms it was chosen
    from.
    """
    found: Advice = {}
    for goal in study.goals:
        if not GOALS[goal].chooses:
            continue
        for name, models in CLASSES.items():
            tables = {half: study.over(goal, models, half) for half in ("choose", "report", "all")}
            if tables["choose"].empty and tables["report"].empty:
                continue
            recipe = choose_recipe(tables["choose"])
            entry: dict[str, Any] = {"recipe": recipe, "clears": False, "use": REFERENCE}
            if recipe != REFERENCE:
                entry |= {half: _figures(table, recipe) for half, table in tables.items()}
            if all(ADJUSTED in table.index for table in tables.values()):
                # Whatever recipe was chosen: this one leaves the scores alone.
                adjusted = {half: _figures(table, ADJUSTED) for half, table in tables.items()}
                entry["adjusted_decision"] = adjusted
            found.setdefault(goal, {})[name] = entry
    tested = [e for by_class in found.values() for e in by_class.values() if e.get("report")]
    for entry, p in zip(tested, holm([e["report"]["p"] for e in tested]), strict=True):
        entry["report"]["p_holm"] = float(p)
        if clears(entry["report"]):
            entry |= {"clears": True, "use": entry["recipe"]}
    return found


def write(path: Path, advised: Mapping[str, Any]) -> Path:
    """The advice as JSON, numbers rounded to what they can carry."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_rounded(advised), indent=1) + "\n", encoding="utf-8")
    return path


def _figures(table: pd.DataFrame, arm: str) -> dict[str, Any]:
    """An arm's row in plain numbers; empty where the half lacks it."""
    if arm not in table.index:
        return {}
    row: dict[Any, Any] = table.to_dict("index")[arm]
    whole = {"sets", "families", "won", "lost", "tied", "worse", "worse_holm"}
    names = (*FIGURES, "p", "p_families")
    return {name: int(row[name]) if name in whole else float(row[name]) for name in names}


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, float):
        return float(f"{value:.4g}") if value == value else None
    return value
