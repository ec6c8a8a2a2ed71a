"""What every public loss keeps to, whatever it computes: one suite over all of `cases.CASES`."""

import copy
import io
import pickle

import pytest
import torch

from cases import IGNORED, assert_same, every, state, step

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@every()
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_floating_dtype_is_computed_in_float32_or_better(case, dtype):
    loss, exact = case.midway(), case.midway().double()
    logits, targets = case.batch(dtype=dtype)
    value, grad = step(loss, logits, targets)
    expected, expected_grad = step(exact, logits.double(), targets)
    assert value.dtype == torch.promote_types(dtype, torch.float32)
    assert grad.dtype == dtype
    rtol = 1e-5 if dtype != torch.float64 else 1e-12
    torch.testing.assert_close(value.double(), expected, rtol=rtol, atol=rtol)
    size = expected_grad.abs().max().item()
    rtol = max(2 * torch.finfo(dtype).eps, rtol)
    torch.testing.assert_close(grad.double(), expected_grad, rtol=rtol, atol=rtol * size)


@every()
@pytest.mark.parametrize("backward_inside", [True, False])
def test_autocast_changes_nothing(case, backward_inside):
    logits, targets = case.batch()
    logits.requires_grad_()
    expected = step(case.midway(), logits, targets)
    loss = case.midway()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(logits, targets)
        if backward_inside:
            value.backward()
    if not backward_inside:
        value.backward()
    assert_same((value.detach(), logits.grad), expected)


def through_a_checkpoint(loss, case):
    file = io.BytesIO()
    torch.save(loss.state_dict(), file)
    file.seek(0)
    fresh = case.build(temperature=0.7) if "temperature" in case.settings else case.build()
    fresh.load_state_dict(torch.load(file, weights_only=True), strict=True)
    return fresh


COPIES = {
    "pickle": lambda loss, case: pickle.loads(pickle.dumps(loss)),
    "deepcopy": lambda loss, case: copy.deepcopy(loss),
    "state_dict": through_a_checkpoint,
}


@every()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("way", COPIES)
def test_a_copy_goes_on_alone_and_bit_for_bit(case, dtype, way):
    loss = case.build()
    for seed in (100, 101):
        loss(*case.batch(seed, rows=14, dtype=dtype))
    twin = COPIES[way](loss, case)
    assert repr(twin) == repr(loss)
    batches = [case.batch(seed, dtype=dtype) for seed in range(4)]
    expected = [step(loss, *batch) for batch in batches]
    assert_same([step(twin, *batch) for batch in batches], expected)
    assert_same(state(twin), state(loss))


@every()
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_dtype_of_the_module_is_no_matter(case, dtype):
    """A model's `.half()` reaches the losses it holds, between any two batches."""
    expected, loss = case.midway(), case.midway().to(dtype)
    for seed in range(2):
        assert_same(step(loss, *case.batch(seed)), step(expected, *case.batch(seed)))


@every()
def test_modes_only_decide_what_is_remembered(case):
    expected = step(case.midway(), *case.batch())
    loss = case.midway().eval()
    before = state(loss)
    with torch.inference_mode():
        assert_same(loss(*case.batch()), expected[0])
    with torch.no_grad():
        assert_same(loss(*case.batch()), expected[0])
    assert_same(step(loss, *case.batch()), expected)
    assert_same(state(loss), before)
    assert_same(step(loss.train(), *case.batch()), expected)


@every()
def test_the_order_and_layout_of_rows_is_no_matter(case):
    logits, targets = case.batch()
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(1))
    value, grad = step(case.midway(), logits, targets)
    permuted, permuted_grad = step(case.midway(), logits[order], targets[order])
    torch.testing.assert_close(permuted, value)
    torch.testing.assert_close(permuted_grad, grad[order], rtol=1e-4, atol=1e-6)
    strided = [torch.stack((given, given), -1)[..., 0] for given in (logits, targets)]
    assert_same(step(case.midway(), *strided), (value, grad))


@every()
def test_inputs_are_only_read(case):
    logits, targets = case.batch()
    weight = torch.rand(len(logits))
    given = [logits.clone(), targets.clone(), weight.clone()]
    loss, leaf = case.midway(), logits.requires_grad_()
    loss(leaf, targets, sample_weight=weight).backward()
    assert_same([logits.detach(), targets, weight], given)


@every()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_backward_may_come_after_later_batches(case, dtype):
    """As with gradient accumulation over several micro-batches."""
    loss, twin = case.midway(), case.midway()
    batches = [case.batch(seed, dtype=dtype) for seed in range(3)]
    expected = [step(twin, *batch) for batch in batches]
    leaves = [logits.requires_grad_() for logits, _ in batches]
    values = [loss(*batch) for batch in batches]
    if hasattr(loss, "temperature"):
        loss.temperature = 3.0
        loss.reset_queue()
    torch.stack(values).sum().backward()
    found = [(v.detach(), leaf.grad) for v, leaf in zip(values, leaves, strict=True)]
    assert_same(found, expected)


