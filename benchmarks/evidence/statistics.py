"""Paired differences of the study: fold by fold, set by set, and over sets.

Every difference is an arm minus the reference on the same fold, with the sign by which more is
better.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.evidence.sets import family
from imbalanced_losses._paired import corrected_interval, holm

REFERENCE = "prior_bias"
BOOSTING = "boosting"
# What the decision argmax(z - tau log prior) of the reference is called among the arms.
ADJUSTED = f"{REFERENCE} + adjusted decision"

PLACE = ["set", "repeat", "fold"]
KEY = [*PLACE, "model", "arm"]
ABOUT = ["source", "half", "counts", "kind", "rows", "positives"]

# Other packages' losses are measured, not advised: they stand beside the arms, not among them.
PEERS = {
    "libauc_auc_margin": "LibAUC's `AUCMLoss` with its optimizer `PESG` and its `DualSampler`",
    "libauc_ap": "LibAUC's `APLoss` with its optimizer `SOAP` and its `DualSampler`",
}

# Differences below are one value rounded in two ways.
TIE = 1e-9
LEVEL = 0.05
DRAWS = 4000


class Goal(NamedTuple):
    """A quantity that arms are compared in.

    Attributes:
        words: What a reader calls it.
        higher: Whether more of it is better.
        adjusted: Column of the same quantity after the decision was adjusted; "" for none.
        chooses: Whether a recipe is chosen for it.
    """

    words: str
    higher: bool = True
    adjusted: str = ""
    chooses: bool = True


GOALS = {
    "average_precision": Goal("average precision"),
    "partial_auc_0.01": Goal("partial AUC, to 1 % false positives"),
    "recall_at_fpr_0.005": Goal("recall at 0.5 % false positives"),
    "recall_at_fpr_0.01": Goal("recall at 1 % false positives"),
    "recall_at_alerts_0.01": Goal("recall with alerts on 1 % of the rows"),
    "balanced_accuracy": Goal(
        "balanced accuracy of the decision", adjusted="balanced_accuracy_adjusted"
    ),
    "balanced_accuracy_adjusted": Goal("balanced accuracy of every arm's adjusted decision"),
    # Of two classes it is the recall of the rare one, perfect where every row is called that.
    "tail_accuracy": Goal(
        "tail accuracy of the decision", adjusted="tail_accuracy_adjusted", chooses=False
    ),
    "log_loss": Goal("log-loss", higher=False),
    "calibration_error": Goal("calibration error", higher=False),
}

# A recipe is for a class of models: what a user can know beforehand of a model's capacity.
CLASSES = {"linear": ("linear",), "small": ("mlp4",), "flexible": ("mlp32", "mlp128")}
MODELS = {
    "linear": "linear",
    "mlp4": "4 units",
    "mlp32": "32 units",
    "mlp128": "128-128 units",
}


def read(*paths: Path) -> pd.DataFrame:
    """The rows of the study's files, or an error that says what is wrong with them."""
    frame = pd.concat([pd.read_csv(path) for path in paths], ignore_index=True)
    missing = [name for name in [*KEY, *ABOUT] if name not in frame]
    if missing:
        raise ValueError(f"{paths[0].name} has no column {', '.join(missing)}.")
    twice = frame.duplicated(KEY)
    if twice.any():
        first = dict(frame.loc[twice, KEY].iloc[0])
        raise ValueError(f"{int(twice.sum())} rows stand twice, the first of them {first}.")
    frame["counts"] = frame["counts"].astype(str).str.lower().isin({"true", "1", "yes"})
    return frame


def fold_values(frame: pd.DataFrame, goal: str, model: str) -> pd.DataFrame:
    """`[set, repeat, fold] x arm`, the goal as it was measured; of one model."""
    own = frame[frame["model"] == model]
    values = own.pivot(index=PLACE, columns="arm", values=goal)
    adjusted = GOALS[goal].adjusted
    if adjusted in own:
        reference = own[own["arm"] == REFERENCE].set_index(PLACE)[adjusted]
        if reference.notna().any():
            values[ADJUSTED] = reference
    return values.dropna(axis=1, how="all")


