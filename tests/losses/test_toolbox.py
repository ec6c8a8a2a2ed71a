"""Logit adjustment, LDAM and the asymmetric loss against their formulas, and at their edges."""

import functools

import pytest
import torch
from torch.nn import functional as F

import reference_toolbox as reference
from imbalanced_losses import (
    AsymmetricLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    LossWarmupWrapper,
    class_weights,
)
from imbalanced_losses.functional import asymmetric_loss, ldam_loss, logit_adjusted_loss
from reference_focal import value_and_grad

COUNTS = [70, 20, 3, 1]
ADJUSTED = (
    logit_adjusted_loss,
    functools.partial(reference.of_classes, reference.logit_adjusted_cell),
)
LDAM = (ldam_loss, functools.partial(reference.of_classes, reference.ldam_cell))
ASYMMETRIC = (asymmetric_loss, functools.partial(reference.of_labels, reference.asymmetric_cell))
CASES = {
    "adjusted": (*ADJUSTED, {"class_counts": COUNTS}),
    "adjusted, smoothed": (
        *ADJUSTED,
        {"class_counts": COUNTS, "tau": 0.7, "label_smoothing": 0.2},
    ),
    "ldam": (*LDAM, {"class_counts": COUNTS}),
    "ldam, weighted": (
        *LDAM,
        {"class_counts": COUNTS, "max_margin": 2.0, "scale": 1.5, "weight": [1.0, 0.5, 3.0, 0.0]},
    ),
    "asymmetric": (*ASYMMETRIC, {}),
    "asymmetric, powers below 1": (*ASYMMETRIC, {"gamma_neg": 0.5, "gamma_pos": 0.3, "clip": 0.3}),
    "asymmetric, no clip": (*ASYMMETRIC, {"gamma_neg": 0.5, "gamma_pos": 0.0, "clip": 0.0}),
    "asymmetric, clip alone": (*ASYMMETRIC, {"gamma_neg": 0.0, "gamma_pos": 0.0, "clip": 0.2}),
}
each_case = pytest.mark.parametrize(("ours", "oracle", "settings"), CASES.values(), ids=CASES)


