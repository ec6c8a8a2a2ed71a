"""Comparisons that no training made: known scores, in the shape that `compare` gives them."""

import math

import numpy as np

from imbalanced_losses import recipes, thresholds
from imbalanced_losses._paired import corrected_interval, holm
from imbalanced_losses.compare import (
    ClassCount,
    Comparison,
    Data,
    Decision,
    Difference,
    Estimate,
    Finding,
    Outcome,
    Scores,
)

# What each recipe gains on every fold, and how much that varies over folds.
GAINS = {
    "class_weights": (-0.034, 0.008),
    "sqrt_weights": (-0.011, 0.004),
    "focal": (-0.004, 0.006),
    "smooth_ap_mix": (0.012, 0.003),
    "pauc_mix": (0.006, 0.007),
    "ensemble": (0.009, 0.002),
    "boosting": (0.06, 0.012),
}
FOLDS, REPEATS = 5, 2
BUDGET = 0.04


def comparison(
    kind="binary",
    classes=("healthy tree", "diseased tree"),
    counts=(1900, 100),
    *,
    name="wilt.csv",
    target="land cover",
    choice="smooth_ap_mix",
    gains=None,
    findings=None,
    with_scores=True,
    seed=0,
):
    """A whole `Comparison`; multi-label problems have `counts[-1]` rows without any label more."""
    generator = np.random.default_rng(seed)
    targets = _targets(kind, counts, generator)
    data = Data(
        name=name,
        rows=len(targets),
        features=5,
        kind=kind,
        target=target,
        classes=tuple(ClassCount(*one) for one in zip(classes, counts, strict=True)),
        findings=FINDINGS if findings is None else findings,
    )
    scores = _scores(kind, targets, choice, generator)
    outcomes = _outcomes(len(data.labels), GAINS if gains is None else gains, generator)
    best = next(one for one in outcomes if one.recipe == choice)
    return Comparison(
        data=data,
        goal="average_precision",
        goal_title="average precision",
        budget=BUDGET,
        repeats=REPEATS,
        folds=FOLDS,
        seed=seed,
        level=0.95,
        outcomes=outcomes,
        sentence=(
            "No clear difference: keep cross-entropy with prior bias."
            if best.difference is None
            else f"For average precision, use {best.title}: {best.difference.mean:+.3g} against "
            "cross-entropy with prior bias. Clearly worse: class weights."
        ),
        choice=choice,
        decisions=tuple(
            _decision(label, scores.calibrated[choice][:, k], _positive(targets, k, kind))
            for k, label in enumerate(data.labels)
        ),
        notes=("The learning rate was chosen on validation rows of every fold.",),
        scores=scores if with_scores else None,
    )


FINDINGS = (
    Finding("duplicates", "11 rows are equal to another in every column; each pair is one fold."),
    Finding("dropped", "Column 'id' has a new value in every row and was dropped.", ("id",)),
)


def _targets(kind, counts, generator):
    if kind == "multilabel":
        rows = 2 * max(counts)
        return np.stack([generator.permutation(rows) < n for n in counts], 1).astype(np.uint8)
    return generator.permutation(np.repeat(np.arange(len(counts)), counts))


def _positive(targets, output, kind):
    if kind == "multiclass":
        return targets == output
    return targets.reshape(len(targets), -1)[:, output] == (1)


def _scores(kind, targets, choice, generator):
    """Probabilities that are calibrated by construction, better ones for the choice."""
    outputs = {"binary": 1, "multilabel": targets.shape[-1]}.get(kind, int(targets.max()) + 1)
    positive = np.stack([_positive(targets, k, kind) for k in range(outputs)], 1)
    noise = generator.normal(size=positive.shape)
    calibrated = {}
    for name, apart in ((choice, 2.6), (recipes.BASELINE, 2.4), ("boosting", 2.8)):
        if name in calibrated:
            continue
        # Normal scores at a distance d: the log-odds are d z - d^2 / 2 + those of the class.
        own = 0.85 * noise + math.sqrt(1 - 0.85**2) * generator.normal(size=positive.shape)
        rate = positive.mean(0)
        logits = apart * (own + apart * positive) - apart**2 / 2 + np.log(rate / (1 - rate))
        calibrated[name] = 1 / (1 + np.exp(-logits))
        if name == choice:
            raw = 1 / (1 + np.exp(-(logits + np.log((1 - rate) / rate) * 0.7)))
    return Scores(calibrated=calibrated, raw=raw, targets=targets)


def _outcomes(outputs, gains, generator):
    base = 0.84 + generator.normal(0, 0.02, REPEATS * FOLDS)
    rows = {recipes.BASELINE: base} | {
        name: base + generator.normal(*gain, REPEATS * FOLDS) for name, gain in gains.items()
    }
    intervals = {
        n: corrected_interval(v - base, 1 / FOLDS) for n, v in rows.items() if v is not base
    }
    adjusted = dict(zip(intervals, holm([one.p for one in intervals.values()]), strict=True))
    found = []
    for name, values in rows.items():
        mean, low, high, _ = corrected_interval(values, 1 / FOLDS)
        difference = None
        if name in intervals:
            gap, p = intervals[name], float(adjusted[name])
            clear = "better" if gap.mean > 0 else "worse"
            difference = Difference(
                gap.mean,
                gap.low,
                gap.high,
                gap.p,
                p,
                wins=int((values > base).sum()),
                losses=int((values < base).sum()),
                verdict=clear if p < 0.05 else "unclear",
            )
        titled = name in recipes.RECIPES
        found.append(
            Outcome(
                recipe=name,
                title=recipes.RECIPES[name].title if titled else "gradient boosting",
                values=tuple(values.tolist()),
                mean=mean,
                low=low,
                high=high,
                per_class=tuple((mean - generator.uniform(0, 0.3, outputs)).tolist()),
                seconds=3.2,
                difference=difference,
            )
        )
    return tuple(sorted(found, key=lambda one: -one.mean))


def _decision(label, scores, positive):
    point = thresholds.choose(scores, positive.astype(int), budget=BUDGET)
    return Decision(
        label=label,
        wish=point.wish,
        threshold=point.threshold,
        precision=Estimate(*point.precision),
        recall=Estimate(*point.recall),
        fpr=Estimate(*point.fpr),
        alerts_per_1000=Estimate(*point.alerts_per_1000),
        sentence=str(point),
    )
