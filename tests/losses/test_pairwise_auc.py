"""The pairwise AUC: exact sums over pairs where digits are scarce, its limit, its identities."""

import pytest
import torch
from torch.testing import assert_close

from imbalanced_losses import PairwiseAUCLoss, metrics
from imbalanced_losses.functional import pairwise_auc_loss


def problem(rows=3000, share=0.1, seed=0):
    """Float32 scores, about standard normal, and labels."""
    generator = torch.Generator().manual_seed(seed)
    targets = (torch.rand(rows, generator=generator) < share).long()
    return torch.randn(rows, generator=generator) + targets, targets


def all_pairs(scores, targets, margin):
    """The squared hinge in float64, pair by pair."""
    difference = scores[targets == 1][:, None] - scores[targets == 0]
    return (margin - difference).clamp(min=0).square().mean()


@pytest.mark.parametrize(
    ("offset", "spread", "margin"),
    [(0, 1, 1), (1e4, 1e-2, 1), (-1e4, 1e-2, 1e-3), (0, 1e4, 1), (1e4, 1e4, 1e-2)],
)
def test_the_squared_hinge_keeps_every_digit_that_float32_holds(offset, spread, margin):
    scores, targets = problem()
    ours = (scores * spread + offset).requires_grad_()
    theirs = ours.detach().double().requires_grad_()
    value = pairwise_auc_loss(ours, targets, margin=margin)
    expected = all_pairs(theirs, targets, margin)
    assert_close(value.double(), expected, rtol=1e-7, atol=0)
    value.backward()
    expected.backward()
    assert_close(ours.grad.double(), theirs.grad, rtol=2e-7, atol=0)


def test_few_wrong_pairs_among_far_ones_are_not_drowned():
    """Prefix sums of squares lose a difference of 1e-3 between scores of 1e4."""
    scores, targets = problem()
    ours = torch.where(targets == 1, 1e4, -1e4) + scores
    ours[:4], targets[:4] = torch.tensor([0.001, 0.003, -0.002, 0.0]), torch.tensor([1, 0, 1, 0])
    theirs = ours.double().requires_grad_()
    ours.requires_grad_()
    value = pairwise_auc_loss(ours, targets, margin=0.01)
    expected = all_pairs(theirs, targets, 0.01)
    assert 0 < expected < 1e-8
    assert_close(value.double(), expected, rtol=1e-6, atol=0)
    value.backward()
    expected.backward()
    assert_close(ours.grad.double(), theirs.grad, rtol=1e-6, atol=0)


def test_where_all_pairs_are_within_the_margin_the_loss_is_two_moments():
    """Mean of (m - d)^2 = (m - difference of the means)^2 + the variances of both sides."""
    scores, targets = problem()
    positives, negatives = scores[targets == 1].double(), scores[targets == 0].double()
    expected = (50 - (positives.mean() - negatives.mean())).square()
    expected = expected + positives.var(correction=0) + negatives.var(correction=0)
    value = pairwise_auc_loss(scores, targets, margin=50.0)
    assert_close(value.double(), expected, rtol=1e-7, atol=0)


def test_the_logistic_tends_to_one_minus_the_area_under_the_roc_curve():
    scores, targets = problem(rows=400)
    scores = scores.double().argsort().argsort().double()
    loss = pairwise_auc_loss(scores, targets, surrogate="logistic", temperature=1e-3)
    assert_close(1 - loss, metrics.partial_auc(scores, targets, alpha=0.0, beta=1.0))


@pytest.mark.parametrize("surrogate", ["squared_hinge", "logistic"])
def test_the_gradient_sums_to_zero_and_the_unit_is_the_temperature(surrogate):
    scores, targets = problem(rows=300)
    scores = scores.double().requires_grad_()
    value = pairwise_auc_loss(scores, targets, surrogate=surrogate, temperature=0.4)
    value.backward()
    assert scores.grad.abs().sum() > 1e-2
    assert scores.grad.sum().abs() < 1e-14
    scaled = pairwise_auc_loss(37 * scores, targets, surrogate=surrogate, temperature=37 * 0.4)
    assert_close(scaled, value)


def test_sums_that_are_repeatable_on_every_device_are_the_same():
    scores, targets = problem(rows=300)
    expected = pairwise_auc_loss(scores, targets)
    torch.use_deterministic_algorithms(True)
    try:
        assert_close(pairwise_auc_loss(scores, targets), expected)
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_settings_can_be_read_and_assigned():
    loss = PairwiseAUCLoss(1, queue_size=0)
    assert (loss.surrogate, loss.margin, loss.temperature) == ("squared_hinge", 1.0, 1.0)
    scores, targets = problem(rows=50)
    loss.margin, loss.surrogate = 2.0, "squared_hinge"
    assert_close(loss(scores, targets), pairwise_auc_loss(scores, targets, margin=2.0))
    with pytest.raises(ValueError, match=r"margin must be above 0; got -1"):
        loss.margin = -1