def fold_gains(frame: pd.DataFrame, goal: str, models: Sequence[str]) -> pd.DataFrame:
    """`[set, repeat, fold] x arm`, the gain over the reference: the mean over the models.

    A fold whose reference is missing has no gains, and a goal that was not measured has none.
    Boosting, which has no reference of its own, is not among the arms.
    """
    gains = {}
    for model in models if goal in frame else ():
        values = fold_values(frame, goal, model)
        if REFERENCE in values:
            sign = 1 if GOALS[goal].higher else -1
            gains[model] = sign * values.sub(values.pop(REFERENCE), axis=0)
    if not gains:
        return pd.DataFrame(index=pd.MultiIndex.from_tuples([], names=PLACE))
    mean: pd.DataFrame = pd.concat(gains).groupby(level=PLACE).mean()
    return mean.dropna(how="all")


def set_gains(frame: pd.DataFrame, gains: pd.DataFrame) -> pd.DataFrame:
    """A row per set and arm: the mean gain, its corrected 95 % interval and p-value.

    Folds of one set share rows, which the interval corrects for; with one fold it is missing.
    """
    about = frame.groupby("set")[ABOUT].first()
    folds = frame.groupby("set")["fold"].max() + 1
    rows = []
    for name, of_set in gains.groupby(level="set"):
        for arm, column in zip(of_set, of_set.to_numpy().T, strict=True):
            found = column[np.isfinite(column)]
            if len(found) == 0:
                continue
            mean, low, high, p = float(found.mean()), np.nan, np.nan, np.nan
            if len(found) > 1 and folds[str(name)] > 1:
                mean, low, high, p = corrected_interval(found, test_share=1 / folds[str(name)])
            rows.append((name, family(str(name)), arm, len(found), mean, low, high, p))
    columns = ["set", "family", "arm", "folds", "mean", "low", "high", "p"]
    return pd.DataFrame(rows, columns=columns).join(about, on="set")


def counted(by_set: pd.DataFrame, half: str = "all") -> pd.DataFrame:
    """The rows of the binary sets that count, of "choose", "report" or both halves."""
    found = by_set[by_set["counts"] & (by_set["kind"] == "binary")]
    return found if half == "all" else found[found["half"] == half]


