"""From data to a comparison: reads, trains, judges, decides, writes."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from torch.utils.data import Dataset

from imbalanced_losses import _checks
from imbalanced_losses._goals import BUDGETED, Judge
from imbalanced_losses._training.engine import PRECISION, STRATEGY, place_among_ranks
from imbalanced_losses._training.fit import FitSettings
from imbalanced_losses.compare._boosting import TREES
from imbalanced_losses.compare._dataset import read_dataset
from imbalanced_losses.compare._decision import decide, read_wish
from imbalanced_losses.compare._ending import show
from imbalanced_losses.compare._folds import split
from imbalanced_losses.compare._key import key_of
from imbalanced_losses.compare._model import Factory, check_factory
from imbalanced_losses.compare._plan import chosen_folds, chosen_recipes, read_model
from imbalanced_losses.compare._reading.read import read_table
from imbalanced_losses.compare._result import BOOSTING, Comparison, Scores
from imbalanced_losses.compare._run import run_all
from imbalanced_losses.compare._store import Store
from imbalanced_losses.compare._summary import (
    described,
    marks,
    outcome,
    pooled,
    reading,
    shared_rows,
    told,
)
from imbalanced_losses.compare._trials import Job, Plan
from imbalanced_losses.compare._verdict import judged, sentence
from imbalanced_losses.recipes import BASELINE, GOALS, Goal, Recipe


def compare(
    data: Any,
    target: str | Sequence[str] | None = None,
    *,
    positive: Any = None,
    goal: Goal = "average_precision",
    budget: float | None = None,
    wish: Mapping[str, float] | None = None,
    model: str | Factory | None = None,
    hidden: Sequence[int] = (128, 128),
    recipes: str | Sequence[str | Recipe] | None = None,
    folds: int = 5,
    repeats: int | None = None,
    seed: int = 0,
    jobs: int = -1,
    out: str | os.PathLike[str] | None = None,
    drop: str | Sequence[str] = (),
    keep: str | Sequence[str] = (),
    group: str | None = None,
    loader: Mapping[str, Any] | None = None,
    max_epochs: int | str = "auto",
    batch_size: int = 256,
    learning_rate: float | str = "auto",
    device: str | None = None,
    precision: str | None = None,
    strategy: str | None = None,
    level: float = 0.95,
    resume: bool = True,
    quiet: bool = False,
) -> Comparison:
    """Which recipe helps on this data, where the threshold goes, and what to expect of it.

    Every recipe is trained on the same folds, with the same seeds, initial weights and budget of
    steps; each has its learning rate tuned on validation rows that also end its training. Gradient
    boosting, tuned on the same rows, stands beside them. Differences to cross-entropy with prior
    bias are judged by the corrected resampled t-test and Holm's correction for the number of
    recipes: copies of one recipe are called different in at most `1 - level` of all comparisons.

    Args:
        data: Path of a CSV, Parquet or NPZ file, a data frame, a pair `(X, y)`, or a map-style
            torch data set of pairs `(x, y)` (see `loader`).
        target: Name of the target column, or several of multi-label data.
        positive: The class that counts as positive; None: the rarer of two.
        goal: What is compared, one of `recipes.GOALS`. "tail_accuracy" is for many classes: of two
            it is 1 where every row is called rare.
        budget: False-positive rate or share of alerts up to which the goals with a budget look;
            also what the threshold is chosen for. In (0, 1).
        wish: What the threshold is chosen for instead: one of budget, precision, recall, fpr and
            cost with its number, as for `thresholds.choose`: `{"recall": 0.9}`. Without wish and
            budget: as many alerts as there are positives.
        model: A network of one's own: `"package:factory"` or a callable `(features, outputs)` that
            returns an `nn.Module` from `[N, features]` (from the shape of `x` for a data set, of
            which dimension 1 is `features`) to `[N, outputs]`.
        hidden: Units of the hidden layers of the network otherwise.
        recipes: Names out of `recipes.RECIPES`, or recipes; "all" that suit; None: a choice of
            them. The baseline is always among them.
        folds: Parts of a split.
        repeats: Splits; None: 3 below 2,000 rows, 2 below 50,000, else 1.
        seed: Of everything that is drawn. The result does not depend on `jobs`.
        jobs: Trials side by side, as joblib counts them; -1: one per core, and one in all on an
            accelerator. A backend that `joblib.parallel_config` names is used.
        out: Folder for `result.json`, `scores.npz`, `report.html` and the finished trials, by which
            a run that was stopped goes on. None: nothing is written.
        drop: Columns to leave out.
        keep: Columns to use although they look like ids or like copies of the target.
        group: A column (or array of an NPZ file) of which rows with equal values belong in one
            fold.
        loader: Options of `torch.utils.data.DataLoader` to read a data set by. It is read once.
        max_epochs: Of a training; "auto": about 2,000 steps.
        batch_size: Of a training.
        learning_rate: "auto": the best of three, for every recipe; a number: for all of them.
        device: As torch names it; None: the CPU.
        precision: As Lightning Fabric names it.
        strategy: As Lightning Fabric names it, such as "ddp" in processes started by torchrun,
            which train each network together; the first of them prints and writes.
        level: Of intervals and of the verdict, in (0, 1).
        resume: Whether trials that are stored in `out` are used.
        quiet: Whether nothing is printed.

    Returns:
        What was found; also in `out`.

    Raises:
        ValueError: The data cannot be compared, or a setting is out of range.
        TypeError: A setting has the wrong type.
        RuntimeError: A worker process was killed; the trials that were finished are in `out`.

    Examples:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> y = np.arange(300) % 10 == 0
        >>> X = rng.normal(size=(300, 3)) + 2 * y[:, None]
        >>> found = compare((X, y), recipes=["focal"], hidden=(), folds=2, repeats=1, quiet=True,
        ...                 max_epochs=2, learning_rate=0.1, jobs=1)
        >>> sorted(one.recipe for one in found.outcomes)
        ['boosting', 'focal', 'prior_bias']
    """
    _checks.one_of("goal", goal, GOALS)
    level = _checks.number("level", level, above=0, below=1)
    if budget is not None:
        budget = _checks.number("budget", budget, above=0, below=1)
    seed = _checks.integer("seed", seed, at_least=0)
    wanted = read_wish(wish, goal, budget)
    make_net = read_model(model)
    settings = FitSettings(
        hidden=hidden,
        max_epochs=max_epochs,  # type: ignore[arg-type]  # it is checked there
        batch_size=batch_size,
        learning_rate=learning_rate,  # type: ignore[arg-type]
        # Refitted on the validation rows, a network would leave none to calibrate on.
        refit=False,
        seed=seed,
        device="cpu" if device is None else device,
        precision=PRECISION if precision is None else precision,
        strategy=STRATEGY if strategy is None else strategy,
    )
    rank, ranks = place_among_ranks()
    if ranks > 1 and jobs not in (-1, 1):
        raise ValueError(
            f"jobs must be 1 where {ranks} ranks train each network together; got {jobs}."
        )
    # A log has no width of its own.
    console = Console(quiet=quiet or rank > 0, width=None if sys.stdout.isatty() else 110)
    folder = None if out is None else Path(out)
    store = Store(folder, writes=rank == 0)

    ready = isinstance(data, Dataset)
    if ready:
        table = read_dataset(data, loader)
    else:
        table = read_table(
            data, target, positive=positive, drop=drop, keep=keep, group=group, folds=2
        )
        if make_net is not None:
            check_factory(make_net, table)
    for finding in table.findings:
        console.print(finding.message, markup=False, highlight=False)
    tried = chosen_recipes(recipes, table.kind, goal)
    folds, repeats, notes = chosen_folds(table, folds, repeats)
    parts = split(table.targets, table.groups, folds=folds, repeats=repeats, seed=seed)
    about_trials = (goal, budget, settings, ready, TREES)
    plan = Plan(
        goal,
        budget,
        settings,
        make_net,
        ready,
        key=key_of(table, parts, make_net, *about_trials),
        trees=TREES,
    )
    rows: tuple[Recipe | None, ...] = (*tried, None)
    todo = [Job(recipe, fold) for fold in parts for recipe in rows]
    is_alone = ranks == 1 and settings.device == "cpu"
    workers = 1 if jobs == -1 and not is_alone else jobs
    trials, met = run_all(table, todo, plan, store, workers=workers, resume=resume, console=console)
    notes += met + told(todo, trials) + reading(table, goal) + shared_rows(table)

    outcomes, choice = judged(
        [outcome(recipe, todo, trials, goal, 1 / folds, level) for recipe in rows],
        1 / folds,
        level,
    )
    by_name = {BOOSTING if one is None else one.name: one for one in rows}
    scored = {
        name: pooled(table, by_name[name], todo, trials)
        for name in dict.fromkeys([choice, BASELINE, BOOSTING])
    }
    judge, about = Judge(goal, table.problem, budget), described(table, target)
    found = Comparison(
        data=about,
        goal=goal,
        goal_title=judge.title,
        budget=judge.budget if goal in BUDGETED else budget,
        repeats=repeats,
        folds=folds,
        seed=seed,
        level=level,
        outcomes=outcomes,
        sentence=sentence(outcomes, judge.title),
        choice=choice,
        decisions=decide(scored[choice].calibrated, marks(table), about.labels, wanted, level),
        notes=tuple(notes),
        scores=Scores(
            {name: one.calibrated for name, one in scored.items()},
            scored[choice].raw,
            table.targets,
        ),
    )
    files = []
    if folder is not None and rank == 0:
        # The page, with its pictures, is costly to import.
        from imbalanced_losses.compare._report import write_report

        files = [write_report(found, folder), found.save(folder)]
    show(found, files, console)
    return found
