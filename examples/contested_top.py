"""Recall at an alert budget of 0.5 % where look-alikes hold the top: which loss helps which model.

One positive in 200, and ten times as many negatives that look almost like one. Every loss trains a
linear head and a small network from the same weights on the same batches; cross-entropy with prior
bias is what the others are compared with. Run it with `python examples/contested_top.py`.
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn

from imbalanced_losses import (
    MixedLoss,
    PAUCAtBudgetLoss,
    RecallAtQuantileLoss,
    SmoothAPLoss,
    init_prior_bias,
    metrics,
)

BATCH_ROWS, QUEUE_ROWS, FEATURES = 512, 1536, 10
POSITIVES, LOOK_ALIKES = 0.005, 0.05
BUDGET = 0.005
Build = Callable[[], nn.Module]


def make_data(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Features `[rows, 10]` and labels.

    Positives and look-alikes share the first two features, in which both are far from the rest.
    They differ by a shift in two more, and half of the positives shift the other way.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, FEATURES, generator=generator)
    kind = torch.rand(rows, generator=generator)
    positive = kind < POSITIVES
    top = kind < POSITIVES + LOOK_ALIKES
    other_way = torch.rand(rows, generator=generator) < 0.5
    x[top, :2] += 2.0
    x[positive, 2] += 1.2
    x[positive & other_way, 3] += 1.8
    x[positive & ~other_way, 3] -= 1.8
    return x, positive.float()


def losses(steps: int) -> dict[str, Build]:
    """A new loss by its name, for a training of so many steps."""

    def recall(**settings: object) -> nn.Module:
        return RecallAtQuantileLoss(1, BUDGET, QUEUE_ROWS, **settings)  # type: ignore[arg-type]

    def pauc() -> nn.Module:
        return PAUCAtBudgetLoss(1, beta=0.01, surrogate="pairwise", queue_size=QUEUE_ROWS)

    def smooth_ap() -> nn.Module:
        return SmoothAPLoss(1, QUEUE_ROWS, temperature=0.2, tau_scale="std")

    def mixed(ranking: nn.Module) -> nn.Module:
        return MixedLoss(nn.BCEWithLogitsLoss(), ranking, ratio=1.0, warmup_steps=steps // 10)

    repaired = {"temperature": 0.2, "tau_scale": "std", "threshold_gradient": True}
    return {
        "cross-entropy": nn.BCEWithLogitsLoss,
        "recall, threshold detached": lambda: recall(temperature=0.2, tau_scale="std"),
        "recall, threshold moves": lambda: recall(**repaired),
        "recall, moves, mixed": lambda: mixed(recall(**repaired)),
        "pAUC, pairwise": pauc,
        "pAUC, pairwise, mixed": lambda: mixed(pauc()),
        "Smooth-AP, mixed": lambda: mixed(smooth_ap()),
    }


def train(build: Build, hidden: int, x: Tensor, y: Tensor, steps: int, seed: int) -> nn.Module:
    """Train one model; the weights and the batches depend on the seed alone."""
    torch.manual_seed(seed)
    width = hidden or FEATURES
    body = [nn.Linear(FEATURES, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    head = nn.Linear(width, 1)
    model = nn.Sequential(*(body if hidden else []), head, nn.Flatten(0))
    init_prior_bias(head, counts=[int(y.sum())], total=len(y), activation="sigmoid")
    loss_fn, optimizer = build(), torch.optim.AdamW(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = torch.randint(len(y), (BATCH_ROWS,))
        optimizer.zero_grad()
        loss_fn(model(x[rows]), y[rows]).backward()
        optimizer.step()
        schedule.step()
    return model


def main(rows: int = 40_000, steps: int = 1_000, seeds: int = 5) -> dict[str, dict[str, float]]:
    """Print recall at the budget on new rows, and the mean probability of a positive.

    Returns the means over the seeds: recall by model and loss.
    """
    found: dict[str, dict[str, float]] = {}
    print(
        f"{rows} training rows, {steps} steps, {seeds} seeds; +-: standard error of the difference"
    )
    for hidden, name in ((0, "linear head"), (64, "MLP 64-64")):
        print(f"\n{name:<28}recall   minus cross-entropy   mean probability")
        results: dict[str, list[tuple[float, float]]] = {}
        for seed in range(seeds):
            x, y = make_data(rows, seed)
            x_test, y_test = make_data(4 * rows, 1_000 + seed)
            for loss, build in losses(steps).items():
                model = train(build, hidden, x, y, steps, seed)
                with torch.no_grad():
                    scores = model(x_test)
                recall = metrics.recall_at_quantile(scores, y_test, BUDGET)
                results.setdefault(loss, []).append((float(recall), float(scores.sigmoid().mean())))
        reference = torch.tensor(results["cross-entropy"])[:, 0]
        for loss, rows_of_loss in results.items():
            recalls, probabilities = torch.tensor(rows_of_loss).unbind(1)
            difference = recalls - reference
            error = float(difference.std() / len(recalls) ** 0.5) if seeds > 1 else float("nan")
            print(
                f"{loss:<28}{recalls.mean():.3f}    {difference.mean():+.3f} +- {error:.3f}"
                f"         {probabilities.mean():.3f}"
            )
        found[name] = {k: float(torch.tensor(v)[:, 0].mean()) for k, v in results.items()}
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    # Models this small run faster on one thread than on several.
    torch.set_num_threads(1)
    main(options.rows, options.steps, options.seeds)