def batch(ours, shape, soft, seed=0):
    """Logits of size 3, and targets of which two are ignored unless they are probabilities."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
    some = torch.rand(shape, generator=generator, dtype=torch.float64)
    if ours is asymmetric_loss:
        targets = some if soft else some.round()
    elif soft:
        return logits, (4 * some).softmax(1)
    else:
        targets = some.argmax(1)
    targets.view(-1)[[1, 4]] = -100
    return logits, targets


def as_oracle(settings):
    return {("counts" if k == "class_counts" else k): v for k, v in settings.items()}


def options_of(ours, settings):
    return {**settings, "ignore_index": -100} if ours is asymmetric_loss else settings


@each_case
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("shape", [(6, 4), (2, 4, 2, 2)], ids=str)
def test_value_and_gradient_are_those_of_the_formula(ours, oracle, settings, soft, shape):
    logits, targets = batch(ours, shape, soft)
    positions = shape if ours is asymmetric_loss else (shape[0], *shape[2:])
    per_row = torch.rand(shape[0], *[1] * (len(positions) - 1), dtype=torch.float64)
    for reduction in ("none", "mean", "sum", "mean_positive"):
        for weight in (None, per_row.flatten(), per_row, per_row.expand(positions).clone()):
            options = {"reduction": reduction, "sample_weight": weight}
            found = value_and_grad(ours, logits, targets, **options, **options_of(ours, settings))
            if weight is not None:
                options["sample_weight"] = per_row.expand(positions)
            wanted = value_and_grad(oracle, logits, targets, **options, **as_oracle(settings))
            torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


@each_case
@pytest.mark.parametrize("soft", [False, True])
def test_second_derivatives_are_those_of_finite_differences(ours, oracle, settings, soft):
    logits, targets = batch(ours, (5, 4), soft)
    logits.div_(3).requires_grad_()

    def loss(z):
        return ours(z, targets, reduction="none", **options_of(ours, settings))

    assert torch.autograd.gradcheck(loss, logits)
    assert torch.autograd.gradgradcheck(loss, logits)


@each_case
def test_transforms_give_what_autograd_gives(ours, oracle, settings):
    logits, targets = batch(ours, (6, 4), False)
    options = {"reduction": "sum", **options_of(ours, settings)}
    wanted = value_and_grad(ours, logits, targets, **options)[1] / 0.5

    def row_loss(z, t):
        return ours(z.unsqueeze(0), t.unsqueeze(0), **options)

    per_row = torch.func.vmap(torch.func.grad(row_loss))(logits, targets)
    torch.testing.assert_close(per_row, wanted)
    jacobian = torch.func.jacrev(lambda z: ours(z, targets, **options))(logits)
    torch.testing.assert_close(jacobian, wanted)


EXTREMES = torch.tensor([-1e4, -200.0, -40.0, -17.0, -3.0, 0.0, 3.0, 17.0, 40.0, 200.0, 1e4])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_extreme_logits_are_right_in_every_dtype(dtype):
    rtol, atol = (1e-9, 1e-12) if dtype == torch.float64 else (2e-5, 3e-6)
    eps = max(rtol, torch.finfo(dtype).eps)
    for name, (ours, oracle, settings) in CASES.items():
        logits = EXTREMES.to(dtype)
        if ours is not asymmetric_loss:
            logits = torch.cat([F.pad(logits[:, None], (0, 3)), F.pad(logits[:, None], (3, 0))])
        for hot in (0, 1):
            if ours is asymmetric_loss:
                targets = torch.full_like(logits, hot)
            else:
                targets = torch.full((len(logits),), 3 * hot)
            forms = [targets]
            if ours is not asymmetric_loss and "smoothed" not in name:
                forms.append(F.one_hot(targets, 4).to(dtype))
            for form in forms:
                value, grad = value_and_grad(ours, logits, form, reduction="none", **settings)
                wanted = value_and_grad(
                    oracle, logits.double(), form, reduction="none", **as_oracle(settings)
                )
                assert value.dtype == torch.promote_types(dtype, torch.float32)
                assert grad.dtype == dtype
                torch.testing.assert_close(value.double(), wanted[0], rtol=rtol, atol=atol)
                size = max(1.0, settings.get("scale", 30.0)) if ours is ldam_loss else 1.0
                torch.testing.assert_close(
                    grad.double(),
                    wanted[1],
                    rtol=eps,
                    atol=size * atol,
                )


def test_without_shift_margin_or_focus_they_are_torchs_own_losses():
    generator = torch.Generator().manual_seed(0)
    logits, some = 5 * torch.randn(2, 30, 4, 2, generator=generator)
    index, shares = some.argmax(1), some.softmax(1)
    for targets in (index, shares):
        for smoothing in (0.0, 0.1):
            plain = F.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
            found = logit_adjusted_loss(
                logits, targets, COUNTS, 0.0, label_smoothing=smoothing, reduction="none"
            )
            torch.testing.assert_close(found, plain, rtol=0, atol=0)
        plain = F.cross_entropy(logits, targets)
        for found in (
            logit_adjusted_loss(logits, targets, COUNTS, 0.0),
            logit_adjusted_loss(logits, targets, [3, 3, 3, 3]),
            ldam_loss(logits, targets, COUNTS, max_margin=0.0, scale=1.0),
        ):
            torch.testing.assert_close(found, plain, rtol=2e-6, atol=1e-6)
    cells = some.sigmoid()
    found = asymmetric_loss(logits, cells, gamma_neg=0, gamma_pos=0, clip=0, reduction="none")
    plain = F.binary_cross_entropy_with_logits(logits, cells, reduction="none")
    torch.testing.assert_close(found, plain, rtol=0, atol=0)


def test_the_routes_of_indices_and_of_probabilities_agree():
    """For LDAM the first lowers one logit, the second writes all classes' losses at once."""
    logits, index = batch(ldam_loss, (40, 4), False)
    index = index.clamp(min=0)
    by_index = value_and_grad(ldam_loss, logits, index, class_counts=COUNTS, weight=[1, 2, 3, 4])
    by_share = value_and_grad(
        ldam_loss, logits, F.one_hot(index, 4).double(), class_counts=COUNTS, weight=[1, 2, 3, 4]
    )
    torch.testing.assert_close(by_share, by_index, rtol=1e-8, atol=1e-12)
    alone, one = logits[:, :1], torch.ones(40, 1, dtype=torch.float64)
    value, grad = value_and_grad(ldam_loss, alone, one, class_counts=[5])
    assert value == 0
    assert (grad == 0).all()


def test_negatives_up_to_the_clip_cost_nothing_at_all():
    logits = torch.tensor([0.19, 0.2, 0.21]).logit()
    loss = functools.partial(asymmetric_loss, clip=0.2, gamma_neg=0.5, reduction="none")
    value, grad = value_and_grad(loss, logits, torch.zeros(3))
    assert value[0] == grad[0] == 0
    assert value[2] > 0
    assert grad[2] > 0


def test_counts_may_come_in_any_form_and_any_unit():
    np = pytest.importorskip("numpy")
    logits, index = batch(ldam_loss, (8, 4), False)
    masses = [c / sum(COUNTS) for c in COUNTS]
    forms = [
        *(np.array(COUNTS), torch.tensor(COUNTS), tuple(COUNTS), np.array(masses)),
        torch.tensor(masses, dtype=torch.float64),
    ]
    for make in (LogitAdjustedLoss, LDAMLoss):
        wanted = make(COUNTS)(logits, index)
        for form in forms:
            loss_fn = make(form)
            torch.testing.assert_close(loss_fn(logits, index), wanted)
            assert not [*loss_fn.buffers(), *loss_fn.state_dict()]