@every(mixes=False)
def test_sum_and_mean_are_those_of_none(case):
    logits, targets = case.batch()
    if case.ignores:
        targets[1] = IGNORED
    none, total, mean = (case.midway(reduction=r)(logits, targets) for r in ("none", "sum", "mean"))
    if case.ranks:
        assert none.shape == (case.classes,)
        counted = ~none.isnan()
    else:
        counted = torch.ones(none.shape, dtype=bool) if not case.ignores else targets != IGNORED
    assert (none[~counted].nan_to_num() == 0).all()
    torch.testing.assert_close(total, none[counted].sum())
    torch.testing.assert_close(mean, none[counted].sum() / counted.sum())


NOTHING = {
    "empty": lambda logits, targets: (logits[:0], targets[:0]),
    "all ignored": lambda logits, targets: (logits, torch.full_like(targets, IGNORED)),
    "all ignored and NaN": lambda logits, targets: (
        logits.fill_(torch.nan),
        torch.full_like(targets, IGNORED),
    ),
    "one ignored row": lambda logits, targets: (
        logits[:1],
        torch.full_like(targets[:1], IGNORED),
    ),
}


@every(ignores=True)
@pytest.mark.parametrize("batch", NOTHING)
def test_nothing_valid_is_a_zero_on_the_graph_and_leaves_no_trace(case, batch):
    loss = case.build()
    before = state(loss)
    logits, targets = NOTHING[batch](*case.batch())
    value, grad = step(loss, logits, targets)
    assert value == 0
    assert grad.shape == logits.shape
    assert (grad == 0).all()
    assert_same(state(loss), before)
    assert step(case.midway(), logits, targets)[0].isfinite()


DEGENERATE = {
    "no positive": lambda t: torch.zeros_like(t),
    "no negative": lambda t: torch.ones_like(t),
    "one positive": lambda t: torch.zeros_like(t).index_fill(0, torch.tensor([3]), 1),
    "one negative": lambda t: torch.ones_like(t).index_fill(0, torch.tensor([3]), 0),
    "one valid row": lambda t: t.index_fill(0, torch.arange(1, len(t)), IGNORED),
}
SCALES = {"ordinary": 1.0, "all tied": 0.0, "huge": 1e4}


@every(ignores=True)
@pytest.mark.parametrize("targets_of", DEGENERATE)
@pytest.mark.parametrize("scale", SCALES)
def test_degenerate_batches_are_finite(case, targets_of, scale):
    logits, targets = case.batch()
    logits = (logits.sign() if scale == "huge" else logits) * SCALES[scale]
    for loss in (case.build(), case.midway()):
        for dtype in DTYPES:
            value, grad = step(loss, logits.to(dtype), DEGENERATE[targets_of](targets))
            assert value.isfinite()
            assert grad.isfinite().all()


@every(ignores=True)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_an_ignored_row_may_hold_anything(case, bad):
    logits, targets = case.batch()
    targets[[0, 5]] = IGNORED
    expected = case.midway()
    wanted = [step(expected, logits, targets), step(expected, *case.batch(1))]
    logits[[0, 5]] = bad
    loss = case.midway()
    first = step(loss, logits, targets)
    assert_same([first, step(loss, *case.batch(1))], wanted)
    assert (first[1][[0, 5]] == 0).all()
    assert_same(state(loss), state(expected))


@every()
@pytest.mark.parametrize("bad_rows", [[1], list(range(16))], ids=["one row", "all rows"])
def test_a_valid_nan_shows_in_loss_and_gradient_and_is_not_remembered(case, bad_rows):
    logits, targets = case.batch()
    logits[bad_rows] = torch.nan
    for loss in (case.build(), case.midway()):
        value, grad = step(loss, logits, targets)
        assert value.isnan()
        assert grad[bad_rows].isnan().any()
    value, grad = step(loss, *case.batch(1))
    assert value.isfinite()
    assert grad.isfinite().all()


@every()
def test_a_weighted_mean_knows_only_relative_weights(case):
    logits, targets = case.batch()
    weight = torch.rand(len(logits), generator=torch.Generator().manual_seed(2)) + 0.1

    def with_weight(sample_weight):
        return step(case.build(), logits, targets, sample_weight=sample_weight)

    base, plain = with_weight(weight), step(case.build(), logits, targets)
    torch.testing.assert_close(with_weight(2 * weight), base, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(with_weight(weight.double()), base, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(with_weight(torch.full((16,), 3)), plain, rtol=1e-5, atol=1e-6)
    assert not torch.isclose(base[0], plain[0])


@every()
def test_without_any_weight_there_is_nothing_to_learn(case):
    logits, targets = case.batch()
    value, grad = step(case.build(), logits, targets, sample_weight=torch.zeros(len(logits)))
    assert value == 0
    assert (grad == 0).all()


@every(form="binary")
def test_a_binary_column_may_be_flat(case):
    logits, targets = case.batch()
    value, grad = step(case.midway(), logits, targets)
    for flat_logits in (False, True):
        for flat_targets in (False, True):
            for dtype in (torch.bool, torch.uint8, torch.int64, torch.float32):
                found = step(
                    case.midway(),
                    logits[:, 0] if flat_logits else logits,
                    (targets if flat_targets else targets[:, None]).to(dtype),
                )
                assert_same(found, (value, grad[:, 0] if flat_logits else grad))
