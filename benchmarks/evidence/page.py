"""`EVIDENCE.md`: ten lines for a user, then tables, what did not help and what is not known."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.evidence import apart, cells, prose
from benchmarks.evidence.choice import Advice
from benchmarks.evidence.sets import family
from benchmarks.evidence.statistics import ADJUSTED, CLASSES, GOALS, MODELS, REFERENCE
from benchmarks.evidence.study import Study
from benchmarks.page import heading, table

FILE = "EVIDENCE.md"
PLAIN = "cross_entropy"


def write(folder: Path, study: Study, advised: Advice, drawn: Mapping[str, Sequence[Path]]) -> Path:
    """Write the page of these results and pictures; returns its path."""
    sections = (
        opening(study, advised),
        _advice(study, advised),
        _every_arm(study, folder, drawn),
        apart.decision(study),
        apart.no_help(study),
        apart.peers(study),
        apart.boosting(study, advised),
        apart.multiclass(study),
        apart.uncounted(study, advised),
        _method(study),
        [*heading("What it cannot show"), *(f"- {line}" for line in prose.LIMITS)],
    )
    path = folder / FILE
    text = "\n".join(line for section in sections for line in section)
    path.write_text(text.rstrip() + "\n", encoding="utf-8")
    return path


def opening(study: Study, advised: Advice) -> Iterator[str]:
    """A line for each goal: what to use, by how much it gained, and on how many sets."""
    yield from ("# Which loss helps, and by how much", "", prose.OPENING, "")
    yield from _baseline(study)
    for goal, by_class in advised.items():
        sentences = [*_sentences(study, by_class), *_adjusted(study, by_class)]
        yield f"- **{cells.capital(GOALS[goal].words)}.** {' '.join(sentences)}"


def _baseline(study: Study) -> Iterator[str]:
    """What starting at the class frequencies gains over cross-entropy that does not."""
    found = []
    for name, models in CLASSES.items():
        rows = study.over("average_precision", models).to_dict("index")
        if plain := rows.get(PLAIN):
            turned = {"mean": -plain["mean"], "low": -plain["high"], "high": -plain["low"]}
            turned |= {"won": plain["lost"], "lost": plain["won"]}
            found.append(f"{study.words[name]} {cells.gain(turned)}")
    if found:
        yield (
            f"- **Begin with `{REFERENCE}`.** Its gain over plain cross-entropy in average "
            f"precision, on all sets: {'; '.join(found)}."
        )


def _sentences(study: Study, by_class: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    kept = []
    for name, entry in by_class.items():
        words = study.words[name]
        if entry["clears"]:
            yield f"{cells.capital(words)}: `{entry['recipe']}` {cells.gain(entry['report'])}."
        else:
            kept.append(words)
    if kept:
        yield f"{cells.capital(', '.join(kept))}: `{REFERENCE}`."


def _adjusted(study: Study, by_class: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What shifting the decision of the reference gives, where another recipe was chosen."""
    found = [
        f"{study.words[name]} {cells.gain(entry['adjusted_decision']['report'])}"
        for name, entry in by_class.items()
        if "adjusted_decision" in entry and entry["recipe"] != ADJUSTED
    ]
    if found:
        yield f"Adjusting the decision of `{REFERENCE}`, which costs nothing: {'; '.join(found)}."


def _advice(study: Study, advised: Advice) -> Iterator[str]:
    yield from heading("What was chosen, and whether it holds", prose.BAR)
    columns = ["goal", "models", "recipe", "gain when chosen", "gain when judged"]
    columns += ["won-lost-tied", "worse", "p, Holm", "p over families", "clears the bar"]
    rows = []
    for goal, by_class in advised.items():
        for name, entry in by_class.items():
            row = [GOALS[goal].words, study.words[name], f"`{entry['recipe']}`"]
            choose, report = entry.get("choose"), entry.get("report")
            row.append(cells.interval(choose) if choose else "-")
            if report:
                row += [cells.interval(report), cells.count(report), cells.worse(report)]
                row += [cells.p_value(report["p_holm"]), cells.p_value(report["p_families"])]
            else:
                row += ["-"] * 5
            rows.append([*row, "**yes**" if entry["clears"] else "no" if report else "-"])
    yield from table(columns, rows, texts=3)


def _every_arm(study: Study, folder: Path, drawn: Mapping[str, Sequence[Path]]) -> Iterator[str]:
    yield from heading("Every arm", prose.EVERY_ARM)
    for goal in study.goals:
        yield from (f"### {cells.capital(GOALS[goal].words)}", "")
        for path in drawn.get(goal, ()):
            words = path.stem.partition("-")[0]
            yield from (f"![{words}, {goal}]({path.relative_to(folder).as_posix()})", "")
        for name, models in CLASSES.items():
            parts = {half: study.over(goal, models, half) for half in ("all", "choose", "report")}
            if len(parts["all"]):
                # GitHub lays out what is inside in any case, MkDocs where it is told to.
                words = cells.capital(study.words[name])
                yield f'<details markdown="1"><summary>{words}</summary>'
                yield from ("", *_arms(parts), "</details>", "")


def _arms(parts: Mapping[str, pd.DataFrame]) -> list[str]:
    columns = ["arm", "gain", "to choose on", "to report on", "won-lost-tied"]
    columns += ["better", "worse", "p, Holm", "rank"]
    ordered = parts["all"].sort_values("mean", ascending=False).to_dict("index")
    rows = [
        [
            f"`{arm}`",
            cells.interval(row),
            *(cells.mean(parts[half], arm) for half in ("choose", "report")),
            cells.count(row),
            f"{row['better']:.0f}",
            cells.worse(row),
            cells.p_value(row["p_holm"]),
            cells.rank(row["rank"]),
        ]
        for arm, row in ordered.items()
    ]
    return table(columns, rows)


def _method(study: Study) -> Iterator[str]:
    frame = study.frame
    binary = frame[frame["kind"] == "binary"]
    counted = binary[binary["counts"]].groupby("set")[["half", "rows", "positives"]].first()
    families = counted.groupby(counted.index.map(family))["half"].first()
    others = binary["set"].nunique() - len(counted)
    repeats = int(frame["repeat"].max()) + 1
    yield from heading("How it was run", prose.COMMANDS)
    yield (
        f"- **Sets.** {len(counted)} binary sets count (25 positives or more, fewer than 10 %), of "
        f"{len(families)} families; {others} others are shown apart. They "
        f"have {_span(counted['rows'])} rows and {_span(counted['positives'])} positives. "
        f"{prose.THINNED}"
    )
    for half, words in (("choose", "Chosen on"), ("report", "Judged on")):
        names = ", ".join(sorted(families.index[families == half]))
        yield f"- **{words}** the families {names}."
    yield (
        f"- **Folds.** {int(frame['fold'].max()) + 1}, stratified, in {repeats} "
        f"repeat{'s at most' if repeats > 1 else ''}. {prose.FOLDS}"
    )
    for model in study.models:
        rates = sorted(frame.loc[frame["model"] == model, "lr"].unique())
        words = ", ".join(f"{rate:g}" for rate in rates)
        sets = counted.index.isin(frame.loc[frame["model"] == model, "set"]).sum()
        yield (
            f"- **{cells.capital(MODELS[model])}.** {sets} of these sets. Learning rates {words}; "
            f"{prose.TUNED}"
        )
    yield from (f"- {line}" for line in prose.METHOD)


def _span(values: pd.Series) -> str:
    return f"{values.min():,} to {values.max():,}"