def over_sets(by_set: pd.DataFrame) -> pd.DataFrame:
    """A row per arm, from the rows of `set_gains` of the sets that shall speak.

    Columns:
        sets, families: How many.
        mean, low, high: Mean gain over sets, with the 95 % interval that resampling families
            gives: sets of one family are one data set asked other questions, not new evidence.
        median: Of the gain over sets.
        won, lost, tied: Sets by the sign of the mean gain.
        p, p_holm: Wilcoxon's signed-rank test over sets, and adjusted for the number of arms.
        p_families: The same test over families, each with the mean gain of its sets.
        better, worse: Sets whose own corrected interval lies above or below zero.
        worse_holm: Sets that are worse at 5 % after Holm's adjustment over sets.
        rank: Mean rank among the arms and the reference, 1 the best; over the sets of all arms.
    """
    rows = {}
    for arm, own in by_set.groupby("arm"):
        gains = own["mean"].to_numpy()
        low, high = family_interval(own["mean"], own["family"])
        tested = own["p"].dropna().to_numpy()
        harmed = holm(tested) < LEVEL
        rows[arm] = {
            "sets": len(own),
            "families": own["family"].nunique(),
            "mean": gains.mean(),
            "low": low,
            "high": high,
            "median": float(np.median(gains)),
            "won": int((gains > TIE).sum()),
            "lost": int((gains < -TIE).sum()),
            "tied": int((np.abs(gains) <= TIE).sum()),
            "p": wilcoxon(gains),
            "p_families": wilcoxon(own.groupby("family")["mean"].mean().to_numpy()),
            "better": int((own["low"] > 0).sum()),
            "worse": int((own["high"] < 0).sum()),
            "worse_holm": int((harmed & (own.dropna(subset=["p"])["mean"] < 0)).sum()),
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    if len(table):
        table["p_holm"] = holm(table["p"])
        table["rank"] = ranks(by_set).mean().reindex(table.index)
    return table


def wilcoxon(gains: np.ndarray) -> float:
    """Two-sided p of the signed-rank test, exact; half of a tie's rank counts for each side.

    All signs are alike likely where nothing differs. Scipy forms that distribution only where there
    are no ties, and draws or lists signs elsewhere: 100 times slower, which 10,000 tests feel.
    """
    gains = np.where(np.abs(gains) <= TIE, 0, gains)
    doubled = np.rint(2 * stats.rankdata(np.abs(gains))).astype(int)  # whole, also for equal gains
    free = doubled[gains != 0]
    ways = np.ones(1)
    for rank in free:
        ways = np.append(ways, np.zeros(rank)) + np.append(np.zeros(rank), ways)
    positive = doubled[gains > 0].sum()
    low, high = ways[: positive + 1].sum(), ways[positive:].sum()
    return float(min(1, 2 * min(low, high) / ways.sum()))


def family_interval(
    gains: pd.Series, families: pd.Series, draws: int = DRAWS
) -> tuple[float, float]:
    """The 95 % interval of the mean over sets when whole families are drawn anew.

    The percentile bootstrap of clusters; (NaN, NaN) for fewer than two families.
    """
    number, place = len(families.unique()), families.factorize()[0]
    if number < 2:
        return np.nan, np.nan
    drawn = _drawn(number, draws)
    sums, sizes = np.bincount(place, gains), np.bincount(place)
    low, high = np.quantile(drawn @ sums / (drawn @ sizes), [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


@lru_cache
def _drawn(families: int, draws: int) -> np.ndarray:
    """How often each family is drawn, `[draws, families]`."""
    generator = np.random.default_rng(0)
    return generator.multinomial(families, np.full(families, 1 / families), size=draws)


def ranks(by_set: pd.DataFrame) -> pd.DataFrame:
    """`set x arm` with the reference: ranks of the mean gains, 1 the best; whole sets only."""
    gains = by_set.pivot(index="set", columns="arm", values="mean")
    gains = gains.loc[:, gains.notna().mean() > 0.5]  # an arm of few sets would leave few for all
    gains[REFERENCE] = 0.0
    whole = gains.dropna().round(9)
    return whole.rank(axis=1, ascending=False)


def friedman(ranked: pd.DataFrame) -> float:
    """P-value of "all arms rank alike"; NaN for fewer than three arms or two sets."""
    if ranked.shape[1] < 3 or len(ranked) < 2:
        return np.nan
    return float(stats.friedmanchisquare(*(ranked[arm] for arm in ranked)).pvalue)


def critical_difference(arms: int, sets: int) -> float:
    """Mean ranks that differ by more are different at 5 % (Nemenyi; Demsar, JMLR 7, 2006)."""
    quantile = stats.studentized_range.ppf(1 - LEVEL, arms, np.inf) / np.sqrt(2)
    return float(quantile * np.sqrt(arms * (arms + 1) / (6 * sets)))


def beside_boosting(frame: pd.DataFrame, goal: str, model: str, arm: str) -> pd.DataFrame:
    """`set_gains` of an arm of a model over boosting on the same folds."""
    own = frame[(frame["model"] == model) & (frame["arm"] == arm)].set_index(PLACE)[goal]
    other = frame[frame["model"] == BOOSTING].set_index(PLACE)[goal]
    sign = 1 if GOALS[goal].higher else -1
    gains = (sign * (own - other)).dropna().to_frame(arm)
    return set_gains(frame, gains)
