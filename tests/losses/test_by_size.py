"""Classes worked on in groups of like size give what they give together."""

import pytest
import torch

from imbalanced_losses import PAUCAtBudgetLoss, RecallAtQuantileLoss, SmoothAPLoss
from imbalanced_losses._pool.pool import Pool
from imbalanced_losses._pool.select import select
from imbalanced_losses.losses import pauc_at_budget, recall_at_quantile, smooth_ap
from imbalanced_losses.losses._per_class import PerClass, by_size, one_minus_mean

LOSSES = [
    (SmoothAPLoss, {}),
    (RecallAtQuantileLoss, {"quantile": 0.05}),
    (PAUCAtBudgetLoss, {"beta": 0.3}),
    (PAUCAtBudgetLoss, {"beta": 0.3, "surrogate": "pairwise"}),
]


def set_padding(monkeypatch, padding: int) -> None:
    monkeypatch.setattr(smooth_ap, "_PADDING", padding)
    for module in (recall_at_quantile, pauc_at_budget):
        monkeypatch.setattr(module, "PADDING", padding)


def outcome(cls, options, *, broken: bool):
    """Every result of a step on a long tail: classes of about 250, 60, 10, 3 and no positives."""
    generator = torch.Generator().manual_seed(0)
    shares = torch.tensor([0.78, 0.18, 0.03, 0.01, 0.0])
    targets = torch.multinomial(shares, 320, replacement=True, generator=generator)
    targets[::11] = -100
    logits = torch.randn(320, 5, dtype=torch.float64, generator=generator)
    if broken:
        logits[5, 2] = torch.nan
    loss_fn = cls(5, queue_size=100, **options)
    loss_fn(logits.nan_to_num().flip(0), targets.flip(0))
    leaf = logits.clone().requires_grad_()
    extra = {"return_diagnostics": True} if cls is PAUCAtBudgetLoss else {}
    loss, per_class, valid, *rest = loss_fn(leaf, targets, return_per_class=True, **extra)
    loss.backward()
    return per_class.detach(), valid, leaf.grad, [dict(found) for found in rest]


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize(("cls", "options"), LOSSES)
def test_groups_of_classes_give_what_all_give_together(cls, options, broken, monkeypatch) -> None:
    set_padding(monkeypatch, 10**9)
    together = outcome(cls, options, broken=broken)
    set_padding(monkeypatch, 0)
    apart = outcome(cls, options, broken=broken)
    torch.testing.assert_close(apart, together, rtol=1e-12, atol=1e-14, equal_nan=True)
    sound = [label for label in range(5) if not (broken and label == 2)]
    assert together[2][:, sound].isfinite().all()
    assert together[2][:, sound].abs().sum() > 0


def test_classes_of_like_size_stay_together(monkeypatch) -> None:
    """Two groups: the class of 40 positives, and those of 3, 2 and 3."""
    seen = []

    def statistic(pool) -> PerClass:
        seen.append(pool.positive.sum(1).tolist())
        return one_minus_mean(select(pool, pool.positive, above=10**9), pool.scores, pool.scores)

    rows = 48
    positive = torch.zeros(4, rows, dtype=torch.bool)
    for label, (first, last) in enumerate([(0, 3), (3, 43), (43, 45), (45, 48)]):
        positive[label, first:last] = True
    pool = Pool(
        scores=torch.arange(4.0 * rows).view(4, rows),
        positive=positive,
        negative=~positive,
        weight=torch.ones(rows),
        iid=torch.ones(rows, dtype=torch.bool),
        rows=rows,
        live_rows=rows,
    )
    apart = by_size(pool, statistic, padding=50)
    assert sorted(seen) == [[3, 2, 3], [40]]
    torch.testing.assert_close(apart, statistic(pool))
    by_size(pool, statistic, padding=200)
    assert seen[-1] == [3, 40, 2, 3]
