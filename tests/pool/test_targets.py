"""Every accepted form of targets to one binary problem per class, and the log-odds."""

import pytest
import torch

import reference
from cases import assert_same
from imbalanced_losses import SmoothAPLoss, SoftmaxFocalLoss
from imbalanced_losses._pool.rows import one_vs_rest
from imbalanced_losses.metrics import average_precision

INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def labels(targets, classes, ignore_index=-100, **options):
    """`[N, C]` of 1, 0 and -1 for ignored."""
    logits = torch.zeros(len(targets), classes)
    settings = {"num_classes": classes, "ignore_index": ignore_index, "log_odds": False, **options}
    return one_vs_rest(logits, targets, **settings).label.T.tolist()


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("column", [False, True])
def test_class_indices(dtype, column):
    targets = torch.tensor([2, 0, 1, 7]).to(dtype)
    targets = targets[:, None] if column else targets
    assert labels(targets, 3, 7) == [[0, 0, 1], [1, 0, 0], [0, 1, 0], [-1, -1, -1]]


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS], ids=str)
@pytest.mark.parametrize("column", [False, True])
def test_binary(dtype, column):
    targets = torch.tensor([1, 0, 9]).to(dtype)
    targets = targets[:, None] if column else targets
    assert labels(targets, 1, 9) == [[1], [0], [-1]]
    assert labels(targets == 1, 1, 9) == [[1], [0], [0]]


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS], ids=str)
def test_multi_hot_with_ignored_cells(dtype):
    targets = torch.tensor([[1, 0, 9], [0, 0, 0], [9, 9, 9], [1, 1, 1]]).to(dtype)
    wanted = [[1, 0, -1], [0, 0, 0], [-1, -1, -1], [1, 1, 1]]
    assert labels(targets, 3, 9) == wanted
    assert labels(targets == 1, 3, 9) == [[max(x, 0) for x in row] for row in wanted]


@pytest.mark.parametrize(
    "call",
    [
        SoftmaxFocalLoss(),
        SmoothAPLoss(num_classes=3),
        average_precision,
    ],
    ids=["focal", "ranking", "metric"],
)
def test_a_layout_of_other_libraries_is_refused_with_the_line_that_mends_it(call):
    tokens, labels = torch.zeros(4, 7, 3), torch.zeros(4, 7, dtype=torch.long)
    with pytest.raises(ValueError, match=r"Classes belong in dimension 1: \w+.movedim\(-1, 1\)"):
        call(tokens, labels)
    call(tokens.movedim(-1, 1), labels)
    maps = torch.zeros(4, 3, 8, 9)
    labels = torch.zeros(4, 1, 8, 9, dtype=torch.long)
    with pytest.raises(ValueError, match=r"Drop dimension 1: targets.squeeze\(1\)"):
        call(maps, labels)
    call(maps, labels.squeeze(1))


def test_maps_of_one_class_keep_its_dimension():
    loss_fn, logits, targets = (
        SmoothAPLoss(num_classes=1),
        torch.zeros(4, 8, 9),
        torch.zeros(4, 8, 9),
    )
    with pytest.raises(ValueError, match=r"logits.unsqueeze\(1\)"):
        loss_fn(logits, targets)
    loss_fn(logits.unsqueeze(1), targets)


@pytest.mark.parametrize(
    ("targets", "classes", "ignore_index", "wanted"),
    [
        pytest.param([0, 1, 2], 3, 1, [[1, 0, 0], [-1, -1, -1], [0, 0, 1]], id="a class"),
        pytest.param([0, 1, -1], 1, -1, [[0], [1], [-1]], id="minus one"),
        pytest.param([0, 1, 1], 1, 0, [[-1], [1], [1]], id="the negatives"),
        pytest.param([], 3, -100, [], id="no rows"),
        pytest.param([[0, 1], [1, 0]], 2, -100, [[0, 1], [1, 0]], id="N = C is multi-hot"),
        pytest.param([[1], [0]], 2, -100, [[0, 1], [1, 0]], id="a column is indices"),
    ],
)
def test_which_targets_are_meant(targets, classes, ignore_index, wanted):
    assert labels(torch.tensor(targets).long(), classes, ignore_index) == wanted


