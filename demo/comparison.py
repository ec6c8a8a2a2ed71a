"""Results over seeds, and the paired comparison with plain cross-entropy."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import t as student_t  # type: ignore[import-untyped]

from .data import HeldOut, Split
from .strategies import BASELINE
from .tasks import Task, per_class_ap
from .training import Run

Verdict = Literal["better", "worse", "unclear"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Results:
    """Every run of one task; `runs[strategy name]` and `splits` are in the order of the seeds."""

    task: Task
    seeds: tuple[int, ...]
    splits: tuple[Split, ...]
    runs: dict[str, list[Run]]
    held_out: HeldOut

    @property
    def held_out_name(self) -> str:
        """The scored rows, in words."""
        return "test set" if self.held_out == "test" else "validation rows"

    @property
    def mean_over(self) -> str:
        """What a drawn mean is over, in words."""
        n = len(self.seeds)
        return f"mean over {n} seeds" if n > 1 else "one seed"

    def measures(self, strategy: str) -> dict[str, np.ndarray]:
        """`{measure: values over seeds}` of one strategy."""
        rows = [
            self.task.measure(split.y_test.numpy(), run.scores)
            for split, run in zip(self.splits, self.runs[strategy], strict=True)
        ]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}

    def per_class(self, strategy: str) -> np.ndarray:
        """One-vs-rest average precision, `[seeds, classes]`."""
        pairs = zip(self.splits, self.runs[strategy], strict=True)
        return np.stack([per_class_ap(split.y_test.numpy(), run.scores) for split, run in pairs])

    def rivals(self) -> list[str]:
        """The strategies that are compared with the baseline."""
        return [name for name in self.runs if name != BASELINE]


@dataclass(frozen=True)
class Difference:
    """A loss minus the baseline on one measure, paired by seed."""

    mean: float
    half_width: float
    """Of the paired t-interval; NaN where one seed allows none."""
    ahead: int
    """Seeds in which the loss was strictly higher."""
    behind: int
    seeds: int

    @property
    def verdict(self) -> Verdict:
        """Better or worse only where the interval leaves zero out."""
        if not abs(self.mean) > self.half_width:
            return "unclear"
        return "better" if self.mean > 0 else "worse"


def half_width(values: np.ndarray) -> np.ndarray:
    """Half width of the t-interval of the mean over dim 0, which needs two rows at least."""
    n = len(values)
    quantile = student_t.ppf((1 + CONFIDENCE) / 2, n - 1)
    return np.asarray(quantile * values.std(0, ddof=1) / np.sqrt(n))


def paired_difference(values: np.ndarray, baseline: np.ndarray) -> Difference:
    """Compare two strategies seed by seed.

    Both saw the same rows, initial weights and batches in a seed, so what the seeds share drops
    out of the difference.
    """
    if values.shape != baseline.shape or values.ndim != 1:
        raise ValueError(
            "values and baseline must hold one number per seed each; "
            f"got shapes {values.shape} and {baseline.shape}."
        )
    differences = values - baseline
    n = len(differences)
    return Difference(
        mean=float(differences.mean()),
        half_width=float(half_width(differences)) if n > 1 else float("nan"),
        ahead=int((differences > 0).sum()),
        behind=int((differences < 0).sum()),
        seeds=n,
    )


def differences_from_baseline(results: Results) -> dict[str, dict[str, Difference]]:
    """`{strategy: {measure: difference}}` for every strategy but the baseline."""
    baseline = results.measures(BASELINE)
    return {
        name: {
            measure: paired_difference(values, baseline[measure])
            for measure, values in results.measures(name).items()
        }
        for name in results.rivals()
    }
