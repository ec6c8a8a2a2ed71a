"""MixedLoss: the ratio of the two gradients on the logits is what was asked."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import parallel
from cases import assert_same, state, step
from imbalanced_losses import (
    LossWarmupWrapper,
    MixedLoss,
    PAUCAtBudgetLoss,
    SigmoidFocalLoss,
    SmoothAPLoss,
    SoftmaxFocalLoss,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*queued:UserWarning")


def mixed(ratio=1.0, pointwise=None, **settings) -> MixedLoss:
    return MixedLoss(
        pointwise or nn.CrossEntropyLoss(),
        SmoothAPLoss(3, queue_size=20, temperature=0.3),
        ratio,
        **settings,
    )


def batch(seed=0, rows=24, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    return logits, torch.arange(rows) % 4 % 3


def gradients(loss: MixedLoss, logits, targets):
    """Those of both losses on the logits, without a trace in the loss."""
    twin = copy.deepcopy(loss)
    return step(twin.pointwise, logits, targets)[1], step(twin.ranking, logits, targets)[1]


@pytest.mark.parametrize("ratio", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("pointwise", [nn.CrossEntropyLoss(), F.cross_entropy, SoftmaxFocalLoss()])
def test_the_first_step_has_the_ratio_that_was_asked(ratio, pointwise) -> None:
    loss, (logits, targets) = mixed(ratio, pointwise), batch()
    by_point, by_rank = gradients(mixed(ratio, pointwise), logits, targets)
    value, grad = step(loss, logits, targets)
    assert loss.k == pytest.approx(ratio * by_point.norm().item() / by_rank.norm().item(), rel=1e-9)
    torch.testing.assert_close(grad, by_point + loss.k * by_rank)
    assert (grad - by_point).norm() == pytest.approx(ratio * by_point.norm().item(), rel=1e-6)
    expected = pointwise(logits, targets) + loss.k * SmoothAPLoss(3, 0, 0.3)(logits, targets)
    torch.testing.assert_close(value, expected.to(value.dtype))


def test_k_follows_running_means_of_squares() -> None:
    """Also the ratio for the accumulated gradient, whose squares add up over batches."""
    loss, decay, means = mixed(2.0, decay=0.9), 0.9, None
    for seed in range(6):
        logits, targets = batch(seed, scale=1.0 + seed)
        squares = torch.stack([grad.square().sum() for grad in gradients(loss, logits, targets)])
        means = squares if means is None else decay * means + (1 - decay) * squares
        step(loss, logits, targets)
        assert loss.k == pytest.approx(2 * (means[0] / means[1]).sqrt().item(), rel=1e-9)


def test_dividing_the_loss_for_accumulation_changes_nothing() -> None:
    whole, parts = mixed(), mixed()
    for seed in range(4):
        logits, targets = batch(seed)
        leaf = logits.clone().requires_grad_()
        (parts(leaf, targets) / 4).backward()
        torch.testing.assert_close(leaf.grad * 4, step(whole, logits, targets)[1])
    assert parts.k == whole.k


NO_POSITIVE_PAIR = torch.zeros(24, dtype=torch.long)


@pytest.mark.parametrize("broken", ["ranking is flat", "pointwise is flat", "not a number"])
def test_a_step_on_which_a_gradient_vanishes_keeps_k(broken) -> None:
    scale = 1.0
    loss = MixedLoss(
        lambda logits, targets: scale * F.cross_entropy(logits, targets),
        SmoothAPLoss(3, queue_size=0, temperature=0.3),
    )
    step(loss, *batch())
    before = state(loss)["_extra_state"][:3]
    logits, targets = batch(1)
    if broken == "ranking is flat":
        targets = NO_POSITIVE_PAIR
    elif broken == "pointwise is flat":
        scale = 0.0
    else:
        logits[0, 0] = torch.nan
    step(loss, logits, targets)
    assert_same(state(loss)["_extra_state"][:3], before)
    scale = 1.0
    step(loss, *batch(2))
    assert not state(loss)["_extra_state"][:3].equal(before)


def test_k_is_bounded() -> None:
    loss = MixedLoss(nn.CrossEntropyLoss(), SmoothAPLoss(3, queue_size=0, temperature=2e-2), 2.0)
    step(loss, *batch(scale=1e3))
    assert loss.k == 2e3


def test_evaluation_uses_k_and_leaves_it() -> None:
    loss, (logits, targets) = mixed(), batch()
    step(loss, logits, targets)
    before = state(loss)
    expected = loss.pointwise(logits, targets) + loss.k * loss.ranking.eval()(logits, targets)
    torch.testing.assert_close(loss.eval()(logits, targets), expected)
    step(loss, *batch(3))
    with loss.train().frozen_queue():
        step(loss, *batch(4))
    assert_same(state(loss), before)
    with torch.no_grad():
        loss(*batch(5))
    assert_same(state(loss)["_extra_state"][:3], before["_extra_state"][:3])


def test_warmup_steps_are_counted_by_calls_or_by_the_hook() -> None:
    logits, targets = batch()
    counted, told = mixed(warmup_steps=2), mixed(warmup_steps=2)
    for number in range(4):
        told.on_train_epoch_start(0)
        told.on_train_batch_start(number)
        for loss in (counted, told):
            assert loss.in_warmup == (number < 2)
            value, per_class, valid = loss(
                logits.clone().requires_grad_(), targets, return_per_class=True
            )
            if number < 2:
                assert_same(value.detach(), loss.pointwise(logits, targets))
                assert not valid.any()
                assert per_class.isnan().all()
                assert not (loss.ranking.queue.label >= 0).any()
            else:
                assert valid.all()
    assert counted.k == told.k != 1


def test_the_second_derivative_is_that_of_the_sum_at_this_k() -> None:
    loss, (logits, targets) = mixed(), batch(rows=8)
    step(loss, logits, targets)
    loss.eval()

    def gradient(scores):
        return torch.autograd.grad(loss(scores, targets), scores, create_graph=True)[0]

    assert torch.autograd.gradcheck(gradient, logits.requires_grad_())


@pytest.mark.parametrize("way", ["pickle", "deepcopy", "state_dict"])
def test_a_copy_goes_on_alone_and_bit_for_bit(way) -> None:
    loss = mixed(warmup_steps=1)
    for seed in range(3):
        step(loss, *batch(seed))
    if way == "state_dict":
        file = io.BytesIO()
        torch.save(loss.state_dict(), file)
        file.seek(0)
        twin = mixed(warmup_steps=1)
        twin.load_state_dict(torch.load(file, weights_only=True))
    else:
        twin = copy.deepcopy(loss) if way == "deepcopy" else pickle.loads(pickle.dumps(loss))
    for seed in range(3, 6):
        assert_same(step(twin, *batch(seed)), step(loss, *batch(seed)))
    assert_same(state(twin), state(loss))
    with pytest.raises(ValueError, match="4 numbers of at least 0"):
        loss.load_state_dict({**state(loss), "_extra_state": torch.zeros(3)})


def test_half_precision_autocast_and_weights() -> None:
    loss = MixedLoss(SigmoidFocalLoss(None, 0.0), PAUCAtBudgetLoss(1, beta=0.5))
    logits = torch.linspace(-1, 1, 16).half()
    targets, weight = torch.arange(16) % 4 == 3, torch.linspace(0.5, 1, 16)
    with torch.autocast("cpu", torch.bfloat16):
        value, grad = step(loss, logits, targets.long(), sample_weight=weight)
    assert value.dtype == torch.float32
    assert grad.dtype == torch.float16
    assert grad.isfinite().all()
    assert loss.k != 1


def test_it_is_a_main_loss_of_the_wrapper() -> None:
    loss = LossWarmupWrapper(nn.CrossEntropyLoss(), mixed(), warmup_steps=1, temp_start=0.5)
    for number in range(3):
        loss.on_train_batch_start(number)
        step(loss, *batch(number))
    assert loss.main_loss.ranking.temperature == 0.5
    assert loss.main_loss.k != 1


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"ratio": 0}, ValueError, "ratio must be above 0"),
        ({"warmup_steps": -1}, ValueError, "warmup_steps must be at least 0"),
        ({"decay": 1.0}, ValueError, "decay must be at least 0 and below 1"),
        ({"pointwise": nn.CrossEntropyLoss}, TypeError, "pointwise must be an nn.Module or a"),
        ({"pointwise": 3}, TypeError, "pointwise must be an nn.Module or a function; got 3"),
        ({"ranking": F.cross_entropy}, TypeError, "ranking must be an nn.Module"),
        ({"ranking": SmoothAPLoss(3, reduction="none")}, ValueError, "ranking must have reduction"),
    ],
)
def test_wrong_settings_are_refused(change, error, sentence) -> None:
    settings = {"pointwise": nn.CrossEntropyLoss(), "ranking": SmoothAPLoss(3), **change}
    with pytest.raises(error, match=sentence):
        MixedLoss(**settings)


def test_a_pointwise_loss_that_is_no_scalar_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scalar; got shape \[24\].*reduction='mean'"):
        mixed(pointwise=nn.CrossEntropyLoss(reduction="none"))(*batch())


# Over ranks -------------------------------------------------------------------------------------


def train(rank: int | None, sizes: tuple[int, ...]) -> tuple[list[float], list[torch.Tensor]]:
    """k and the parameters after every step, with this rank's rows of every batch."""
    torch.manual_seed(0)
    model = nn.Linear(3, 3, dtype=torch.float64)
    loss = MixedLoss(SoftmaxFocalLoss(), SmoothAPLoss(3, queue_size=30, temperature=0.3), 2.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    call = model if rank is None else DistributedDataParallel(model)
    seen, parameters = [], []
    for seed in range(4):
        features, targets = batch(seed, rows=sum(sizes))
        if rank is not None:
            start = sum(sizes[:rank])
            features, targets = (t[start : start + sizes[rank]] for t in (features, targets))
        optimizer.zero_grad()
        loss(call(features), targets).backward()
        optimizer.step()
        seen.append(loss.k)
        parameters.append(model.weight.detach().clone())
    return seen, parameters


@pytest.mark.parametrize("sizes", [(20, 4), (6, 10, 0, 8)], ids=str)
def test_several_ranks_mix_as_one_process_does(sizes) -> None:
    expected, parameters = train(None, sizes)
    for found, theirs in parallel.run(len(sizes), train, sizes):
        assert found == pytest.approx(expected, rel=1e-9)
        torch.testing.assert_close(theirs, parameters)
