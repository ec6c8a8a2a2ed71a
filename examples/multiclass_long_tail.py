"""Five classes from 51 % to 3 %: cross-entropy, class-weighted focal loss, and Smooth-AP.

The reference is cross-entropy that starts from the class frequencies; for balanced accuracy its
decision is adjusted after training.

Run it with `python examples/multiclass_long_tail.py`.
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn

from imbalanced_losses import (
    LossWarmupWrapper,
    SmoothAPLoss,
    SoftmaxFocalLoss,
    adjust_logits,
    class_weights,
    init_prior_bias,
    metrics,
)
from imbalanced_losses.recipes import RECIPES, Problem

try:
    from sklearn.datasets import make_classification
    from sklearn.metrics import average_precision_score
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import label_binarize
except ImportError as error:
    raise SystemExit('This example needs scikit-learn: pip install ".[compare]"') from error

CLASSES = 5
BATCH_ROWS = 256


def make_data(rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`(x_train, x_test, y_train, y_test)`; each class has half the rows of the one before."""
    shares = [0.5**c for c in range(CLASSES)]
    x, y = make_classification(
        n_samples=rows,
        n_features=20,
        n_informative=15,
        n_redundant=2,
        n_classes=CLASSES,
        n_clusters_per_class=1,
        weights=[share / sum(shares) for share in shares],
        flip_y=0.01,
        random_state=42,
    )
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.25, random_state=42)
    return (
        torch.tensor(x_train, dtype=torch.float32),
        torch.tensor(x_test, dtype=torch.float32),
        torch.tensor(y_train),
        torch.tensor(y_test),
    )


def per_class_ap(logits: Tensor, y: Tensor) -> list[float]:
    """One-vs-rest average precision of each class."""
    probabilities = logits.softmax(1).numpy()
    one_hot = label_binarize(y.numpy(), classes=range(CLASSES))
    return [float(ap) for ap in average_precision_score(one_hot, probabilities, average=None)]


def train(
    loss_fn: nn.Module,
    x: Tensor,
    y: Tensor,
    epochs: int,
    *,
    prior_bias: bool,
    seed: int,
    after_epoch: Callable[[int, nn.Module], None] = lambda epoch, model: None,
) -> nn.Module:
    """Train one network; initial weights and batches depend on the seed alone."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(x.shape[1], 128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, CLASSES),
    )
    if prior_bias:
        init_prior_bias(model[-1], y)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
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
        after_epoch(epoch, model)
    return model


def build_losses(counts: list[int], epochs: int) -> dict[str, nn.Module]:
    """Every loss of the comparison, the reference first."""
    warmup, blend = max(1, epochs // 4), max(1, epochs // 10)
    alone = LossWarmupWrapper(
        warmup_loss=nn.CrossEntropyLoss(),
        main_loss=SmoothAPLoss(CLASSES, temperature=0.2, tau_scale="std", scores="log_odds"),
        warmup_epochs=warmup,
        blend_epochs=blend,
        temp_start=0.2,
        temp_end=0.1,
        temp_decay_steps=(epochs - warmup) * -(-sum(counts) // BATCH_ROWS),
    )
    weights = class_weights(counts=counts, method="balanced", normalize="max")
    steps = epochs * -(-sum(counts) // BATCH_ROWS)
    mixed = RECIPES["smooth_ap_mix"].build_loss(Problem("multiclass", counts), steps=steps)
    return {
        "CE + prior bias": nn.CrossEntropyLoss(),
        "cross-entropy": nn.CrossEntropyLoss(),
        "weighted focal": SoftmaxFocalLoss(alpha=weights, gamma=2.0),
        "Smooth-AP after warm-up": alone,
        "Smooth-AP mixed": mixed,
    }


def main(rows: int = 10_000, epochs: int = 20, seeds: int = 2) -> dict[str, list[float]]:
    """Train with each loss and print the test average precision; returns its mean per class."""
    x_train, x_test, y_train, y_test = make_data(rows)
    counts = torch.bincount(y_train, minlength=CLASSES).tolist()
    print(f"{len(y_train)} training rows, per class {counts}\n")

    def log_phase(epoch: int, model: nn.Module) -> None:
        if not isinstance(loss_fn, LossWarmupWrapper) or seed > 0:
            return
        phase = "warm-up" if loss_fn.in_warmup else "blend" if loss_fn.in_blend else "main"
        with torch.no_grad():
            ap = per_class_ap(model(x_test), y_test)
        print(
            f"epoch {epoch:2d}  {phase:<8} macro AP {sum(ap) / CLASSES:.4f}"
            f"  temperature {loss_fn.current_temperature:.4f}"
        )

    found: dict[str, list[Tensor]] = {}
    for seed in range(seeds):
        for name, loss_fn in build_losses(counts, epochs).items():
            bias = name not in ("cross-entropy", "weighted focal")
            model = train(
                loss_fn,
                x_train,
                y_train,
                epochs,
                prior_bias=bias,
                seed=seed,
                after_epoch=log_phase,
            )
            with torch.no_grad():
                logits = model(x_test)
            decided = {name: logits}
            if name == "CE + prior bias":
                decided["... decision adjusted"] = adjust_logits(logits, counts)
            for way, values in decided.items():
                accuracy = float(metrics.balanced_accuracy(values, y_test))
                row = torch.tensor([accuracy, *per_class_ap(logits, y_test)])
                found.setdefault(way, []).append(row)

    print(f"\nmeans of {seeds} seeds; AP of the test rows")
    print(f"{'':<26}balanced accuracy  macro AP  " + "  ".join(f"AP {c}" for c in range(CLASSES)))
    result = {}
    for name, seen in found.items():
        accuracy, *ap = torch.stack(seen).mean(0).tolist()
        each = " ".join(f"{value:.3f}" for value in ap)
        print(f"{name:<26}{accuracy:.3f}              {sum(ap) / CLASSES:.4f}    {each}")
        result[name] = ap
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    # A model this small runs faster on one thread than on several.
    torch.set_num_threads(1)
    main(options.rows, options.epochs, options.seeds)
