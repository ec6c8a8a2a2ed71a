"""Class weights, positive weights and prior-bias initialisation."""

import contextlib
import math
from collections import UserDict
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from imbalanced_losses.class_weights import class_weights, init_prior_bias, pos_weight

COUNTS = [53, 20, 7, 1]
TARGETS = torch.arange(4).repeat_interleave(torch.tensor(COUNTS))[
    torch.randperm(81, generator=torch.Generator().manual_seed(0))
]


def by_hand(method, counts, s, beta):
    """The four formulas, one class at a time, in Python floats."""
    counts = [n + s for n in counts]
    total = sum(counts)
    return {
        "inverse": [total / n for n in counts],
        "balanced": [total / (len(counts) * n) for n in counts],
        "sqrt_inverse": [math.sqrt(total / n) for n in counts],
        "effective_number": [(1 - beta) / (1 - beta**n) for n in counts],
    }[method]


@pytest.mark.parametrize("method", ["inverse", "balanced", "sqrt_inverse", "effective_number"])
@pytest.mark.parametrize("smoothing", [0.0, 0.5, 3])
@pytest.mark.parametrize(
    ("normalize", "divisor"),
    [("none", lambda w: 1), ("mean", lambda w: sum(w) / len(w)), ("sum", sum), ("max", max)],
)
def test_formulas(method, smoothing, normalize, divisor):
    weights = class_weights(
        TARGETS, method=method, smoothing=smoothing, beta=0.99, normalize=normalize
    )
    expected = by_hand(method, COUNTS, smoothing, 0.99)
    expected = [w / divisor(expected) for w in expected]
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights, torch.tensor(expected), rtol=2e-7, atol=0)


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


DEFAULTS = {
    "plain": contextlib.nullcontext,
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "meta device": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("defaults", DEFAULTS)
def test_no_default_dtype_or_device_changes_a_weight(defaults):
    # 257 is not a bfloat16.
    y = np.arange(4).repeat([257, 20, 7, 1])
    columns = np.stack([y == 0, y == 1], 1)
    share = torch.tensor([257 / 285, 28 / 285], dtype=torch.float64)
    balanced = torch.tensor(compute_class_weight("balanced", classes=np.arange(4), y=y)).float()
    effective = torch.tensor(by_hand("effective_number", [257.0, 1.5], 0.0, 0.99)).float()
    by_label = torch.tensor([28 / 257, 265 / 20])
    layer = nn.Linear(3, 2, dtype=torch.float64)
    with DEFAULTS[defaults]():
        got = {
            balanced: [class_weights(form, method="balanced") for form in (y, y.tolist(), list(y))]
            + [class_weights(counts=[257.0, 20.0, 7.0, 1.0], method="balanced")],
            effective: [
                class_weights(counts=[257.0, 1.5], method="effective_number", beta=np.float64(0.99))
            ],
            by_label: [pos_weight(columns), pos_weight(columns.astype(float).tolist())],
        }
        init_prior_bias(layer, counts=[257.0, 28.0])
    assert layer.bias.equal(share.log())
    for expected, weights in got.items():
        for weight in weights:
            assert weight.dtype == torch.float32
            torch.testing.assert_close(weight, expected, rtol=2e-7, atol=0)


def test_a_class_index_is_not_rounded_by_the_default_dtype():
    with default_dtype(torch.bfloat16):
        weights = class_weights([float(c) for c in range(258)])
    assert weights.equal(torch.full([258], 258.0))


def test_a_layer_without_values_is_left_alone_as_by_torchs_own_initialisers():
    with torch.device("meta"):
        assert init_prior_bias(nn.Linear(3, 2), [0, 0, 1]).bias.is_meta


NUMBERS = {
    "numpy": (np.int64, np.float32),
    "narrow numpy": (np.uint8, np.float16),
    "tensors without dimensions": (torch.tensor, torch.tensor),
    "arrays without dimensions": (np.array, np.array),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_settings_are_any_real_numbers(kind):
    whole, real = NUMBERS[kind]
    targets = [0, 0, 1, 1, 7, 7, 7]
    got = class_weights(
        targets,
        num_classes=whole(3),
        smoothing=real(1.0),
        beta=real(0.5),
        method="effective_number",
        ignore_index=whole(7),
    )
    assert got.equal(
        torch.tensor(by_hand("effective_number", [3, 3, 1], 0, 0.5), dtype=torch.float32)
    )
    assert pos_weight([1, 0, 0, 7], ignore_index=whole(7)).tolist() == [2]
    layer = init_prior_bias(nn.Linear(2, 1), counts=[whole(1)], total=real(4), activation="sigmoid")
    torch.testing.assert_close(layer.bias.detach().sigmoid(), torch.tensor([0.25]))


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.999, 1 - 1e-7, 1 - 2**-40])
@pytest.mark.parametrize("n", [1, 2, 1000, 10**6, 10**12])
def test_effective_number_is_right_to_rounding(beta, n):
    # Where n is small the power is taken exactly; where it is large, to 60 digits.
    exact = Fraction(beta)
    if n <= 2:
        power = exact**n
    else:
        with localcontext() as context:
            context.prec = 60
            power = Fraction((n * Decimal(beta).ln()).exp() if beta else 0)
    expected = float((1 - exact) / (1 - power))
    got = class_weights(counts=[n, 1], method="effective_number", beta=beta)
    torch.testing.assert_close(got[0], torch.tensor(expected), rtol=1.2e-7, atol=0)
    assert got[1] == 1


