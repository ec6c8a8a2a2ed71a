"""All trials of a comparison: those that are stored, and the others, in parallel."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from typing import TypeAlias

from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import get_active_backend
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from imbalanced_losses._errors import WorkerError
from imbalanced_losses._training.fit import RATES
from imbalanced_losses.compare._store import Store
from imbalanced_losses.compare._table import Table
from imbalanced_losses.compare._trials import Job, Plan, Trial, forget, run_trial
from imbalanced_losses.recipes import BASELINE

Place: TypeAlias = tuple[str, int, int]

# A training with a ranking loss takes so much longer where there is one output. With more it grows
# with about the square root of their number: a step with Smooth-AP took 2.4, 5.6, 8.1 and 11 times
# as long as one without at 1, 3, 10 and 30, the others half of that (batch 256, one thread of a
# 2-core AVX512, torch 2.13).
_RANKING = 2.0


def run_all(
    table: Table,
    jobs: Sequence[Job],
    plan: Plan,
    store: Store,
    *,
    workers: int,
    resume: bool,
    console: Console,
) -> tuple[dict[Place, Trial], list[str]]:
    """The trial of every job, and what was met on the way.

    One trial of the baseline runs first: it tells how long the others will take, and an error that
    would hit all of them comes at once.

    Raises:
        ValueError: The baseline cannot be trained.
        WorkerError: A worker process was killed.
        KeyboardInterrupt: As it came, with what is kept in its message.
    """
    done: dict[Place, Trial] = {}
    notes: list[str] = []
    if resume:
        done, notes = _stored(jobs, plan, store)
    for note in notes:
        console.print(note, style="yellow", markup=False, highlight=False)
    missing = [job for job in jobs if job.place not in done]

    def keep(job: Job, trial: Trial) -> None:
        if trial.error and job.name == BASELINE:
            raise ValueError(trial.error)
        store.write(job, plan, trial)
        done[job.place] = trial

    try:
        if missing:
            console.print(_beforehand(jobs, len(done)), highlight=False)
            first = next((job for job in missing if job.name == BASELINE), missing[0])
            missing.remove(first)
            trial = run_trial(table, first, plan)
            keep(first, trial)
            if missing:
                outputs = table.problem.outputs
                console.print(_how_long(trial, missing, plan, outputs, workers), highlight=False)
            with _bars(jobs, done, console) as tell:
                for job, trial in _parallel(table, missing, plan, workers):
                    keep(job, trial)
                    tell(job)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Stopped: {_kept(jobs, done, store)}") from None
    except BrokenExecutor as error:
        raise WorkerError(
            f"A worker process was killed, most often because memory ran out: "
            f"{_kept(jobs, done, store)} Fewer jobs need less memory: jobs=1, or --jobs 1."
        ) from error
    finally:
        forget()
    return done, notes


def _stored(jobs: Sequence[Job], plan: Plan, store: Store) -> tuple[dict[Place, Trial], list[str]]:
    found, broken = {}, []
    for job in jobs:
        trial, wrong = store.read(job, plan)
        if trial is not None:
            found[job.place] = trial
        if wrong:
            broken.append(wrong)
    if not broken:
        return found, []
    more = f", and {len(broken) - 1} more" if len(broken) > 1 else ""
    return found, [f"Stored trials are computed again: {broken[0]}{more}."]


def _kept(jobs: Sequence[Job], done: dict[Place, Trial], store: Store) -> str:
    told = f"{len(done)} of {len(jobs)} trainings are done"
    if store.folder is None:
        return f"{told}, and nothing of them is kept, since out is None."
    return f"{told} and kept in {str(store.folder.parent)!r}: the same call goes on from there."


def _numbered(number: int, table: Table, job: Job, plan: Plan) -> tuple[int, Trial]:
    return number, run_trial(table, job, plan)


def _parallel(
    table: Table, jobs: Sequence[Job], plan: Plan, workers: int
) -> Iterator[tuple[Job, Trial]]:
    """Trials as they finish, or all at the end where the backend cannot tell."""
    tells = getattr(get_active_backend()[0], "supports_return_generator", False)
    parallel = Parallel(workers, return_as="generator_unordered" if tells else "list")
    calls = (delayed(_numbered)(number, table, job, plan) for number, job in enumerate(jobs))
    for number, trial in parallel(calls):
        yield jobs[number], trial


def _beforehand(jobs: Sequence[Job], known: int) -> str:
    ways = len({job.name for job in jobs})  # the recipes, and boosting
    told = f"Training in {ways} ways on {len(jobs) // ways} folds: {len(jobs)} trainings"
    return f"{told}, of which {known} are stored." if known else f"{told}."


def _how_long(first: Trial, missing: Sequence[Job], plan: Plan, outputs: int, workers: int) -> str:
    side_by_side = min(effective_n_jobs(workers), len(missing))
    seconds = first.seconds * sum(_cost(job, plan, outputs) for job in missing) / side_by_side
    beside = "" if side_by_side == 1 else f", {side_by_side} side by side"
    return (
        f"The first took {first.seconds:.1f} s: about {_span(seconds)} for the other "
        f"{len(missing)}{beside}."
    )


def _cost(job: Job, plan: Plan, outputs: int) -> float:
    """Time of a trial, in units of the baseline's."""
    if job.recipe is None:
        return 1.0
    rates = len(RATES) if plan.settings.learning_rate == "auto" else 1
    trainings = (rates + job.recipe.members - 1) / rates
    return trainings * (_RANKING * outputs**0.5 if job.recipe.ranking else 1.0)


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def _bars(
    jobs: Sequence[Job], done: dict[Place, Trial], console: Console
) -> Iterator[Callable[[Job], None]]:
    """Progress over folds, and over the rows of the fold that is nearest to its end."""
    folds = Counter(job.place[1:] for job in jobs)
    left = folds - Counter(place[1:] for place in done)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        outer = progress.add_task("folds", total=len(folds), completed=len(folds) - len(left))
        inner = progress.add_task("trainings", total=len(jobs), completed=len(done))

        def tell(job: Job) -> None:
            place = job.place[1:]
            left[place] -= 1
            progress.advance(outer, left[place] == 0)
            words = f"repeat {place[0] + 1}, fold {place[1] + 1}: {job.name}"
            progress.update(inner, advance=1, description=words)

        yield tell
