"""LossWarmupWrapper with the losses that people give it: targets, functions, whole trainings."""

import copy
import functools
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from imbalanced_losses import (
    LossWarmupWrapper,
    PAUCAtBudgetLoss,
    SigmoidFocalLoss,
    SmoothAPLoss,
    SoftmaxFocalLoss,
    functional,
)
from warmup_fakes import (
    BINARY,
    CE,
    LOGITS,
    TARGETS,
    C,
    FakeMain,
    N,
    PlainMain,
    at_phase,
    call,
    to_phase,
)

BCE = F.binary_cross_entropy_with_logits


class Seeing(nn.Module):
    """A warm-up loss that remembers what it was given."""

    def forward(self, logits, targets, *, sample_weight=None):
        self.seen = targets, sample_weight
        return logits.mean()


class Flattening(nn.BCEWithLogitsLoss):
    """A binary cross-entropy that brings its own inputs to one shape."""

    def forward(self, logits, targets):
        return super().forward(logits.squeeze(-1), targets.float())


def warming(warmup_loss, main_loss=None, phase="warmup"):
    main_loss = FakeMain() if main_loss is None else main_loss
    return at_phase(
        LossWarmupWrapper(warmup_loss, main_loss, warmup_epochs=1, blend_epochs=1), phase
    )


BINARY_LOSSES = {
    "module": nn.BCEWithLogitsLoss(),
    "compiled module": torch.compile(nn.BCEWithLogitsLoss(), backend="eager"),
    "function": BCE,
    "partial": functools.partial(BCE, pos_weight=None),
    "focal": SigmoidFocalLoss(None, gamma=0),
    "compiled function": torch.compile(BCE, backend="eager"),
    "compiled partial": torch.compile(
        functools.partial(functional.sigmoid_focal_loss, alpha=None, gamma=0), backend="eager"
    ),
    "focal function": functools.partial(functional.sigmoid_focal_loss, alpha=None, gamma=0),
    "subclass": type("Named", (nn.BCEWithLogitsLoss,), {})(),
}


@pytest.mark.parametrize("loss", BINARY_LOSSES)
def test_binary_targets_of_any_form_work_in_warmup_and_blend(loss):
    for logits, targets in (
        (LOGITS[:, :1], BINARY),
        (LOGITS[:, :1], BINARY.unsqueeze(1)),
        (LOGITS[:, :1], BINARY.double()),
        (LOGITS[:, :1], BINARY.bool()),
        (LOGITS[:, 0], BINARY),
        (LOGITS[:, 0], BINARY.unsqueeze(1)),
        (LOGITS[:, 0].double(), BINARY.int()),
    ):
        expected = BCE(logits.flatten(), BINARY.to(logits.dtype))
        loss_fn = warming(BINARY_LOSSES[loss])
        got = loss_fn(logits, targets)
        assert got.dtype == logits.dtype
        torch.testing.assert_close(got, expected)

        loss_fn = at_phase(loss_fn, "blend")
        main = (logits**2).mean() / loss_fn.main_loss.temperature
        torch.testing.assert_close(
            loss_fn(logits, targets), (expected + main) / 2, check_dtype=False
        )
        assert loss_fn.main_loss.calls[-1][0] is targets


def test_soft_labels_are_not_rounded_to_half_precision():
    logits, soft = LOGITS[:, 0].bfloat16(), torch.linspace(0.01, 0.99, N)
    loss = warming(SigmoidFocalLoss(None, gamma=0))(logits.unsqueeze(1), soft)
    torch.testing.assert_close(loss, BCE(logits.float(), soft), rtol=1e-6, atol=0)
    assert warming(nn.BCEWithLogitsLoss())(logits, soft).equal(BCE(logits, soft))


@pytest.mark.parametrize(
    "loss",
    [
        SoftmaxFocalLoss(gamma=0),
        functools.partial(functional.softmax_focal_loss, gamma=0),
    ],
)
def test_class_targets_of_any_form_work_for_a_softmax_focal_warmup(loss):
    for logits, targets in (
        (LOGITS, TARGETS),
        (LOGITS, TARGETS.int()),
        (LOGITS, TARGETS.unsqueeze(1)),
        (LOGITS, F.one_hot(TARGETS)),
        (LOGITS, F.one_hot(TARGETS).double()),
        (LOGITS.T.unsqueeze(0), TARGETS.unsqueeze(0)),
    ):
        torch.testing.assert_close(warming(loss)(logits, targets), CE)
    assert warming(loss)(LOGITS[:0], TARGETS[:0]) == 0