def test_large_counts_are_not_rounded_before_division():
    # 2^24 + 1 is not a float32: counting or dividing in float32 would lose the last row.
    n = 2**24 + 1
    assert class_weights(counts=torch.tensor([n, 1]))[1] == np.float32(n + 1)


class Batches:
    def __init__(self, *batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


READ_ONLY = TARGETS.numpy().copy()
READ_ONLY.setflags(write=False)
INPUTS = torch.zeros(81, 3)


class Column:
    """What pandas' columns are to this library: no list, no array, but `__array__`."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values


@pytest.mark.parametrize(
    "targets",
    [
        *(TARGETS.to(d) for d in (torch.int8, torch.int16, torch.int32, torch.uint8)),
        TARGETS.to(torch.uint16),
        TARGETS.double(),
        TARGETS.reshape(9, 3, 3),
        *(
            TARGETS.numpy().astype(d)
            for d in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i4", "<u2", "f2", ">f8")
        ),
        Column(TARGETS.numpy()),
        Column(TARGETS.numpy().astype(object)),
        TARGETS.numpy().astype(np.int32)[::-1],
        READ_ONLY,
        TARGETS.tolist(),
        tuple(TARGETS.tolist()),
        TARGETS.reshape(9, 9).tolist(),
        list(TARGETS.numpy()),
        list(TARGETS.numpy().astype(np.float32)),
        list(TARGETS),
        list(TARGETS.split(10)),
        Batches(*(batch.tolist() for batch in TARGETS.split(10))),
        Batches(*(batch.numpy() for batch in TARGETS.split(10))),
        DataLoader(TARGETS, batch_size=10),
        DataLoader(TensorDataset(INPUTS, TARGETS), batch_size=10),
        (batch for batch in TARGETS.sort().values.split(30)),
        DataLoader(TensorDataset(TARGETS), batch_size=10),
        ([INPUTS[:40], batch] for batch in TARGETS.split(40)),
        (("name of a file", batch.tolist()) for batch in TARGETS.split(2)),
        # Whole numbers as inputs, as of a language model.
        [(batch + 1, batch) for batch in TARGETS.split(10)],
        (([5, 3], batch.tolist()) for batch in TARGETS.split(40)),
        [{"input_ids": INPUTS, "labels": batch} for batch in TARGETS.split(2)],
        [UserDict(labels=int(target)) for target in TARGETS],
        list(TensorDataset(INPUTS, TARGETS)),
        # Pieces of a list, of which the last may have two.
        Batches(*(TARGETS[i : i + 79].tolist() for i in (0, 79))),
    ],
)
def test_every_accepted_form_counts_the_same(targets):
    assert class_weights(targets).equal(class_weights(counts=COUNTS))


def test_the_labels_of_a_mapping_are_named():
    batches = [{"x": torch.ones(3), "labels": [0, 0, 0], "y": torch.tensor([0, 2, 1])}]
    assert class_weights(batches, label_key="y").tolist() == [3, 3, 3]
    assert pos_weight([{"y": torch.tensor([[1], [0]])}], label_key="y").tolist() == [1]
    layer = init_prior_bias(nn.Linear(3, 3), batches, label_key="y")
    torch.testing.assert_close(layer.bias.detach().exp(), torch.full([3], 1 / 3))


@pytest.mark.parametrize("counts", [tuple(COUNTS), np.array(COUNTS), torch.tensor(COUNTS).float()])
def test_forms_of_counts(counts):
    assert class_weights(counts=counts, num_classes=4).equal(class_weights(counts=COUNTS))


def test_booleans_are_two_classes():
    assert class_weights(torch.tensor([True, False, False, False])).tolist() == [
        pytest.approx(4 / 3),
        4,
    ]
    assert class_weights([True, False]).tolist() == [2, 2]


@pytest.mark.parametrize("ignore", [-100, 255, 0])
def test_ignored_rows_are_left_out(ignore):
    dense = torch.tensor([[1, ignore], [2, 1], [ignore, 2], [3, 2]])
    got = class_weights(dense, ignore_index=ignore, smoothing=1)
    assert got.equal(class_weights(counts=[0, 2, 3, 1], smoothing=1))


def test_smoothing_fills_absent_classes():
    got = class_weights([0, 0, 2], num_classes=4, smoothing=1)
    torch.testing.assert_close(got, torch.tensor([7 / 3, 7, 7 / 2, 7]))


@pytest.mark.parametrize(
    ("error", "words", "kwargs"),
    [
        (ValueError, "targets and counts must be given; got both", {"targets": [0], "counts": [1]}),
        (ValueError, "targets and counts must be given; got neither", {}),
        (ValueError, "class 1 without any row.*smoothing", {"targets": [0, 0, 2]}),
        (ValueError, "classes 1, 3 without any row", {"targets": [0, 2], "num_classes": 4}),
        (ValueError, "9, 10 and 89 more without", {"targets": [0], "num_classes": 100}),
        (ValueError, "class 0 without any row", {"counts": [0, 3]}),
        (ValueError, r"in \[0, 2\).*ignore_index=-100; got 2", {"targets": [2], "num_classes": 2}),
        (ValueError, "at least 0.*got -1", {"targets": [0, -1, 1]}),
        (ValueError, "got -100", {"targets": [0, -100, 1], "ignore_index": -1}),
        (ValueError, "fractional", {"targets": [0.0, 0.5]}),
        (ValueError, "non-finite", {"targets": [0.0, math.nan]}),
        (ValueError, "non-finite", {"targets": [0.0, math.inf]}),
        (TypeError, "real numbers", {"targets": torch.ones(2, dtype=torch.complex64)}),
        (TypeError, "numbers", {"targets": np.array(["cat", "dog"])}),
        (TypeError, "regular shape", {"targets": [[0, 1], [1]]}),
        (TypeError, "a batch must be.*got str", {"targets": ["cat", "dog"]}),
        (TypeError, "a batch must be.*got dict", {"targets": [{"labels": {"boxes": 1}}]}),
        (TypeError, "a batch must be.*got tuple", {"targets": [(INPUTS, (INPUTS, INPUTS))]}),
        (
            ValueError,
            "label_key must name.*got 'labels', where a batch has 'x', 'target'",
            {"targets": [{"x": 0, "target": [0, 1]}]},
        ),
        (TypeError, "label_key must be a str; got 1", {"counts": [1], "label_key": 1}),
        (TypeError, "ignore_index must be an int", {"counts": [1], "ignore_index": 0.5}),
        (TypeError, "targets must be.*got set", {"targets": {0, 1}}),
        (TypeError, "regular shape", {"targets": Column(np.array(["cat", 1], dtype=object))}),
        (ValueError, "meta device", {"targets": torch.ones(3, device="meta")}),
        (ValueError, "meta device", {"counts": torch.ones(3, device="meta")}),
        # What may be inputs with their labels, in every nesting.
        (ValueError, "inputs with their labels.*label for _, label", {"targets": [(7, 1), (3, 0)]}),
        (ValueError, "inputs with their labels", {"targets": [[7, 1], [3, 0], [4, 1]]}),
        (ValueError, "inputs with their labels", {"targets": [(7, 2, 1), (3, 2, 0), (4, 2, 1)]}),
        (ValueError, "inputs with their labels", {"targets": [[7, 8, 3], [0, 1, 0]]}),
        (ValueError, "inputs with their labels", {"targets": (TARGETS, TARGETS)}),
        (ValueError, "inputs with their labels", {"targets": [INPUTS, [0, 1]]}),
        (
            ValueError,
            "a tuple of 2 numbers.*input with its label",
            {"targets": iter([(7, 1), (3, 0)])},
        ),
        (
            ValueError,
            "a list of 2 numbers.*input with its label",
            {"targets": iter([[7, 1], [3, 0]])},
        ),
        (
            ValueError,
            "inputs with their labels",
            {"targets": list(zip(TARGETS, TARGETS, strict=True))},
        ),
        (ValueError, "a tuple of 3", {"targets": [(INPUTS, TARGETS, torch.ones(81))]}),
        (ValueError, "a list of 2", {"targets": iter([[[7, 8, 3], [0, 1, 0]]])}),
        (TypeError, "targets must be.*got dict", {"targets": {"target": [0, 1]}}),
        (TypeError, "targets must be.*got object", {"targets": object()}),
        (ValueError, "at least one row", {"targets": []}),
        (ValueError, "at least one row", {"targets": iter(())}),
        (ValueError, "at least one row", {"targets": [-100, -100], "num_classes": 2}),
        (ValueError, "at least one row", {"targets": [], "num_classes": 2, "smoothing": 1.0}),
        (
            ValueError,
            "counts must match num_classes: 3; got 2",
            {"counts": [1, 1], "num_classes": 3},
        ),
        (ValueError, r"counts must have shape \[C\]", {"counts": [[1, 1]]}),
        (ValueError, r"counts must have shape \[C\]", {"counts": []}),
        (ValueError, "counts must be at least 0", {"counts": [1, -1]}),
        (ValueError, "counts must be at least 0", {"counts": [1, math.nan]}),
        (ValueError, "counts must be at least 0.*not all 0", {"counts": [0, 0], "smoothing": 1.0}),
        (TypeError, "counts must be a tensor", {"counts": {0: 3, 1: 2}}),
        (ValueError, "method must be one of", {"counts": [1], "method": "log"}),
        (ValueError, "normalize must be one of", {"counts": [1], "normalize": "l2"}),
        (ValueError, "smoothing must be at least 0", {"counts": [1], "smoothing": -1.0}),
        (ValueError, "beta must be.*below 1", {"counts": [1], "beta": 1.0}),
        (ValueError, "num_classes must be at least 1", {"targets": [0], "num_classes": 0}),
        (TypeError, "num_classes must be an int", {"targets": [0], "num_classes": 2.0}),
    ],
)
def test_class_weights_errors(error, words, kwargs):
    with pytest.raises(error, match=words):
        class_weights(**kwargs)


def zeros_and_ones(*shape):
    return torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(1))


TABLES = {
    "a table": zeros_and_ones(9, 3),
    "booleans": zeros_and_ones(9, 3).bool(),
    "floats": zeros_and_ones(9, 3).numpy().astype(np.float32),
    "a list of rows": zeros_and_ones(9, 3).tolist(),
    "maps": zeros_and_ones(2, 5, 4),
    "one-hot maps": torch.eye(2).long()[zeros_and_ones(3, 4)].movedim(-1, 1),
    "zeros alone": torch.zeros(4, 3),
    "an ignored cell": torch.tensor([[1, 0, -100], [0, 0, 1]]),
    "batches": zeros_and_ones(9, 3).split(4),
    "rows one at a time": list(zeros_and_ones(9, 3)),
    "samples": list(TensorDataset(torch.zeros(9, 2), zeros_and_ones(9, 3))),
    "a loader": DataLoader(TensorDataset(torch.zeros(9, 2), zeros_and_ones(9, 3)), batch_size=4),
    "a loader of samples": DataLoader(zeros_and_ones(9, 3), batch_size=None),
}


@pytest.mark.parametrize("case", TABLES)
def test_zeros_and_ones_that_may_be_multi_hot_are_refused_until_num_classes_says_no(case):
    table = TABLES[case]
    with pytest.raises(ValueError, match=r"num_classes=2;.*argmax\(1\);.*use pos_weight"):
        class_weights(table)
    if "one-hot" in case:
        with pytest.raises(ValueError, match=r"\[N, 2, ...\].*flatten them.*argmax"):
            class_weights(table, num_classes=2)
        table = table.flatten()
    elif case != "maps":
        # As many columns as classes, and of the third class not a row.
        with pytest.raises(ValueError, match=r"flatten them.*argmax.*use pos_weight"):
            class_weights(table, num_classes=3, smoothing=1.0)
    got = class_weights(table, num_classes=2, smoothing=1)
    flat = flat_labels(table)
    flat = flat[flat != -100]
    assert got.equal(class_weights(counts=flat.bincount(minlength=2), smoothing=1))


def flat_labels(table):
    """Every label of any of the tables above, in one line."""
    if isinstance(table, torch.Tensor | np.ndarray):
        return torch.as_tensor(table).long().flatten()
    parts = [row[1] if len(row) == 2 else row for row in table]
    return torch.cat([torch.as_tensor(part).flatten() for part in parts])


@pytest.mark.parametrize(
    "targets",
    [
        zeros_and_ones(12),
        zeros_and_ones(12, 1),
        zeros_and_ones(12, 1, 1),
        zeros_and_ones(12).tolist(),
        DataLoader(zeros_and_ones(12), batch_size=4),
        # Rows of multi-hot labels would have one length.
        list(zeros_and_ones(12).split(5)),
    ],
)
def test_zeros_and_ones_that_can_only_be_class_indices_are_counted(targets):
    expected = class_weights(counts=zeros_and_ones(12).bincount())
    assert class_weights(targets).equal(expected)


def test_two_columns_that_are_not_one_hot_are_what_num_classes_says():
    table = torch.tensor([[0, 1], [1, 1], [0, 0], [0, 0]])
    assert class_weights(table, num_classes=2).equal(class_weights(counts=[5, 3]))


MULTI_HOT = torch.tensor([[1, 0, 1], [0, 0, 1], [0, 1, -100], [1, 0, 1], [0, 0, 0]])


@pytest.mark.parametrize(
    "targets",
    [
        MULTI_HOT,
        MULTI_HOT.to(torch.int8),
        MULTI_HOT.half(),
        MULTI_HOT.numpy(),
        MULTI_HOT.tolist(),
        MULTI_HOT.split(2),
        DataLoader(TensorDataset(torch.zeros(5, 2), MULTI_HOT), batch_size=2),
    ],
)
def test_pos_weight_per_label(targets):
    # Label 2 has one ignored cell: three positives among its four other cells.
    torch.testing.assert_close(pos_weight(targets), torch.tensor([3 / 2, 4, 1 / 3]))


def labels_by_hand(table, ignore_index):
    """Share of positives of each label of a dense table, by plain loops, and the pos_weight."""
    shares = []
    for c in range(table.shape[1]):
        cells = [v for row in table.tolist() for v in np.ravel(row[c]) if v != ignore_index]
        shares.append(sum(cells) / len(cells))
    return shares, [(1 - share) / share for share in shares]


@pytest.mark.parametrize("shape", [(6, 3, 5), (4, 3, 2, 3), (2, 3, 2, 2, 2), (1, 1, 9), (9, 2)])
@pytest.mark.parametrize("ignore", [-100, 255])
def test_dense_labels_are_one_row_per_position(shape, ignore):
    table = zeros_and_ones(*shape)
    generator = torch.Generator().manual_seed(2)
    table[torch.rand(shape, generator=generator) < 0.2] = ignore
    shares, expected = labels_by_hand(table, ignore)
    loader = DataLoader(TensorDataset(table, table), batch_size=2)
    for form in (
        table,
        table.double(),
        table.numpy(),
        table.tolist(),
        loader,
        iter(table.split(3)),
    ):
        got = pos_weight(form, ignore_index=ignore)
        torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float32))
    layer = nn.Conv1d(2, shape[1], 1)
    init_prior_bias(layer, table, activation="sigmoid", ignore_index=ignore)
    torch.testing.assert_close(layer.bias.detach().sigmoid(), torch.tensor(shares).float())


def test_prior_of_dense_labels_is_each_labels_own_rate():
    masks = torch.zeros(1, 2, 10, 20)
    masks[:, 0, :, ::2] = 1
    masks[:, 1, 0, :2] = 1
    layer = init_prior_bias(nn.Conv2d(3, 2, 1), masks, activation="sigmoid")
    torch.testing.assert_close(layer.bias.detach().sigmoid(), torch.tensor([0.5, 0.01]))
    with pytest.raises(ValueError, match=r"flatten them.*activation='sigmoid'"):
        init_prior_bias(nn.Conv2d(3, 2, 1), masks)
    # Not as wide as the layer: a map of class indices, here of two of the three.
    maps = torch.tensor([[[0, 1, 1, 0], [1, 0, 0, 0]], [[2, 0, 0, 0], [0, 0, 0, 0]]])
    layer = init_prior_bias(nn.Conv2d(3, 3, 1), maps)
    torch.testing.assert_close(layer.bias.exp().mul(16).detach(), torch.tensor([12.0, 3.0, 1.0]))
    layer = init_prior_bias(nn.Conv2d(3, 2, 1), masks[:, :1])
    torch.testing.assert_close(layer.bias.exp().detach(), torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_pos_weight_balances_the_two_sides_of_bce(dtype):
    targets = torch.tensor([1, 0, 0, 0, 1, 0, 0, 0, 0, 0]).to(dtype)
    weight = pos_weight(targets)
    assert weight.tolist() == [4]
    assert weight.equal(pos_weight(targets.unsqueeze(1)))
    loss = nn.BCEWithLogitsLoss(pos_weight=weight, reduction="none")(
        torch.zeros(10), targets.float()
    )
    positive = targets.bool()
    torch.testing.assert_close(loss[positive].sum(), loss[~positive].sum())


@pytest.mark.parametrize(
    ("words", "targets"),
    [
        ("label 1 without any positive", [[1, 0], [0, 0]]),
        ("labels 0, 1 without any positive", [[-100, 0], [-100, 0]]),
        ("0, 1 or ignore_index=-100; got 2", [[1, 2]]),
        ("0, 1 or ignore_index=-100; got -1", [1, -1]),
        ("0, 1 or ignore_index=-100; got nan", [[1.0, math.nan]]),
        ("0, 1 or ignore_index=-100; got 0.5", [0.5, 1.0]),
        ("same number of labels.*got 2 and 3", iter([torch.ones(1, 2), torch.ones(1, 3)])),
        (r"\[N, C, ...\]; got \[3\].*the labels of one row", list(torch.ones(5, 3))),
        ("the labels of one row", list(TensorDataset(torch.ones(5, 3), torch.ones(5, 3)))),
        ("the labels of one row", DataLoader(torch.ones(5, 3), batch_size=None)),
        ("inputs with their labels", (torch.ones(5, 2), torch.ones(5, 2))),
        ("input with its label", iter([(1, 0), (0, 1)])),
        ("a tuple of 3", [(INPUTS, torch.ones(5, 2), torch.ones(5))]),
        ("label_key must name", [{"label": torch.ones(5, 2)}]),
        ("at least one row", torch.ones(0, 2)),
        ("at least one row", torch.full((3, 2), -100)),
    ],
)
def test_pos_weight_errors(words, targets):
    with pytest.raises(ValueError, match=words):
        pos_weight(targets)


def test_binary_batches_of_a_loader_are_rows_of_one_label():
    targets = torch.tensor([1, 0, 0, 1, 0, 0, 0, 0])
    loader = DataLoader(TensorDataset(torch.zeros(8, 8), targets), batch_size=4)
    columns = ((torch.zeros(4, 8), part) for part in targets.unsqueeze(1).split(4))
    assert pos_weight(loader).tolist() == pos_weight(columns).tolist() == [3]


def test_pos_weight_where_the_positives_are_the_ignored_cells():
    with pytest.raises(ValueError, match="label 0 without any positive"):
        pos_weight([1, 0, 1], ignore_index=1)


LINEAR = (lambda c: nn.Linear(3, c), (3,))
CONV = (lambda c: nn.Conv2d(3, c, 1), (3, 4, 4))
DECONV = (lambda c: nn.ConvTranspose1d(3, c, 2), (3, 4))


@pytest.mark.parametrize(("build", "shape"), [LINEAR, CONV, DECONV])
def test_softmax_prior_is_what_the_layer_predicts_on_zero_input(build, shape):
    layer = build(4)
    weight = layer.weight.detach().clone()
    assert init_prior_bias(layer, TARGETS) is layer
    assert layer.weight.equal(weight)
    assert layer.bias.requires_grad
    predicted = layer(torch.zeros(1, *shape)).softmax(1)
    expected = (torch.tensor(COUNTS) / 81).view(1, 4, *[1] * (len(shape) - 1))
    torch.testing.assert_close(predicted, expected.expand_as(predicted))


SIGMOID = {
    "class counts": (4, {"counts": COUNTS}, [n / 81 for n in COUNTS]),
    "label counts": (2, {"counts": [900, 1], "total": 1000}, [0.9, 0.001]),
    "multi-hot": (3, {"targets": MULTI_HOT}, [2 / 5, 1 / 5, 3 / 4]),
    "multi-hot batches": (3, {"targets": MULTI_HOT.split(2)}, [2 / 5, 1 / 5, 3 / 4]),
    "binary": (1, {"targets": [1, 0, 0, 0, -100]}, [1 / 4]),
    "binary column": (1, {"targets": torch.tensor([[1.0], [0.0]])}, [1 / 2]),
    "binary dense": (1, {"targets": torch.eye(4).expand(2, 4, 4)}, [1 / 4]),
    "binary counts": (1, {"counts": [3], "total": 12.0}, [1 / 4]),
    "another ignore_index": (1, {"targets": [1, 0, 9], "ignore_index": 9}, [1 / 2]),
}


@pytest.mark.parametrize("case", SIGMOID)
def test_sigmoid_prior(case):
    outputs, kwargs, expected = SIGMOID[case]
    layer = init_prior_bias(nn.Linear(3, outputs), activation="sigmoid", **kwargs)
    torch.testing.assert_close(layer.bias.detach().sigmoid(), torch.tensor(expected))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_prior_keeps_the_dtype_of_the_layer(dtype):
    layer = init_prior_bias(nn.Linear(3, 2, dtype=dtype), counts=[1, 2**30])
    assert layer.bias.equal(
        torch.tensor([1, 2**30], dtype=torch.float64).div(2**30 + 1).log().to(dtype)
    )


SIGMOIDAL = {"activation": "sigmoid"}


@pytest.mark.parametrize(
    ("error", "words", "layer", "kwargs"),
    [
        (TypeError, "layer must be.*got Sequential", nn.Sequential(), {"counts": [1, 1]}),
        (ValueError, "bias=False", nn.Linear(2, 2, bias=False), {"counts": [1, 1]}),
        (TypeError, "lazy", nn.LazyLinear(2), {"counts": [1, 1]}),
        (ValueError, "got both", nn.Linear(2, 2), {"targets": [0, 1], "counts": [1, 1]}),
        (ValueError, "got neither", nn.Linear(2, 2), {}),
        (ValueError, "the layer's outputs: 2; got 3", nn.Linear(2, 2), {"counts": [1, 1, 1]}),
        (ValueError, r"in \[0, 2\).*got 2", nn.Linear(2, 2), {"targets": [0, 2]}),
        *(
            (ValueError, r"multi-hot \[N, 2, ...\].*pass counts=", nn.Linear(2, 2), kwargs)
            for kwargs in (
                {"targets": [0, 1], **SIGMOIDAL},
                {"targets": zeros_and_ones(4, 3, 2), **SIGMOIDAL},
                {"targets": list(zeros_and_ones(4, 2)), **SIGMOIDAL},
            )
        ),
        (ValueError, "0, 1 or.*got 2", nn.Linear(2, 2), {"targets": [[0, 2]], **SIGMOIDAL}),
        (ValueError, "flatten them.*activation='sig", nn.Linear(2, 3), {"targets": torch.eye(3)}),
        (
            ValueError,
            "flatten them.*activation='sig",
            nn.Linear(2, 2),
            {"targets": list(zeros_and_ones(5, 2))},
        ),
        (ValueError, "inputs with", nn.Linear(2, 1), {"targets": [(7, 1), (3, 0)], **SIGMOIDAL}),
        (TypeError, "label_key must", nn.Linear(2, 2), {"counts": [1, 1], "label_key": None}),
        (ValueError, "class 1 without any row", nn.Linear(2, 2), {"counts": [1, 0]}),
        (ValueError, "class 1 without any row", nn.Linear(2, 2), {"targets": [0, 0]}),
        (ValueError, "at least one row", nn.Linear(2, 2), {"targets": []}),
        (ValueError, "activation='sigmoid'", nn.Linear(2, 1), {"targets": [0, 0]}),
        (ValueError, "activation must be", nn.Linear(2, 2), {"counts": [1, 1], "activation": "x"}),
        (ValueError, "total is for", nn.Linear(2, 2), {"counts": [1, 1], "total": 2}),
        (ValueError, "total is for", nn.Linear(2, 1), {"targets": [1], "total": 2, **SIGMOIDAL}),
        (ValueError, "need total=", nn.Linear(2, 1), {"counts": [1], **SIGMOIDAL}),
        (
            ValueError,
            "total must be at least every count; got 2",
            nn.Linear(2, 2),
            {"counts": [3, 1], "total": 2, **SIGMOIDAL},
        ),
        (
            ValueError,
            "class 0 positive in every row",
            nn.Linear(2, 2),
            {"counts": [3, 1], "total": 3, **SIGMOIDAL},
        ),
        (
            ValueError,
            "class 0 positive in every row",
            nn.Linear(2, 1),
            {"targets": [1, 1], **SIGMOIDAL},
        ),
        (
            ValueError,
            "class 0 without any row",
            nn.Linear(2, 1),
            {"targets": [0, 0], **SIGMOIDAL},
        ),
    ],
)
def test_init_prior_bias_errors_leave_the_layer_alone(error, words, layer, kwargs):
    before = {
        k: v.clone() for k, v in layer.named_parameters() if not torch.nn.parameter.is_lazy(v)
    }
    with pytest.raises(error, match=words):
        init_prior_bias(layer, **kwargs)
    assert all(layer.get_parameter(k).equal(v) for k, v in before.items())
