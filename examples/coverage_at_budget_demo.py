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
    PAUCAtBudgetLoss,
    SmoothAPLoss,
    init_prior_bias,
    pos_weight,
)

try:
    import numpy as np
    from sklearn.metrics import average_precision_score
except ImportError as error:
    raise SystemExit('This example needs numpy and scikit-learn: pip install ".[demo]"') from error

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


def train(loss_fn: nn.Module, x: Tensor, y: Tensor, epochs: int, *, prior_bias: bool) -> nn.Module:
    """Train a linear model; same initial weights and batches for every loss."""
    torch.manual_seed(0)
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
    """Every loss of the comparison; the ranking losses start from a weighted-BCE warm-up."""
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
    return losses


def main(rows: int = 60_000, epochs: int = 15) -> dict[str, dict[str, float]]:
    """Train with each loss and print coverage and average precision on fresh rows."""
    x_train, y_train = make_data(rows, seed=1)
    x_test, y_test = make_data(2 * rows, seed=2)
    print(
        f"{rows} training rows, {int(y_train.sum())} positive; "
        f"{len(y_test)} test rows, {int(y_test.sum())} positive"
    )
    print(f"{'loss':<24}{'coverage at 50 bps':>19}{'test AP':>9}")
    result = {}
    for name, loss_fn in build_losses(y_train, epochs).items():
        model = train(loss_fn, x_train, y_train, epochs, prior_bias=name == "BCE + prior bias")
        with torch.no_grad():
            scores = model(x_test)
        result[name] = {
            "coverage": coverage(scores, y_test),
            "AP": float(average_precision_score(y_test.numpy(), scores.numpy())),
        }
        print(f"{name:<24}{result[name]['coverage']:>19.3f}{result[name]['AP']:>9.3f}")
    weighted = result["weighted BCE"]["coverage"]
    behind = [name for name, value in result.items() if value["coverage"] < weighted]
    print(f"below weighted BCE in coverage: {', '.join(behind) or 'none'} (one seed: a look only)")
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=15)
    options = parser.parse_args()
    # A model this small runs faster on one thread than on several.
    torch.set_num_threads(1)
    main(options.rows, options.epochs)
