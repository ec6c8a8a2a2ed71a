"""Coverage at an alert budget: which loss finds most positives in the top 50 basis points?

Fewer than 1 % of the rows are positive and only the top 0.5 % can be looked at. The top is
contested: five times as many look-alikes share the positives' strong feature and differ from them
in a weak one. On the easy majority that weak feature says next to nothing. A linear model must
choose how much of it to use, and a loss that counts every negative alike, such as weighted BCE,
lets the easy majority decide. The data set is made to show this effect.

Run it with `python examples/coverage_at_budget_demo.py`.
"""

import argparse

import torch
from torch import Tensor, nn

from imbalanced_losses import (
    LossWarmupWrapper,
    MixedLoss,
    PAUCAtBudgetLoss,
    RecallAtQuantileLoss,
    SmoothAPLoss,
    init_prior_bias,
    pos_weight,
)

try:
    import numpy as np
    from sklearn.metrics import average_precision_score
except ImportError as error:
    raise SystemExit('This example needs scikit-learn: pip install ".[compare]"') from error

BUDGET = 0.005
POSITIVES, LOOK_ALIKES = 0.004, 0.02
FEATURES = 10
BATCH_ROWS = 1024
QUEUE_ROWS = 8192


def make_data(rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Features `[rows, 10]` and 0/1 labels `[rows]`."""
    generator = np.random.default_rng(seed)
    group = generator.choice(3, rows, p=[1 - POSITIVES - LOOK_ALIKES, LOOK_ALIKES, POSITIVES])
    x = generator.normal(size=(rows, FEATURES))
    x[:, 0] += np.array([0.0, 4.0, 4.0])[group]  # tells the easy majority from all the others
    x[:, 1] += np.array([1.0, 0.0, 1.5])[group]  # tells positives from look-alikes
    return torch.tensor(x, dtype=torch.float32), torch.tensor(group == 2, dtype=torch.float32)


def coverage(scores: Tensor, y: Tensor) -> float:
    """Share of all positives among the `BUDGET` highest-scoring rows."""
    alerts = scores.topk(int(BUDGET * len(scores))).indices
    return float(y[alerts].sum() / y.sum())


def train(
    loss_fn: nn.Module, x: Tensor, y: Tensor, epochs: int, *, prior_bias: bool, seed: int
) -> nn.Module:
    """Train a linear model; initial weights and batches depend on the seed alone."""
    torch.manual_seed(seed)
    head = nn.Linear(FEATURES, 1)
    if prior_bias:
        init_prior_bias(head, counts=[int(y.sum())], total=len(y), activation="sigmoid")
    model = nn.Sequential(head, nn.Flatten(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-2)
    step = 0
    for epoch in range(epochs):
        if isinstance(loss_fn, LossWarmupWrapper):
            loss_fn.on_train_epoch_start(epoch)
        for rows in torch.split(torch.randperm(len(y)), BATCH_ROWS):
            if isinstance(loss_fn, LossWarmupWrapper):
                loss_fn.on_train_batch_start(step)
            optimizer.zero_grad()
            loss_fn(model(x[rows]), y[rows]).backward()
            optimizer.step()
            step += 1
    return model


def build_losses(y: Tensor, epochs: int) -> dict[str, nn.Module]:
    """Every loss of the comparison, the reference first.

    Those alone start from a warm-up with weighted BCE; the mixed ones stand beside BCE throughout.
    """
    weighted = nn.BCEWithLogitsLoss(pos_weight=pos_weight(y[:, None]))
    warmup = max(1, epochs // 3)

    def after_warmup(main: nn.Module, start: float, end: float) -> LossWarmupWrapper:
        return LossWarmupWrapper(
            weighted,
            main,
            warmup_epochs=warmup,
            temp_start=start,
            temp_end=end,
            temp_decay_steps=(epochs - warmup) * -(-len(y) // BATCH_ROWS),
        )

    losses: dict[str, nn.Module] = {
        "BCE + prior bias": nn.BCEWithLogitsLoss(),
        "weighted BCE": weighted,
        "Smooth-AP": after_warmup(SmoothAPLoss(1, queue_size=QUEUE_ROWS), 1.0, 0.3),
    }
    for surrogate in ("trapezoid", "pairwise"):
        for numerator in ("pool", "live"):
            pauc = PAUCAtBudgetLoss(
                1,
                beta=BUDGET,
                surrogate=surrogate,
                pos_numerator=numerator,
                queue_size=QUEUE_ROWS,
            )
            losses[f"pAUC {surrogate}, {numerator}"] = after_warmup(pauc, 0.3, 0.1)

    def mixed(ranking: nn.Module) -> MixedLoss:
        steps = epochs * -(-len(y) // BATCH_ROWS)
        return MixedLoss(nn.BCEWithLogitsLoss(), ranking, ratio=3.0, warmup_steps=steps // 10)

    recall = RecallAtQuantileLoss(
        1,
        quantile=BUDGET,
        queue_size=QUEUE_ROWS,
        temperature=0.2,
        tau_scale="std",
        threshold_gradient=True,
    )
    pauc = PAUCAtBudgetLoss(1, beta=BUDGET, surrogate="pairwise", queue_size=QUEUE_ROWS)
    return {**losses, "recall, mixed": mixed(recall), "pAUC pairwise, mixed": mixed(pauc)}


def main(rows: int = 60_000, epochs: int = 15, seeds: int = 3) -> dict[str, dict[str, float]]:
    """Train with each loss and print coverage and average precision on fresh rows: their means."""
    print(f"{rows} training rows, {2 * rows} test rows, {seeds} seeds")
    print("+-: standard error of the difference to BCE + prior bias")
    print(f"{'loss':<24}{'coverage at 50 bps':>19}{'difference':>19}{'test AP':>9}")
    found: dict[str, list[list[float]]] = {}
    for seed in range(seeds):
        x_train, y_train = make_data(rows, seed=2 * seed + 1)
        x_test, y_test = make_data(2 * rows, seed=2 * seed + 2)
        for name, loss_fn in build_losses(y_train, epochs).items():
            biased = name == "BCE + prior bias" or name.endswith("mixed")
            model = train(loss_fn, x_train, y_train, epochs, prior_bias=biased, seed=seed)
            with torch.no_grad():
                scores = model(x_test)
            ap = float(average_precision_score(y_test.numpy(), scores.numpy()))
            found.setdefault(name, []).append([coverage(scores, y_test), ap])
    result = {}
    reference = torch.tensor(found["BCE + prior bias"])[:, 0]
    for name, values in found.items():
        covered, ap_of = torch.tensor(values).unbind(1)
        gain = covered - reference
        error = float(gain.std() / seeds**0.5) if seeds > 1 else float("nan")
        result[name] = {"coverage": float(covered.mean()), "AP": float(ap_of.mean())}
        print(
            f"{name:<24}{result[name]['coverage']:>19.3f}{gain.mean():>+10.3f} +- {error:.3f}"
            f"{result[name]['AP']:>9.3f}"
        )
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    # A model this small runs faster on one thread than on several.
    torch.set_num_threads(1)
    main(options.rows, options.epochs, options.seeds)