def test_narrow_dtypes_do_not_wrap_around():
    """-100 is 156 in eight bits, 255 is -1, and 300 classes are 44."""
    rows = labels(torch.tensor([156, 3]).to(torch.uint8), 300)
    assert [row.index(1) for row in rows] == [156, 3]
    for bad, classes, ignore_index in ((-1, 3, 255), (-1, 1, 255)):
        with pytest.raises(ValueError, match=r"targets .*got -1"):
            labels(torch.tensor([bad, 1]).to(torch.int8), classes, ignore_index)
    with pytest.raises(ValueError, match=r"targets .*got 156"):
        labels(torch.tensor([[156, 1, 1]] * 2).to(torch.uint8), 3)


BAD = [
    (torch.tensor([0, 3, 1]), 3, {}, ValueError, r"class indices in \[0, 3\).*got 3"),
    (torch.tensor([0, -100, 1]), 3, {"ignore_index": -1}, ValueError, "ignore_index=-1; got -100"),
    (torch.tensor([0.0, 0.5, 1.0]), 1, {}, ValueError, "must be 0, 1.*got 0.5"),
    (torch.tensor([[0, 2], [1, 0]]), 2, {}, ValueError, "must be 0, 1.*got 2"),
    (torch.tensor([[0, 1, 0], [1, 0, 0]]), 2, {}, ValueError, r"multi-hot \[N, 2\].*N = 2"),
    (torch.tensor([0.0, 1.0]), 2, {}, TypeError, r"float32.*Use targets\.long\(\)"),
    (torch.tensor([False, True]), 2, {}, TypeError, "bool"),
    (torch.tensor([0j, 1j]), 2, {}, TypeError, "complex"),
    (torch.eye(2), 2, {"log_odds": True}, ValueError, 'multi-hot.*scores="logits"'),
]


@pytest.mark.parametrize(("targets", "classes", "options", "error", "words"), BAD)
def test_other_targets_are_refused(targets, classes, options, error, words):
    with pytest.raises(error, match=f"targets.*{words}|{words}.*targets"):
        labels(targets, classes, **options)


def test_mask_and_weight_default_to_everyone():
    rows = one_vs_rest(
        torch.zeros(3, 1).double(),
        torch.tensor([0, 1, 0]),
        num_classes=1,
        ignore_index=-100,
        log_odds=False,
    )
    assert rows.weight.tolist() == [1.0, 1.0, 1.0]
    assert rows.weight.dtype == torch.float64
    assert rows.iid.all()


@pytest.mark.parametrize("dtype", [torch.int64, *FLOATS], ids=str)
def test_weights_of_any_real_dtype_are_constants(dtype):
    weight = torch.tensor([2.0, 0.0, 1.0]).to(dtype)
    if dtype.is_floating_point:
        weight.requires_grad_()
    loss = SmoothAPLoss(1, temperature=0.5)
    logits, targets = torch.tensor([0.3, 0.1, -0.2]), torch.tensor([1, 0, 1])
    value = loss(logits.requires_grad_(), targets, sample_weight=weight)
    value.backward()
    assert weight.grad is None
    assert value.dtype == torch.float32
    fresh = SmoothAPLoss(1, temperature=0.5)
    assert_same(value, fresh(logits, targets, sample_weight=torch.tensor([2.0, 0.0, 1.0])))


LOGITS = {
    "ordinary": [0.3, -1.0, 2.0],
    "tied": [1.0, 1.0, 1.0],
    "tied at the top": [5.0, 5.0, -3.0],
    "saturated": [30.0, 0.0, -1.0],
    "almost certain": [12.0, -8.0, -9.0],
    "huge": [1e4, 0.0, -1e4],
    "huge and tied": [1e4, 1e4, -1e4],
}


@pytest.mark.parametrize("logits", LOGITS.values(), ids=LOGITS)
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [1, 2, 0]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_log_odds_keep_their_digits(logits, order, dtype):
    z = torch.tensor([logits], dtype=torch.float64)[:, order].to(dtype).requires_grad_()
    exact = z.detach().double().requires_grad_()
    expected = reference.log_odds(exact - exact.detach().max())
    options = {"num_classes": 3, "ignore_index": -100, "log_odds": True}
    scores = one_vs_rest(z, torch.zeros(1).long(), **options).scores.T
    rtol = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(scores.double(), expected, rtol=rtol, atol=rtol)
    for column in range(3):
        (grad,) = torch.autograd.grad(scores[0, column], z, retain_graph=True)
        (wanted,) = torch.autograd.grad(expected[0, column], exact, retain_graph=True)
        torch.testing.assert_close(grad.double(), wanted, rtol=2 * rtol, atol=rtol)