BAD = [
    (
        LogitAdjustedLoss,
        {"class_counts": [5, 0, 2]},
        ValueError,
        "class 1 has 0.*add 1",
    ),
    (LogitAdjustedLoss, {"class_counts": [5, -1]}, ValueError, "class_counts .*at least 0"),
    (LogitAdjustedLoss, {"class_counts": [[5, 1]]}, ValueError, "class_counts .*one dimension"),
    (LogitAdjustedLoss, {"class_counts": None}, TypeError, "class_counts .*one count per class"),
    (LogitAdjustedLoss, {"class_counts": COUNTS, "tau": -1}, ValueError, "tau must be at least 0"),
    (LogitAdjustedLoss, {"class_counts": COUNTS, "label_smoothing": 2}, ValueError, "label_smooth"),
    (LogitAdjustedLoss, {"class_counts": COUNTS, "reduction": "avg"}, ValueError, "reduction"),
    (LogitAdjustedLoss, {"class_counts": COUNTS, "ignore_index": None}, TypeError, "ignore_index"),
    (LDAMLoss, {"class_counts": [5, 0, 2]}, ValueError, "class_counts .*class 1 has 0"),
    (LDAMLoss, {"class_counts": COUNTS, "max_margin": -1}, ValueError, "max_margin"),
    (LDAMLoss, {"class_counts": COUNTS, "scale": 0}, ValueError, "scale must be above 0"),
    (LDAMLoss, {"class_counts": COUNTS, "weight": [1.0]}, ValueError, "weight .*has 1, .*has 4"),
    (LDAMLoss, {"class_counts": COUNTS, "weight": "balanced"}, TypeError, "weight"),
    (AsymmetricLoss, {"gamma_neg": -1}, ValueError, "gamma_neg"),
    (AsymmetricLoss, {"gamma_pos": "1"}, TypeError, "gamma_pos"),
    (AsymmetricLoss, {"clip": 1.0}, ValueError, "clip must be at least 0 and below 1"),
    (AsymmetricLoss, {"ignore_index": 0.5}, TypeError, "ignore_index"),
]


@pytest.mark.parametrize(("make", "settings", "error", "words"), BAD)
def test_bad_settings_fail_at_construction(make, settings, error, words):
    with pytest.raises(error, match=f"(?s){words}"):
        make(**settings)


def test_a_wrong_number_of_counts_names_both_lengths():
    for loss in (logit_adjusted_loss, ldam_loss):
        with pytest.raises(ValueError, match=r"class_counts .*it has 4.*have 3"):
            loss(torch.zeros(5, 3), torch.zeros(5, dtype=torch.long), COUNTS)


def test_settings_can_be_read_and_assigned():
    loss_fn = LDAMLoss(COUNTS, weight=[1, 2, 3, 4])
    assert loss_fn.class_counts.tolist() == COUNTS
    loss_fn.scale = 2
    logits, index = batch(ldam_loss, (8, 4), False)
    wanted = ldam_loss(logits, index, COUNTS, scale=2, weight=[1, 2, 3, 4])
    torch.testing.assert_close(loss_fn(logits, index), wanted)
    with pytest.raises(ValueError, match="scale must be above 0"):
        loss_fn.scale = -1
    assert repr(loss_fn).startswith("LDAMLoss(class_counts=[70.0, 20.0, 3.0, 1.0], max_margin=0.5")


def test_counts_keep_their_digits_whatever_dtype_and_device_are_the_default():
    logits, index = batch(ldam_loss, (8, 4), False)
    for make in (LogitAdjustedLoss, LDAMLoss):
        counts = [257, 1_000_003, 33, 3]
        wanted = make(counts)(logits, index)
        with torch.device("meta"):
            built = make(counts)
        assert torch.equal(built.half()(logits, index), wanted)
        torch.set_default_dtype(torch.bfloat16)
        try:
            built = make(counts)
        finally:
            torch.set_default_dtype(torch.float32)
        assert torch.equal(built(logits, index), wanted)
        assert built(logits.to("meta"), index.clamp(min=0).to("meta")).is_meta


def test_two_ldam_losses_in_the_wrapper_are_deferred_reweighting():
    """Cao et al.: the margin loss alone, then with class weights from a given epoch on."""
    weight = class_weights(counts=COUNTS, method="effective_number", beta=0.9999, normalize="mean")
    plain, weighted = LDAMLoss(COUNTS), LDAMLoss(COUNTS, weight=weight)
    schedule = LossWarmupWrapper(LDAMLoss(COUNTS), weighted, warmup_epochs=2)
    logits, index = batch(ldam_loss, (8, 4), False)
    seen = []
    for epoch in range(4):
        schedule.on_train_epoch_start(epoch)
        schedule.on_train_batch_start(epoch)
        seen.append(schedule(logits, index))
    early, late = plain(logits, index), weighted(logits, index)
    assert not torch.isclose(early, late)
    torch.testing.assert_close(seen, [early, early, late, late])
