"""Finished trials in the output folder, so that a killed run goes on where it was."""

import json
import math
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from imbalanced_losses._errors import DataError, quoted
from imbalanced_losses.compare._result import write_whole
from imbalanced_losses.compare._trials import Job, Plan, Trial
from imbalanced_losses.recipes import GOALS

_FOLDER = "trials"


class Store:
    """Trials by their keys, each in a file of its own that is there as a whole or not at all.

    The folder is made when there is something to keep.

    Args:
        folder: The output folder; None: nothing is kept.
        writes: Whether trials are kept, or only read: one of several ranks writes for all.

    Raises:
        DataError: Nothing can be written there.
    """

    def __init__(self, folder: Path | None, *, writes: bool = True) -> None:
        self.writes = writes
        self.folder: Path | None = None
        if folder is not None:
            _check_folder(folder)
            self.folder = folder / _FOLDER

    def read(self, job: Job, plan: Plan) -> tuple[Trial | None, str]:
        """The trial, or None; and what is wrong with its file, or nothing."""
        if self.folder is None:
            return None, ""
        path = self.folder / f"{job.key(plan)}.npz"
        if not path.exists():
            return None, ""
        try:
            return _read(path, job, plan), ""
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
            told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            return None, f"{path.name[:12]}… in {_FOLDER} cannot be used ({told})"

    def write(self, job: Job, plan: Plan, trial: Trial) -> None:
        """Keep a trial."""
        if self.folder is None or not self.writes:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        key = job.key(plan)
        facts = {
            "key": key,
            "values": {goal: _or_none(value) for goal, value in trial.values.items()},
            "per_class": list(map(_or_none, trial.per_class)),
            "seconds": trial.seconds,
            "learning_rate": _or_none(trial.learning_rate),
            "error": trial.error,
            "notes": trial.notes,
        }
        arrays: dict[str, Any] = {"facts": np.array(json.dumps(facts, allow_nan=False))}
        if trial.logits is not None and trial.validation_logits is not None:
            arrays |= {"logits": trial.logits, "validation_logits": trial.validation_logits}
        write_whole(self.folder / f"{key}.npz", lambda path: np.savez_compressed(path, **arrays))


def _check_folder(folder: Path) -> None:
    """Raise unless files can be written in the folder; nothing is left behind."""
    wanted = "out must be a folder that can be written to"
    nearest = folder.absolute()
    try:
        while not nearest.exists():
            nearest = nearest.parent
        if not nearest.is_dir():
            raise DataError(f"{wanted}; {quoted(nearest)} is a file.")
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(
            f"{wanted}; nothing can be written to {quoted(folder)}: {reason}."
        ) from error


def _read(path: Path, job: Job, plan: Plan) -> Trial:
    # Opened here, since numpy leaves a broken archive open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        facts = json.loads(str(arrays["facts"]))
        logits = {name: arrays[name] for name in ("logits", "validation_logits") if name in arrays}
    if facts["key"] != job.key(plan):
        raise ValueError("it holds another trial")
    if set(facts["values"]) != set(GOALS):
        raise ValueError("it lacks a goal")
    lengths = {"logits": len(job.fold.test), "validation_logits": len(job.fold.validation)}
    expected = job.fold.repeat < plan.keeps and not facts["error"]
    for name, rows in lengths.items():
        if expected and (logits[name].ndim != 2 or len(logits[name]) != rows):
            raise ValueError(f"its {name} do not fit the fold")
    return Trial(
        values={goal: _number(value) for goal, value in facts["values"].items()},
        per_class=tuple(map(_number, facts["per_class"])),
        seconds=float(facts["seconds"]),
        learning_rate=_number(facts["learning_rate"]),
        error=str(facts["error"]),
        notes=tuple(facts["notes"]),
        **logits,
    )


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
