"""The focal losses' weights: alpha as a number or per label, and weights of rows and cells."""

import pytest
import torch

from imbalanced_losses.focal_loss import SigmoidFocalLoss
from imbalanced_losses.functional import sigmoid_focal_loss, softmax_focal_loss
from reference_focal import value_and_grad


def test_alpha_is_any_real_number():
    np = pytest.importorskip("numpy")
    logits, targets = torch.randn(6, 3), (torch.arange(18) % 2).view(6, 3)
    for given in (np.float32(0.25), np.float64(0.25), torch.tensor(0.25), np.array(0.25)):
        loss_fn = SigmoidFocalLoss(alpha=given)
        assert type(loss_fn.alpha) is float
        assert torch.equal(loss_fn(logits, targets), SigmoidFocalLoss()(logits, targets))
    off = SigmoidFocalLoss(alpha=None)(logits, targets)
    for given in (-1, np.int64(-1), torch.tensor(-1.0)):
        assert torch.equal(SigmoidFocalLoss(alpha=given)(logits, targets), off)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4)], ids=str)
def test_alpha_per_label_is_one_number_for_each_label(gamma, shape):
    """Value, gradient and second derivatives; labels lie in dimension 1."""
    logits = torch.randn(shape, dtype=torch.float64)
    targets = torch.rand(shape, dtype=torch.float64)
    targets[0, 1] = -100
    alpha, options = [0.1, 0.5, 0.9], {"gamma": gamma, "ignore_index": -100}
    for reduction in ("none", "mean", "mean_positive"):

        def by_label(z, t, reduction=reduction):
            none = [
                sigmoid_focal_loss(z[:, c], t[:, c], alpha=a, reduction="none", **options)
                for c, a in enumerate(alpha)
            ]
            valid = t != -100
            mass = t[valid].sum() if reduction == "mean_positive" else valid.sum()
            cells = torch.stack(none, 1)
            return cells if reduction == "none" else cells.sum() / mass

        def at_once(z, t, reduction=reduction):
            return sigmoid_focal_loss(z, t, alpha=alpha, reduction=reduction, **options)

        found = value_and_grad(at_once, logits, targets)
        torch.testing.assert_close(found, value_and_grad(by_label, logits, targets))
    leaf = logits.requires_grad_()
    assert torch.autograd.gradgradcheck(lambda z: at_once(z, targets), leaf)


def test_alpha_per_label_of_any_form_is_the_modules_own():
    np = pytest.importorskip("numpy")
    logits, targets = torch.randn(6, 3), (torch.arange(18) % 2).view(6, 3)
    given = torch.tensor([0.25, 0.5, 1.0])
    wanted = sigmoid_focal_loss(logits, targets, alpha=given)
    for form in (given, given.half(), given.tolist(), tuple(given.tolist()), np.asarray(given)):
        loss_fn = SigmoidFocalLoss(alpha=form)
        assert torch.equal(loss_fn(logits, targets), wanted)
        assert not [*loss_fn.buffers(), *loss_fn.state_dict()]
        assert loss_fn.half().alpha.dtype == torch.float32
    loss_fn = SigmoidFocalLoss(alpha=given)
    given.zero_()
    assert torch.equal(loss_fn(logits, targets), wanted)
    per_row = torch.func.vmap(
        torch.func.grad(lambda z, t: loss_fn(z.unsqueeze(0), t.unsqueeze(0)))
    )(logits, targets)
    alone = value_and_grad(loss_fn, logits, targets)[1] / 0.5
    torch.testing.assert_close(per_row / len(logits), alone)


def test_a_weight_per_row_may_be_a_column_and_nothing_else_is_broadcast():
    weight = torch.rand(4)
    for loss, logits, targets in (
        (sigmoid_focal_loss, torch.randn(4, 3), torch.rand(4, 3)),
        (sigmoid_focal_loss, torch.randn(4, 3, 2), torch.rand(4, 3, 2)),
        (softmax_focal_loss, torch.randn(4, 3, 2), torch.arange(8).view(4, 2) % 3),
    ):
        shape = targets.shape
        column = weight.view(4, *[1] * (len(shape) - 1))
        for reduction in ("none", "mean"):
            found = [
                loss(logits, targets, reduction=reduction, sample_weight=w)
                for w in (weight, column, column.expand(shape))
            ]
            torch.testing.assert_close(found[1:], found[:1] * 2, rtol=0, atol=0)
        for wrong in ((1, *shape[1:]), (1,) * len(shape), (*shape, 1), (4, 1, 1, 1)):
            with pytest.raises(ValueError, match="sample_weight must have shape"):
                loss(logits, targets, sample_weight=torch.ones(wrong))
        if len(shape) > 1:
            with pytest.raises(ValueError, match="one per row; else use expand_as"):
                loss(logits, targets, sample_weight=torch.ones(1, *shape[1:]))