@pytest.mark.parametrize("kind", [nn.Module, nn.BCEWithLogitsLoss, SigmoidFocalLoss])
def test_any_other_warmup_loss_gets_what_the_caller_passed(kind):
    """Also a subclass whose `forward` is its own."""
    loss = type("Own", (Seeing, kind), {})()
    for targets in (BINARY, BINARY.bool(), BINARY.unsqueeze(1), F.one_hot(BINARY)):
        warming(loss)(LOGITS[:, :1], targets)
        assert loss.seen[0] is targets


def test_a_wrapper_of_bce_may_flatten_for_itself():
    expected = BCE(LOGITS[:, 0], BINARY.float())
    flattened = functools.wraps(BCE)(lambda logits, targets: BCE(logits[:, 0], targets.float()))
    for inner in (Flattening(), flattened):
        for loss in (inner, torch.compile(inner, backend="eager")):
            torch.testing.assert_close(warming(loss)(LOGITS[:, :1], BINARY), expected)


@pytest.mark.parametrize("loss", ["module", "compiled module", "function", "compiled function"])
def test_bce_refuses_what_it_would_take_for_a_label(loss):
    for bad in (-100, 2):
        with pytest.raises(ValueError, match=rf"\[0, 1\].*got {bad}.*ignore_index"):
            warming(BINARY_LOSSES[loss])(LOGITS[:2, :1], torch.tensor([0, bad]))


def test_bce_targets_are_not_looked_at_on_an_accelerator():
    loss_fn = warming(nn.BCEWithLogitsLoss())
    loss = loss_fn(LOGITS[:2, :1].to("meta"), torch.tensor([0, -100], device="meta"))
    assert loss.is_meta


class Callable:
    """A loss that is neither a module nor a function."""

    def __call__(self, logits, targets):
        return F.cross_entropy(logits, targets)


@pytest.mark.parametrize(
    "loss", [F.cross_entropy, functools.partial(F.cross_entropy, reduction="mean"), Callable()]
)
def test_a_warmup_loss_may_be_anything_that_can_be_called(loss):
    loss_fn = warming(loss)
    for copied in (loss_fn, copy.deepcopy(loss_fn), pickle.loads(pickle.dumps(loss_fn))):
        assert call(copied).equal(CE)
        main = (LOGITS**2).mean() / copied.main_loss.temperature
        torch.testing.assert_close(
            call(at_phase(copied, "blend")), (CE + main) / 2, check_dtype=False
        )
        assert list(copied.children()) == [copied.main_loss]
    assert "warmup_loss=" in repr(loss_fn)


def test_a_function_of_torch_without_a_signature_is_a_warmup_loss_too():
    assert warming(torch.dist)(LOGITS, LOGITS + 1) == pytest.approx((N * C) ** 0.5)


def test_a_loss_that_is_assigned_later_is_looked_at_too():
    loss_fn = to_phase("warmup")
    loss_fn.warmup_loss = nn.BCEWithLogitsLoss()
    expected = BCE(LOGITS[:, 0], BINARY.float())
    torch.testing.assert_close(loss_fn(LOGITS[:, :1], BINARY), expected)
    loss_fn.main_loss = PlainMain()
    at_phase(loss_fn, "main")
    assert loss_fn.current_temperature is None
    with pytest.raises(TypeError, match="main_loss takes no argument iid_mask"):
        loss_fn(LOGITS[:, :1], BINARY, iid_mask=None)
    with pytest.raises(TypeError, match="warmup_loss must be"):
        loss_fn.warmup_loss = None


def test_sample_weight_reaches_a_warmup_loss_that_takes_it():
    weight = torch.rand(N)
    for phase in ("warmup", "blend"):
        for inner in (Seeing(), torch.compile(Seeing(), backend="eager")):
            loss_fn = warming(inner, phase=phase)
            call(loss_fn, sample_weight=weight)
            assert inner.seen[1] is weight
            call(loss_fn)
            assert inner.seen[1] is None
        torch.testing.assert_close(
            call(warming(functional.softmax_focal_loss, phase="warmup"), sample_weight=weight),
            SoftmaxFocalLoss()(LOGITS, TARGETS, sample_weight=weight),
        )


