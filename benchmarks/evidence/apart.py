"""Sections of the page for what stands apart: what lost, and other libraries, models and sets."""

from collections.abc import Iterator

from benchmarks.evidence import cells, prose
from benchmarks.evidence.choice import Advice
from benchmarks.evidence.statistics import (
    ADJUSTED,
    BOOSTING,
    CLASSES,
    GOALS,
    MODELS,
    PEERS,
    REFERENCE,
    beside_boosting,
    counted,
    fold_gains,
    over_sets,
    set_gains,
)
from benchmarks.evidence.study import Study
from benchmarks.page import heading, table

# What class weights are paid with.
WEIGHTS, COSTS = "class_weights", ("average_precision", "log_loss")
RANKING = ("average_precision", "partial_auc_0.01")


def no_help(study: Study) -> Iterator[str]:
    """Arms that gained in neither ranking goal."""
    goals = [goal for goal in study.goals if goal in RANKING or goal == "log_loss"]
    yield from heading("What did not help", prose.NO_HELP)
    for name, models in CLASSES.items():
        tables = {goal: found for goal in goals if len(found := study.over(goal, models))}
        ranking = [found for goal, found in tables.items() if goal in RANKING]
        if not ranking:
            continue
        helped = {arm for found in ranking for arm in found.index[found["low"] > 0]}
        order = ranking[0].sort_values("mean").index
        rows = [
            [f"`{arm}`", *(cells.emphasised(found, arm) for found in tables.values())]
            for arm in order
            if arm not in helped
        ]
        if rows:
            yield from (f"{cells.capital(study.words[name])}:", "")
            yield from table(["arm", *(GOALS[goal].words for goal in tables)], rows)


def decision(study: Study) -> Iterator[str]:
    """Class weights beside the adjusted decision of the reference, and what each costs."""
    rows = []
    for name, models in CLASSES.items():
        gains = fold_gains(study.frame, "balanced_accuracy", models)
        if not {ADJUSTED, WEIGHTS} <= set(gains):
            continue
        ahead = (gains[ADJUSTED] - gains[WEIGHTS]).dropna().to_frame("ahead")
        for half in ("choose", "report", "all"):
            found = [study.over("balanced_accuracy", models, half)]
            found += [study.over(goal, models, half) for goal in COSTS if goal in study.goals]
            between = over_sets(counted(set_gains(study.frame, ahead), half))
            if len(between) and all(WEIGHTS in table.index for table in found):
                row = between.to_dict("records")[0]
                own = [cells.emphasised(table, WEIGHTS) for table in found]
                adjusted = cells.emphasised(found[0], ADJUSTED)
                words = (study.words[name], half, f"{row['sets']:.0f}")
                rows.append(
                    [*words, adjusted, own[0], cells.interval(row), cells.count(row), *own[1:]]
                )
    if rows:
        yield from heading("Change the loss or the decision?", prose.DECISION)
        columns = ["models", "sets", "number", "adjusted decision", "class weights", "difference"]
        columns += ["won-lost-tied"]
        columns += [f"weights: {GOALS[goal].words}" for goal in COSTS if goal in study.goals]
        yield from table(columns, rows, texts=2)


def peers(study: Study) -> Iterator[str]:
    """What other libraries gain over the same reference."""
    rows = []
    for goal in study.goals:
        for model in study.models:
            own = counted(set_gains(study.peers, fold_gains(study.peers, goal, (model,))))
            for arm, row in over_sets(own[own["arm"].isin(list(PEERS))]).to_dict("index").items():
                figures = (f"{row['sets']:.0f}", cells.interval(row), cells.count(row))
                name = (GOALS[goal].words, MODELS[model], f"`{arm}`")
                rows.append([*name, *figures, cells.worse(row)])
    yield from heading("Other libraries", prose.PEERS)
    if not rows:
        yield prose.NO_PEERS
        return
    yield from (f"- `{name}`: {words}" for name, words in PEERS.items())
    yield ""
    columns = ["goal", "model", "arm", "sets", "gain", "won-lost-tied", "worse"]
    yield from table(columns, rows, texts=3)


def boosting(study: Study, advised: Advice) -> Iterator[str]:
    """Networks beside gradient boosting."""
    if BOOSTING not in set(study.frame["model"]):
        return
    yield from heading("Gradient boosting, the view from outside", prose.BOOSTING)
    columns = ["goal", "model", "arm", "sets", "network", "boosting", "gain over boosting"]
    columns += ["won-lost-tied", "better", "worse"]
    rows = []
    for goal in study.goals:
        for name, models in CLASSES.items():
            used = advised.get(goal, {}).get(name, {}).get("use", REFERENCE)
            for arm in dict.fromkeys((REFERENCE, used)):
                for model in models:
                    rows += _boosting_row(study, goal, model, arm)
    yield from table(columns, rows, texts=3)


def _boosting_row(study: Study, goal: str, model: str, arm: str) -> list[list[str]]:
    own = beside_boosting(study.frame, goal, model, arm)
    own = own[own["counts"] & (own["kind"] == "binary")]
    if own.empty:
        return []
    row = over_sets(own).to_dict("records")[0]
    frame = study.frame[study.frame["set"].isin(own["set"])]
    means = [
        frame[(frame["model"] == m) & (frame["arm"] == a)].groupby("set")[goal].mean().mean()
        for m, a in ((model, arm), (BOOSTING, BOOSTING))
    ]
    figures = [f"{row['sets']:.0f}", *(f"{mean:.3f}" for mean in means), cells.interval(row)]
    counts = [cells.count(row), f"{row['better']:.0f}", cells.worse(row)]
    return [[GOALS[goal].words, MODELS[model], f"`{arm}`", *figures, *counts]]


def multiclass(study: Study) -> Iterator[str]:
    """The tasks of several classes, which are few."""
    names = sorted(study.frame.loc[study.frame["kind"] == "multiclass", "set"].unique())
    if not names:
        return
    yield from heading("Several classes", f"{', '.join(names)}. {prose.MULTICLASS}")
    goals = [goal for goal in study.goals if not goal.startswith("recall")]
    for name, models in CLASSES.items():
        found = {}
        for goal in goals:
            own = study.by_set(goal, models)
            found[goal] = over_sets(own[own["kind"] == "multiclass"])
        found = {goal: part for goal, part in found.items() if len(part)}
        if not found:
            continue
        arms = next(iter(found.values())).sort_values("mean", ascending=False).index
        yield from (f"{cells.capital(study.words[name])}:", "")
        rows = [
            [f"`{arm}`", *(cells.mean(part, arm, counted=True) for part in found.values())]
            for arm in arms
        ]
        yield from table(["arm", *(GOALS[goal].words for goal in found)], rows)


def uncounted(study: Study, advised: Advice) -> Iterator[str]:
    """The chosen recipes on the sets that are no evidence."""
    rows = []
    for goal, by_class in advised.items():
        for name, entry in by_class.items():
            own = study.by_set(goal, CLASSES[name])
            own = own[~own["counts"] & (own["kind"] == "binary") & (own["arm"] == entry["recipe"])]
            if len(own):
                row = over_sets(own).to_dict("records")[0]
                words = (GOALS[goal].words, study.words[name], f"`{entry['recipe']}`")
                figures = (f"{row['sets']:.0f}", cells.interval(row), cells.count(row))
                rows.append([*words, *figures, cells.worse(row)])
    if rows:
        yield from heading("The sets that do not count", prose.UNCOUNTED)
        columns = ["goal", "models", "recipe", "sets", "gain", "won-lost-tied", "worse"]
        yield from table(columns, rows, texts=3)
