"""Binary classification with 5 % positives: BCE, focal loss, and Smooth-AP, over several seeds.

The reference is BCE that starts from the class frequencies. Compare both models: what remains of a
gain where the network is flexible?

Run it with `python examples/binary_rare_positives.py`.
"""

import argparse

import torch
from torch import Tensor, nn

from imbalanced_losses import (
    LossWarmupWrapper,
    MixedLoss,
    SigmoidFocalLoss,
    SmoothAPLoss,
    init_prior_bias,
)

try:
    from sklearn.datasets import make_classification
    from sklearn.metrics import average_precision_score
    from sklearn.model_selection import train_test_split
except ImportError as error:
    raise SystemExit('This example needs scikit-learn: pip install ".[compare]"') from error

BATCH_ROWS = 256


def make_data(rows: int) -> list[Tensor]:
    """`[x_train, x_test, y_train, y_test]`, 5 % positives in both parts."""
    x, y = make_classification(
        n_samples=rows,
        n_features=20,
        n_informative=8,
        n_clusters_per_class=3,
        weights=[0.95],
        class_sep=0.8,
        flip_y=0.01,
        random_state=0,
    )
    parts = train_test_split(x, y, test_size=0.4, stratify=y, random_state=0)
    return [torch.tensor(part, dtype=torch.float32) for part in parts]


def train(
    loss_fn: nn.Module,
    x: Tensor,
    y: Tensor,
    epochs: int,
    *,
    hidden: int,
    prior_bias: bool,
    seed: int,
) -> nn.Module:
    """Train one model; initial weights and batches depend on the seed alone."""
    torch.manual_seed(seed)
    body = [nn.Linear(x.shape[1], hidden), nn.ReLU()] if hidden else []
    head = nn.Linear(hidden or x.shape[1], 1)
    model = nn.Sequential(*body, head, nn.Flatten(0))
    if prior_bias:
        init_prior_bias(head, counts=[int(y.sum())], total=len(y), activation="sigmoid")
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
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


def build_losses(steps: int, epochs: int) -> dict[str, nn.Module]:
    """Every loss of the comparison, the reference first."""
    warmup, blend = max(1, epochs // 3), max(1, epochs // 10)
    alone = LossWarmupWrapper(
        warmup_loss=nn.BCEWithLogitsLoss(),
        main_loss=SmoothAPLoss(1, queue_size=2048, temperature=0.2, tau_scale="std"),
        warmup_epochs=warmup,
        blend_epochs=blend,
    )
    mixed = MixedLoss(
        nn.BCEWithLogitsLoss(),
        SmoothAPLoss(1, queue_size=2048, temperature=0.2, tau_scale="std"),
        ratio=1.0,
        warmup_steps=steps // 10,
    )
    return {
        "BCE + prior bias": nn.BCEWithLogitsLoss(),
        "BCE": nn.BCEWithLogitsLoss(),
        "focal": SigmoidFocalLoss(alpha=0.25, gamma=2.0),
        "Smooth-AP after warm-up": alone,
        "Smooth-AP mixed": mixed,
    }


def main(rows: int = 10_000, epochs: int = 30, seeds: int = 3) -> dict[str, dict[str, float]]:
    """Train with each loss and print the test average precision; returns its mean by model."""
    x_train, x_test, y_train, y_test = make_data(rows)
    steps = epochs * -(-len(y_train) // BATCH_ROWS)
    print(f"{len(y_train)} training rows, {int(y_train.sum())} positive")
    print(f"a random ranking has an average precision of {y_test.mean():.3f}")
    print(f"+-: standard error of the difference over {seeds} seeds")
    result: dict[str, dict[str, float]] = {}
    for hidden, title in ((0, "linear"), (64, "64 hidden units")):
        print(f"\n{title:<26}test AP  minus BCE + prior bias")
        values: dict[str, Tensor] = {}
        for name in build_losses(steps, epochs):
            found = []
            for seed in range(seeds):
                model = train(
                    build_losses(steps, epochs)[name],
                    x_train,
                    y_train,
                    epochs,
                    hidden=hidden,
                    prior_bias=name == "BCE + prior bias",
                    seed=seed,
                )
                with torch.no_grad():
                    scores = model(x_test)
                found.append(float(average_precision_score(y_test.numpy(), scores.numpy())))
            values[name] = torch.tensor(found)
            gain = values[name] - values["BCE + prior bias"]
            error = float(gain.std() / seeds**0.5) if seeds > 1 else float("nan")
            print(f"{name:<26}{values[name].mean():.3f}    {gain.mean():+.3f} +- {error:.3f}")
        result[title] = {name: float(value.mean()) for name, value in values.items()}
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    # A model this small runs faster on one thread than on several.
    torch.set_num_threads(1)
    main(options.rows, options.epochs, options.seeds)
