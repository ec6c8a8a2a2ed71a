"""Class weights, positive weights and prior-bias initialisation."""

import math
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


def test_balanced_is_that_of_scikit_learn():
    expected = compute_class_weight("balanced", classes=np.arange(4), y=TARGETS.numpy())
    got = class_weights(TARGETS, method="balanced").numpy()
    np.testing.assert_array_equal(got, expected.astype(np.float32))


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


@pytest.mark.parametrize(
    "targets",
    [
        *(TARGETS.to(d) for d in (torch.int8, torch.int16, torch.int32, torch.uint8)),
        TARGETS.to(torch.uint16),
        TARGETS.double(),
        TARGETS.reshape(9, 3, 3),
        TARGETS.numpy(),
        TARGETS.numpy().astype(np.int32)[::-1],
        READ_ONLY,
        TARGETS.tolist(),
        tuple(TARGETS.tolist()),
        TARGETS.reshape(9, 9).tolist(),
        list(TARGETS.numpy()),
        list(TARGETS),
        list(TARGETS.split(10)),
        Batches(*(batch.tolist() for batch in TARGETS.split(10))),
        Batches(*(batch.numpy() for batch in TARGETS.split(10))),
        DataLoader(TARGETS, batch_size=10),
        DataLoader(TensorDataset(INPUTS, TARGETS), batch_size=10),
        (batch for batch in TARGETS.sort().values.split(30)),
        ((INPUTS[:40], None, batch) for batch in TARGETS.sort(descending=True).values.split(40)),
        ([INPUTS[:40], batch] for batch in TARGETS.split(40)),
        list(TensorDataset(INPUTS, TARGETS)),
    ],
)
def test_every_accepted_form_counts_the_same(targets):
    assert class_weights(targets).equal(class_weights(counts=COUNTS))


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
        (TypeError, "a batch must be.*got dict", {"targets": [{"target": [0, 1]}]}),
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
        (r"binary \[N\] or multi-hot \[N, C\]; got shape \[1, 2, 2\]", torch.ones(1, 2, 2)),
        ("same number of labels.*got 2 and 3", [torch.ones(1, 2), torch.ones(1, 3)]),
        ("at least one row", torch.ones(0, 2)),
        ("at least one row", torch.full((3, 2), -100)),
    ],
)
def test_pos_weight_errors(words, targets):
    with pytest.raises(ValueError, match=words):
        pos_weight(targets)


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
    "class indices": (4, {"targets": TARGETS}, [n / 81 for n in COUNTS]),
    "dense class indices": (4, {"targets": TARGETS.reshape(27, 3)}, [n / 81 for n in COUNTS]),
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
        (ValueError, r"in \[0, 2\).*got 2", nn.Linear(2, 2), {"targets": [0, 2], **SIGMOIDAL}),
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
