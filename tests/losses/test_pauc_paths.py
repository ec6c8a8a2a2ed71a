"""The two ways to the pairwise pAUC, all pairs and the engine, agree to rounding."""

import pytest
import torch

from imbalanced_losses import PAUCAtBudgetLoss
from imbalanced_losses._ops.soft_counts import blocks as soft_rank


@pytest.mark.parametrize("pos_numerator", ["pool", "live"])
@pytest.mark.parametrize("rows", [40, 700])
@pytest.mark.parametrize("num_classes", [1, 3])
def test_all_pairs_and_the_engine_agree(num_classes, rows, pos_numerator, monkeypatch) -> None:
    generator = torch.Generator().manual_seed(rows)
    logits = torch.randn(rows, num_classes, dtype=torch.float64, generator=generator)
    targets = torch.randint(0, max(num_classes, 2), (rows,), generator=generator)
    targets[::7] = -100

    def outcome(pairs_per_score: int):
        monkeypatch.setattr(soft_rank, "_PAIRS_PER_SCORE", pairs_per_score)
        loss_fn = PAUCAtBudgetLoss(
            num_classes,
            beta=0.3,
            surrogate="pairwise",
            pos_numerator=pos_numerator,
            queue_size=50,
        )
        loss_fn(logits.flip(0), targets.flip(0))
        leaf = logits.clone().requires_grad_()
        loss, per_class, _, diagnostics = loss_fn(
            leaf, targets, return_per_class=True, return_diagnostics=True
        )
        loss.backward()
        return per_class.detach(), leaf.grad, diagnostics["pauc_var"]

    by_pairs, by_engine = outcome(10**9), outcome(0)
    torch.testing.assert_close(by_pairs, by_engine, rtol=1e-11, atol=1e-13)
    assert by_pairs[1].abs().sum() > 0
