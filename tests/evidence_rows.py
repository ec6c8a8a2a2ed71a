"""Made-up rows of the study, of which it is known what they must say."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

FAMILIES = ("abalone", "car", "ecoli", "flare", "kddcup", "poker", "segment", "vowel")
GOALS = ("average_precision", "partial_auc_0.01", "balanced_accuracy", "log_loss")


def made_up(
    gains: Mapping[str, float | tuple[float, float]],
    *,
    models: Iterable[str] = ("linear",),
    goals: Iterable[str] = GOALS,
    variants: int = 3,
    spread: float = 0.005,
    seed: int = 0,
) -> pd.DataFrame:
    """Rows with arms that raise every goal by so much, or by so much in each half of the sets.

    Each family has `variants` sets that count and one that does not.
    """
    generator = np.random.default_rng(seed)
    found = []
    for number, family in enumerate(FAMILIES):
        for variant in range(variants + 1):
            about = {
                "set": f"{family}-{variant}",
                "source": "keel",
                "half": ("choose", "report")[number % 2],
                "counts": variant < variants,
                "kind": "binary",
                "rows": 1000,
                "positives": 50,
            }
            level = generator.uniform(0.4, 0.6)
            for model in models:
                for fold in range(5):
                    value = level + generator.normal(0, 0.03)
                    place = {"model": model, "repeat": 0, "fold": fold, "lr": 0.01}
                    for arm, gain in {"prior_bias": 0.0, **gains}.items():
                        own = gain[number % 2] if isinstance(gain, tuple) else gain
                        noise = generator.normal(0, spread) if arm != "prior_bias" else 0.0
                        measured = {
                            goal: (1 - value - own - noise)
                            if goal == "log_loss"
                            else value + own + noise
                            for goal in goals
                        }
                        found.append({**about, **place, "arm": arm, **measured})
    return pd.DataFrame(found)
