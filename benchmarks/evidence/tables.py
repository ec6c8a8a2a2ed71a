"""What `report` writes: the page, the pictures, the figures behind them, and the advice."""

from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from benchmarks.evidence import boosting, choice, page, peers, pictures
from benchmarks.evidence.run import FILE as RESULTS
from benchmarks.evidence.statistics import CLASSES, GOALS, MODELS, REFERENCE, ranks, read
from benchmarks.evidence.study import Study

FIGURES = "figures.csv"
PICTURES = "pictures"


def main(options: Namespace) -> None:
    """Read what lies in the folder of the results, and write all that follows from it."""
    folder: Path = options.output
    names = (RESULTS, boosting.FILE, peers.FILE)
    study = Study(read(*(folder / name for name in names if (folder / name).exists())))
    advised = choice.advice(study)
    choice.write(folder / choice.FILE, advised)
    figures(study).to_csv(folder / FIGURES, index=False, float_format="%.4g")
    drawn = draw(study, advised, folder / PICTURES)
    print(page.write(folder, study, advised, drawn))


def figures(study: Study) -> pd.DataFrame:
    """Every goal, model or class of models, half of the sets and arm, with all its figures."""
    groups = {model: (model,) for model in study.models} | CLASSES
    parts = [
        study.over(goal, models, half)
        .rename_axis("arm")
        .reset_index()
        .assign(goal=goal, models=name, half=half)
        for goal in study.goals
        for name, models in groups.items()
        for half in ("choose", "report", "all")
    ]
    table = pd.concat([part for part in parts if len(part)], ignore_index=True)
    first = ["goal", "models", "half", "arm"]
    return table[first + [name for name in table if name not in first]]


def draw(study: Study, advised: choice.Advice, folder: Path) -> dict[str, list[Path]]:
    """The pictures of each goal: gains of all arms, ranks, and the chosen recipe set by set."""
    found: dict[str, list[Path]] = {}
    for goal in study.goals:
        words, own = GOALS[goal].words, found.setdefault(goal, [])
        gains = {MODELS[m]: table for m in study.models if len(table := study.over(goal, (m,)))}
        if gains:
            own.append(pictures.draw_gains(folder / f"gains-{goal}.svg", words, gains))
        ranked = {
            study.words[name]: table
            for name, models in CLASSES.items()
            if len(table := ranks(study.counted(goal, models))) > 1 and table.shape[1] > 2
        }
        if ranked:
            own.append(pictures.draw_ranks(folder / f"ranks-{goal}.svg", words, ranked))
        by_set = dict(_chosen_by_set(study, goal, advised.get(goal, {})))
        if by_set:
            own.append(pictures.draw_sets(folder / f"sets-{goal}.svg", words, by_set))
    return found


def _chosen_by_set(
    study: Study, goal: str, by_class: Mapping[str, Mapping[str, object]]
) -> Iterator[tuple[str, pd.DataFrame]]:
    for name, entry in by_class.items():
        if entry["recipe"] != REFERENCE:
            rows = study.counted(goal, CLASSES[name])
            yield f"{study.words[name]}: {entry['recipe']}", rows[rows["arm"] == entry["recipe"]]