@pytest.mark.parametrize("phase", ["warmup", "blend", "main"])
def test_binary_targets_work_with_real_losses_in_every_phase(phase):
    for warmup_loss in (nn.BCEWithLogitsLoss(), SigmoidFocalLoss()):
        for shape in ((N,), (N, 1)):
            loss_fn = warming(warmup_loss, SmoothAPLoss(num_classes=1), phase)
            logits = LOGITS[:, 0].reshape(shape).requires_grad_()
            gradient = torch.autograd.grad(loss_fn(logits, BINARY), logits)[0]
            assert gradient.isfinite().all()
            assert gradient.any()


@pytest.mark.parametrize("phase", ["warmup", "blend", "main"])
def test_real_losses_take_every_keyword_and_return_one_form(phase):
    main = PAUCAtBudgetLoss(num_classes=C, beta=0.5)
    loss_fn = warming(SoftmaxFocalLoss(), main, phase)
    weight = torch.rand(N, generator=torch.Generator().manual_seed(1))
    loss, per_class, valid, diagnostics = call(
        loss_fn,
        iid_mask=torch.ones(N, dtype=torch.bool),
        return_per_class=True,
        return_diagnostics=True,
        sample_weight=weight,
    )
    assert loss.shape == ()
    assert loss.isfinite()
    assert per_class.shape == valid.shape == diagnostics["band_neg_count"].shape == (C,)
    assert main.temperature == pytest.approx(0.1)  # a share of the scale: its own is kept
    if phase == "warmup":
        assert loss.equal(SoftmaxFocalLoss()(LOGITS, TARGETS, sample_weight=weight))


def blobs(n, classes, generator):
    """Rows of `classes` Gaussian clouds, the later ones rarer."""
    counts = torch.tensor([n // 2**c for c in range(1, classes)] + [n // 2 ** (classes - 1)])
    targets = torch.arange(classes).repeat_interleave(counts)
    centres = 2 * torch.randn(classes, 4, generator=generator)
    return centres[targets] + torch.randn(len(targets), 4, generator=generator), targets


def train(loss_fn, model, epochs, inputs, targets, optimizer):
    """The loop of a tutorial: both hooks, one batch of 16 rows per step, in a fixed order."""
    steps = len(inputs) // 16
    losses = []
    for epoch in epochs:
        loss_fn.on_train_epoch_start(epoch)
        order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(epoch))
        for i, rows in enumerate(order[: steps * 16].split(16)):
            loss_fn.on_train_batch_start(epoch * steps + i)
            loss = loss_fn(model(inputs[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def five_classes():
    inputs, targets = blobs(160, 5, torch.Generator().manual_seed(3))
    torch.manual_seed(0)
    model = nn.Linear(4, 5)
    loss_fn = LossWarmupWrapper(
        warmup_loss=nn.CrossEntropyLoss(),
        main_loss=SmoothAPLoss(num_classes=5, queue_size=64),
        warmup_epochs=2,
        blend_epochs=2,
        temp_start=0.5,
        temp_end=0.05,
        temp_decay_steps=40,
    )
    return loss_fn, model, torch.optim.Adam(model.parameters(), lr=0.05), inputs, targets


def test_cross_entropy_then_smooth_ap_learns_to_rank():
    loss_fn, model, optimizer, inputs, targets = five_classes()
    exact = SmoothAPLoss(num_classes=5, queue_size=0, temperature=1e-4)
    before = exact(model(inputs), targets).item()
    train(loss_fn, model, range(8), inputs, targets, optimizer)
    after = exact(model(inputs), targets).item()
    assert not loss_fn.in_warmup
    assert not loss_fn.in_blend
    assert loss_fn.current_temperature == pytest.approx(0.05)
    assert loss_fn.main_loss.temperature == pytest.approx(0.05)
    assert after < before / 2


def test_training_resumed_from_a_checkpoint_is_the_same_bit_for_bit():
    loss_fn, model, optimizer, *data = five_classes()
    whole = train(loss_fn, model, range(6), *data, optimizer)
    for cut in (1, 2, 3, 5):
        loss_fn, model, optimizer, *data = five_classes()
        head = train(loss_fn, model, range(cut), *data, optimizer)
        file = io.BytesIO()
        torch.save([part.state_dict() for part in (loss_fn, model, optimizer)], file)
        file.seek(0)
        loss_fn, model, optimizer, *data = five_classes()
        for part, state in zip(
            (loss_fn, model, optimizer), torch.load(file, weights_only=True), strict=True
        ):
            part.load_state_dict(state)
        assert head + train(loss_fn, model, range(cut, 6), *data, optimizer) == whole
