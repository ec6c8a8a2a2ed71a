"""Gradients of the ranking losses along every road that autograd and `torch.func` offer."""

import pytest
import torch

import reference
from cases import FUNCTIONS, STATISTICS
from imbalanced_losses import (
    PairwiseAUCLoss,
    PAUCAtBudgetLoss,
    RecallAtQuantileLoss,
    SmoothAPLoss,
    functional,
)

LOSSES = {
    "smooth_ap": (SmoothAPLoss, {"temperature": 0.3}),
    "recall": (
        RecallAtQuantileLoss,
        {"quantile": 1 / 8, "temperature": 0.3},
    ),
    "trapezoid": (
        PAUCAtBudgetLoss,
        {"alpha": 1 / 16, "beta": 1 / 2, "n_knots": 3, "temperature": 0.5},
    ),
    "pairwise": (
        PAUCAtBudgetLoss,
        {"beta": 1 / 2, "surrogate": "pairwise", "temperature": 0.5},
    ),
    "auc": (PairwiseAUCLoss, {}),
    "auc, logistic": (PairwiseAUCLoss, {"surrogate": "logistic", "temperature": 0.5}),
}
# A threshold that moves has no Hessian: its second derivative is in tests/test_cures.py.
MOVING = {
    f"{name}-moving": (cls, {**options, "threshold_gradient": True})
    for name, (cls, options) in LOSSES.items()
    if name in ("recall", "trapezoid")
}
every_fixed_loss = pytest.mark.parametrize(("cls", "options"), LOSSES.values(), ids=LOSSES)
EVERY = {**LOSSES, **MOVING}
every_loss = pytest.mark.parametrize(("cls", "options"), EVERY.values(), ids=EVERY)


def batch(seed: int = 0, rows: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(3, (rows,), generator=generator)
    targets[::9] = -100
    return torch.randn(rows, 3, dtype=torch.float64, generator=generator), targets


def with_queue(cls, options, **more):
    """A loss in `eval` mode, whose queue holds a batch and stays as it is."""
    loss = cls(3, queue_size=40, **options, **more).double()
    loss(*batch(1))
    return loss.eval()


@every_fixed_loss
@pytest.mark.parametrize("queue", [False, True])
def test_the_second_derivative_is_the_oracles(cls, options, queue) -> None:
    logits, targets = batch(rows=12)
    loss = with_queue(cls, options) if queue else cls(3, queue_size=0, **options)
    oracle = reference.RankingLoss(STATISTICS[cls], options, queue_size=40 if queue else 0)
    if queue:
        oracle(*batch(1))
    past = list(oracle.past)

    def expected(x):
        oracle.past = list(past)
        return oracle(x, targets).loss

    found = torch.autograd.functional.hessian(lambda x: loss(x, targets), logits)
    wanted = torch.autograd.functional.hessian(expected, logits)
    assert wanted.abs().max() > 1e-3
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)


@every_loss
def test_a_subsample_can_be_differentiated_twice(cls, options) -> None:
    """The draws of the loss stand still in `draws`, so every call takes the same rows."""
    logits, targets = batch(rows=60)
    loss = with_queue(cls, options, max_pool_size=70)
    draw = loss.draws.clone()

    def gradient(x):
        loss.draws.copy_(draw)
        return torch.autograd.grad(loss(x, targets), x, create_graph=True)[0]

    with pytest.warns(UserWarning, match="subsampled"):
        first = gradient(logits.requires_grad_())
    direction = torch.randn(logits.shape, dtype=torch.float64)
    (found,) = torch.autograd.grad((first * direction).sum(), logits)
    assert (found == 0).all(1).any()
    (again,) = torch.autograd.grad((gradient(logits) * direction).sum(), logits)
    torch.testing.assert_close(again, found, rtol=0, atol=0)
    if cls in (SmoothAPLoss, PairwiseAUCLoss):  # thresholds, which carry no gradient, would move
        step = 1e-5 * direction
        ahead, behind = (
            gradient((logits + sign * step).detach().requires_grad_()) for sign in (1, -1)
        )
        torch.testing.assert_close(found, (ahead - behind).detach() / 2e-5, rtol=1e-5, atol=1e-8)


@every_loss
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_every_road_to_the_gradient_is_the_same(cls, options, reduction) -> None:
    logits, targets = batch()
    leaf = logits.requires_grad_()
    value = with_queue(cls, options, reduction=reduction)(leaf, targets)
    upstream = torch.rand(2, *value.shape, dtype=torch.float64)
    wanted = torch.autograd.grad(value, leaf, upstream[0], retain_graph=True)[0]
    followed = torch.autograd.grad(value, leaf, upstream[0], create_graph=True)[0]
    batched = torch.autograd.grad(value, leaf, upstream, is_grads_batched=True)[0][0]
    assert wanted.abs().sum() > 0
    torch.testing.assert_close(followed, wanted, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(batched, wanted)


@every_loss
def test_the_loss_and_the_classes_losses_share_a_graph(cls, options) -> None:
    logits, targets = batch()
    leaf = logits.requires_grad_()
    loss = with_queue(cls, options)
    value, per_class, valid = loss(leaf, targets, return_per_class=True)
    assert valid.all()
    weight = torch.tensor([0.0, 2.0, -1.0], dtype=torch.float64)
    (together,) = torch.autograd.grad(3 * value + per_class @ weight, leaf, retain_graph=True)
    (alone,) = torch.autograd.grad(per_class @ weight, leaf)
    (of_value,) = torch.autograd.grad(loss(leaf, targets), leaf)
    torch.testing.assert_close(together, 3 * of_value + alone)
    torch.testing.assert_close(value, per_class.mean())


@every_loss
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_transforms_of_torch_func(cls, options) -> None:
    logits, targets = batch()
    several = torch.stack((logits, 2 * logits, -logits))

    def loss(x):
        return FUNCTIONS[cls](x, targets, **options)

    leaves = [x.clone().requires_grad_() for x in several]
    values = torch.stack([loss(x) for x in leaves])
    wanted = torch.stack(torch.autograd.grad(values.sum(), leaves))
    torch.testing.assert_close(torch.func.vmap(loss)(several), values.detach())
    torch.testing.assert_close(torch.func.grad(loss)(logits), wanted[0])
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(several), wanted)
    twice = torch.func.jacrev(torch.func.grad(loss))(logits)
    torch.testing.assert_close(twice, torch.autograd.functional.hessian(loss, logits))


@every_loss
@pytest.mark.parametrize("queue_size", [0, 40, 2000])
def test_an_empty_batch_has_an_empty_gradient(cls, options, queue_size) -> None:
    loss = cls(3, queue_size=queue_size, **options)
    loss(*batch(rows=2000))
    empty = torch.zeros(0, 3, requires_grad=True)
    value = loss(empty, torch.zeros(0, dtype=torch.long))
    value.backward()
    assert value.isfinite()
    assert empty.grad.shape == (0, 3)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script. is deprecated")
def test_forward_mode_is_refused() -> None:
    """Silently wrong is the alternative: what is known of the slope is a number, not a function."""
    logits, targets = batch()
    with pytest.raises(NotImplementedError, match="jvp"):
        torch.func.jvp(
            lambda x: functional.smooth_ap_loss(x, targets), (logits,), (torch.ones_like(logits),)
        )
