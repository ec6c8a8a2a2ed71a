"""Focal losses against the float64 oracle, torch's own losses, and their edge cases."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

import reference_focal as reference
from imbalanced_losses.functional import sigmoid_focal_loss, softmax_focal_loss
from reference_focal import each_loss, value_and_grad

GAMMAS = [0.0, 0.05, 0.5, 1.0, 1.5, 2.0, 5.0]
REDUCTIONS = ["none", "mean", "sum", "mean_positive"]
HALF = [torch.float16, torch.bfloat16]


def assert_matches(ours, oracle, logits, targets, rtol=1e-9, atol=1e-12, **options):
    for got, wanted in zip(
        value_and_grad(ours, logits, targets, **options),
        value_and_grad(oracle, logits, targets, **options),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted.to(got.dtype), rtol=rtol, atol=atol)


@st.composite
def common_options(draw, shape):
    options = {
        "gamma": draw(st.sampled_from(GAMMAS)),
        "reduction": draw(st.sampled_from(REDUCTIONS)),
    }
    weight_dims = draw(st.sampled_from([None, 1, len(shape)]))
    if weight_dims is not None:
        weight = torch.rand(shape[:weight_dims], dtype=torch.float64)
        options["sample_weight"] = weight * (torch.rand(weight.shape) < 0.8)
    return options


@st.composite
def softmax_cases(draw):
    torch.manual_seed(draw(st.integers(0, 2**32)))
    rows, classes = draw(st.integers(0, 4)), draw(st.sampled_from([1, 2, 3, 17]))
    shape = (rows, *draw(st.sampled_from([(), (3,), (2, 2)])))
    scale = draw(st.sampled_from([1.0, 30.0]))
    logits = scale * torch.randn(rows, classes, *shape[1:], dtype=torch.float64)
    options = draw(common_options(shape))
    options["label_smoothing"] = draw(st.sampled_from([0.0, 0.2, 1.0]))
    options["background_class"] = draw(st.integers(0, classes - 1))
    if draw(st.booleans()):
        options["alpha"] = torch.rand(classes, dtype=torch.float64)
    if draw(st.booleans()):
        return logits, torch.randn_like(logits).mul(3).softmax(1), options
    options["ignore_index"] = draw(st.sampled_from([-100, 255, 0, classes - 1]))
    targets = torch.randint(classes, shape)
    if draw(st.booleans()):
        targets[torch.rand(shape) < 0.3] = options["ignore_index"]
    return logits, targets, options


@st.composite
def sigmoid_cases(draw):
    torch.manual_seed(draw(st.integers(0, 2**32)))
    shape = draw(st.sampled_from([(), (0,), (5,), (4, 3), (0, 3), (2, 3, 2)]))
    logits = draw(st.sampled_from([1.0, 30.0])) * torch.randn(shape, dtype=torch.float64)
    options = draw(common_options(shape)) if shape else {"gamma": 1.5}
    options["alpha"] = draw(st.sampled_from([None, -1, 0.0, 0.25, 1.0]))
    options["ignore_index"] = draw(st.sampled_from([None, -1, 0, 255]))
    targets = torch.rand(shape, dtype=torch.float64)
    if draw(st.booleans()):
        targets = targets.round()
        targets = targets.to(draw(st.sampled_from([torch.float32, torch.int64, torch.uint8])))
    if options["ignore_index"] not in (None, -1) or (
        options["ignore_index"] == -1 and targets.dtype != torch.uint8
    ):
        targets[torch.rand(shape) < 0.3] = options["ignore_index"]
    return logits, targets, options


@given(softmax_cases())
def test_softmax_matches_the_oracle(case):
    logits, targets, options = case
    assert_matches(softmax_focal_loss, reference.softmax_focal_loss, logits, targets, **options)


@given(sigmoid_cases())
def test_sigmoid_matches_the_oracle(case):
    logits, targets, options = case
    # With p next to a soft target and gamma < 1 the slope itself is as steep as |t - p|^(gamma-1).
    assert_matches(
        sigmoid_focal_loss, reference.sigmoid_focal_loss, logits, targets, atol=1e-9, **options
    )


@pytest.mark.parametrize("shape", [(6, 4), (6, 20), (3, 4, 2, 2)])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}], ids=["", "smoothed"])
@pytest.mark.parametrize("kind", ["index", "probability"])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_gamma_0_is_cross_entropy(shape, options, kind, reduction):
    torch.manual_seed(0)
    logits = 5 * torch.randn(shape)
    targets = torch.randint(shape[1], (shape[0], *shape[2:]))
    targets.view(-1)[0] = -100
    if kind == "probability":
        targets = torch.randn(shape).softmax(1)

    def ours(z, t, **o):
        return softmax_focal_loss(z, t, gamma=0, **o)

    assert_matches(
        ours,
        F.cross_entropy,
        logits,
        targets,
        rtol=2e-6,
        atol=1e-6,
        reduction=reduction,
        **options,
    )


@pytest.mark.parametrize("shape", [(7,), (6, 4), (3, 20_000)])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_gamma_0_is_binary_cross_entropy(shape, reduction):
    torch.manual_seed(0)
    logits, targets = 5 * torch.randn(shape), torch.rand(shape)
    ours = sigmoid_focal_loss(logits, targets, alpha=None, gamma=0, reduction=reduction)
    theirs = F.binary_cross_entropy_with_logits(logits, targets, reduction=reduction)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert_matches(
        lambda z, t: sigmoid_focal_loss(z, t, alpha=None, gamma=0, reduction=reduction),
        lambda z, t: F.binary_cross_entropy_with_logits(z, t, reduction=reduction),
        logits,
        targets,
        rtol=1e-6,
    )


def test_mean_divides_by_the_count_not_by_class_weights():
    logits, targets = torch.randn(5, 3), torch.tensor([0, 1, 2, 2, -100])
    alpha = torch.tensor([1.0, 5.0, 9.0])
    got = softmax_focal_loss(logits, targets, alpha=alpha, gamma=0)
    wanted = F.cross_entropy(logits, targets, weight=alpha, reduction="sum") / 4
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("gamma", GAMMAS)
def test_one_hot_probabilities_cost_what_indices_cost(gamma, label_smoothing):
    """Holds together the two routes: the autograd function and the differentiable composition."""
    logits = 4 * torch.randn(30, 6, dtype=torch.float64)
    index = torch.randint(6, (30,))
    options = {"gamma": gamma, "label_smoothing": label_smoothing, "reduction": "none"}
    by_index = value_and_grad(softmax_focal_loss, logits, index, **options)
    one_hot = F.one_hot(index, 6).double()
    by_share = value_and_grad(softmax_focal_loss, logits, one_hot, **options)
    for got, wanted in zip(by_index, by_share, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float64, *HALF])
def test_probabilities_of_any_dtype_leave_the_loss_in_float32(dtype):
    logits, targets = torch.randn(8, 5), torch.randn(8, 5).softmax(1).to(dtype)
    loss = softmax_focal_loss(logits, targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, softmax_focal_loss(logits, targets.float()))


def test_mixed_labels_cost_the_mix_of_the_losses():
    logits = torch.randn(8, 5, dtype=torch.float64)
    a, b = torch.randint(5, (2, 8))
    options = {"gamma": 1.5, "alpha": torch.rand(5), "reduction": "none"}
    mixed = 0.3 * F.one_hot(a, 5).double() + 0.7 * F.one_hot(b, 5).double()
    wanted = 0.3 * softmax_focal_loss(logits, a, **options)
    wanted = wanted + 0.7 * softmax_focal_loss(logits, b, **options)
    torch.testing.assert_close(softmax_focal_loss(logits, mixed, **options), wanted)


# Saturated logits, every gamma, every floating dtype: finite, and right where float64 is.
EXTREMES = torch.tensor([-1e4, -200.0, -40.0, -17.0, 0.0, 17.0, 40.0, 200.0, 1e4])


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_softmax_extreme_logits(gamma, dtype, label_smoothing):
    logits = torch.cat([F.pad(EXTREMES[:, None], (0, 2)), F.pad(EXTREMES[:, None], (2, 0))])
    logits = logits.to(dtype)
    targets = torch.arange(len(logits)) % 2 * 2
    rtol, atol = (1e-9, 1e-12) if dtype == torch.float64 else (1e-5, 1e-6)
    options = {"gamma": gamma, "label_smoothing": label_smoothing, "reduction": "none"}
    ours = value_and_grad(softmax_focal_loss, logits, targets, **options)
    wanted = value_and_grad(reference.softmax_focal_loss, logits.double(), targets, **options)
    assert ours[0].isfinite().all()
    assert ours[1].isfinite().all()
    torch.testing.assert_close(ours[0], wanted[0].to(ours[0].dtype), rtol=rtol, atol=atol)
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(ours[1].double(), wanted[1], rtol=max(rtol, step), atol=atol)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF])
@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
def test_sigmoid_extreme_logits(gamma, dtype, target):
    logits = EXTREMES.to(dtype)
    targets = torch.full_like(logits, target)
    rtol, atol = (1e-9, 1e-12) if dtype == torch.float64 else (1e-5, 2e-6)
    options = {"gamma": gamma, "reduction": "none"}
    ours = value_and_grad(sigmoid_focal_loss, logits, targets, **options)
    wanted = value_and_grad(reference.sigmoid_focal_loss, logits.double(), targets, **options)
    assert ours[1].isfinite().all()
    torch.testing.assert_close(ours[0], wanted[0].to(ours[0].dtype), rtol=rtol, atol=atol)
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(ours[1].double(), wanted[1], rtol=max(rtol, step), atol=atol)


@pytest.mark.parametrize("gamma", [0.5, 2.0, 3.0])
def test_easy_negatives_keep_their_digits(gamma):
    logits, targets = torch.tensor([-3.0, -8.0, -15.0, -20.0]), torch.zeros(4)
    options = {"gamma": gamma, "reduction": "none"}
    assert_matches(
        sigmoid_focal_loss,
        lambda z, t, **o: reference.sigmoid_focal_loss(z.double(), t, **o),
        logits,
        targets,
        rtol=5e-6,
        atol=0,
        **options,
    )


def test_soft_target_met_exactly_has_finite_gradient():
    value, grad = value_and_grad(
        sigmoid_focal_loss, torch.zeros(3), torch.full((3,), 0.5), gamma=0.5
    )
    assert value == 0
    assert (grad == 0).all()


@each_loss
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("autocast", [False, True])
def test_half_logits_give_float32_loss_and_half_gradient(
    make, target_of, dtype, reduction, autocast
):
    logits = torch.randn(64, 4).to(dtype).requires_grad_()
    wanted = make(reduction=reduction)(logits.detach().float(), target_of(logits))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = make(reduction=reduction)(logits, target_of(logits))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, wanted, rtol=1e-6, atol=1e-7)
    loss.sum().backward()
    assert logits.grad.dtype == dtype


@each_loss
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("logits", [torch.randn(3, 4), torch.randn(0, 4)], ids=["ignored", "empty"])
def test_nothing_valid_is_an_attached_zero(make, target_of, reduction, logits):
    logits = logits.clone().requires_grad_()
    targets = torch.full_like(target_of(logits), -7)
    loss = make(reduction=reduction, ignore_index=-7)(logits, targets)
    assert (loss == 0).all()
    loss.sum().backward()
    assert logits.grad.shape == logits.shape
    assert (logits.grad == 0).all()


@each_loss
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_bad_logits_at_ignored_rows_do_nothing_and_nan_elsewhere_shows(make, target_of, bad):
    logits = torch.randn(6, 4)
    targets = target_of(logits)
    targets[2] = -7
    loss_fn = make(ignore_index=-7)
    wanted = value_and_grad(loss_fn, logits, targets)
    logits[2] = bad
    for got, want in zip(value_and_grad(loss_fn, logits, targets), wanted, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=0)
    logits[3, 1] = float("nan")
    value, grad = value_and_grad(loss_fn, logits, targets)
    assert value.isnan()
    assert grad[3].isnan().any()
    assert (grad[2] == 0).all()


@each_loss
@pytest.mark.parametrize("reduction", ["mean", "mean_positive"])
def test_integer_weights_are_repeated_rows(make, target_of, reduction):
    logits = torch.randn(9, 4, dtype=torch.float64)
    targets, times = target_of(logits), torch.randint(0, 4, (9,))
    got = make(reduction=reduction)(logits, targets, sample_weight=times)
    wanted = make(reduction=reduction)(
        logits.repeat_interleave(times, 0), targets.repeat_interleave(times, 0)
    )
    torch.testing.assert_close(got, wanted)
    tripled = make(reduction=reduction)(logits, targets, sample_weight=0.3 * times)
    torch.testing.assert_close(tripled, got)
