"""Data at their edges, and settings that do not fit: each is learnt from or named."""

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.datasets import make_classification
from sklearn.metrics import average_precision_score
from torch import nn

from imbalanced_losses._training.rows import Scaler, read_targets, split
from imbalanced_losses.estimator import RareClassClassifier

X, Y = make_classification(200, 5, weights=[0.9], class_sep=1.5, random_state=1)


def quick(**settings):
    given = {"hidden": (4,), "learning_rate": 0.02, "max_epochs": 2, "random_state": 0}
    return RareClassClassifier(**{**given, "loss": "prior_bias", **settings})


@pytest.mark.parametrize("dtype", [np.float32, np.int64, bool])
def test_features_of_any_number_type_are_taken(dtype) -> None:
    x = (10 * X).astype(dtype) if dtype is not bool else X > 0
    assert np.isfinite(quick().fit(x, Y).predict_proba(x)).all()


def test_constant_and_huge_and_tiny_features_change_nothing() -> None:
    x = np.hstack([X * [1e300, 1e-300, 1e12, 1, 1] + [0, 0, 1e15, 0, 0], np.full((200, 1), 0.1)])
    odd = quick(max_epochs=20, learning_rate=0.05).fit(x, Y).decision_function(x)
    assert np.isfinite(odd).all()
    assert average_precision_score(Y, odd) > 0.6
    scaled = Scaler.of(x)(x)
    assert scaled[:, 5].tolist() == [0.0] * 200
    assert scaled[:, :2] == pytest.approx(Scaler.of(X[:, :2])(X[:, :2]))


def test_scaling_hardly_changes_a_normal_feature_and_keeps_usual_amounts_apart() -> None:
    rng = np.random.default_rng(0)
    normal, amounts = rng.normal(size=2000), rng.lognormal(3, 2, 2000)
    often_zero = amounts * (rng.random(2000) < 0.2)
    owed = np.where(rng.random(2000) < 0.5, amounts, -amounts)
    x = np.stack([normal, amounts, often_zero, owed, normal > 2], 1)
    scaled = Scaler.of(x)(x)
    assert scaled.mean(0) == pytest.approx(0, abs=1e-9)
    assert scaled.std(0) == pytest.approx(1)
    assert scaled[:, 0] == pytest.approx((normal - normal.mean()) / normal.std(), abs=0.5)
    assert scaled[:, 4] == pytest.approx((x[:, 4] - x[:, 4].mean()) / x[:, 4].std())
    # By mean and deviation half of the amounts lie within a tenth, and the largest at 20.
    low, high = np.quantile(scaled[:, 1], [0.25, 0.75])
    assert high - low > 0.6
    assert np.abs(scaled).max() < 10
    assert (np.argsort(scaled[:, 3]) == np.argsort(owed)).all()


def test_scaling_by_hand_and_inside_is_the_same_on_training_rows() -> None:
    inside = quick(refit=False).fit(X, Y)
    train, _ = split(read_targets(Y, None), 0.2, inside._settings().seed)
    rows = X[train.numpy()]
    outside = quick(refit=False, standardize=False)
    x = Scaler.of(rows)(X)
    assert outside.fit(x, Y).predict_proba(x) == pytest.approx(inside.predict_proba(X), abs=1e-5)


@pytest.mark.parametrize("loss", ["prior_bias", "stratified_batches", "balanced_sampler"])
def test_a_batch_may_be_larger_than_the_data(loss) -> None:
    assert quick(loss=loss, batch_size=10_000).fit(X, Y).history_[-1][0] == 2
    assert quick(loss=loss, batch_size=70).fit(X, Y).history_[-1][0] in (4, 6)


@pytest.mark.parametrize("loss", ["prior_bias", "smooth_ap_mix", "adjusted"])
def test_a_class_of_one_row_is_trained_on_and_the_likelihood_stops(loss) -> None:
    rare = np.zeros(50, dtype=int)
    rare[7] = 1
    with pytest.warns(UserWarning, match="average precision is undefined on the 10 validation"):
        model = quick(loss=loss).fit(X[:50], rare)
    assert model.validation_score_ < 0  # a log-likelihood
    assert np.isfinite(model.predict_proba(X)).all()


def test_where_every_class_has_one_row_the_training_rows_stand_in() -> None:
    with pytest.warns(UserWarning, match="No class of y has a second row"):
        model = quick().fit(X[:2], [0, 1])
    assert model.predict(X).shape == (200,)


def test_a_third_class_of_one_row_is_left_out_of_the_goal_alone() -> None:
    y = Y.copy()
    y[3] = 2
    model = quick().fit(X, y)
    assert 0 <= model.validation_score_ <= 1
    assert model.predict_proba(X).shape == (200, 3)


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_held_out_rows_have_their_share_of_every_class(kind) -> None:
    generator = np.random.default_rng(0)
    y = {
        "binary": np.repeat([0, 1], [170, 30]),
        "multiclass": np.repeat([0, 1, 2, 3], [150, 40, 8, 2]),
        "multilabel": (generator.random((200, 4)) < [0.5, 0.3, 0.1, 0.02]).astype(int),
    }[kind]
    targets = read_targets(y, None)
    for seed in range(20):
        train, held = split(targets, 0.25, seed)
        assert not (train & held).any()
        assert (train | held).all()
        total, part = targets.marks.sum(0), targets.marks[held].sum(0)
        slack = 1 if kind != "multilabel" else 3 + 0.05 * total
        assert ((part - 0.25 * total).abs() <= slack).all()
        assert (part[total > 1] > 0).all()
        assert (part < total).all()
    assert not torch.equal(split(targets, 0.25, 0)[1], split(targets, 0.25, 1)[1])


def test_a_label_keeps_a_row_to_train_on_whatever_other_labels_hold_out() -> None:
    generator = np.random.default_rng(0)
    for seed in range(30):
        y = (generator.random((12, 6)) < 0.2).astype(int)
        y[0], y[1] = 0, 1
        targets = read_targets(y, None)
        train, _ = split(targets, 0.5, seed)
        assert (targets.marks[train].sum(0) > 0).all()
        assert ((1 - targets.marks[train]).sum(0) > 0).all()


def test_a_sparse_indicator_is_the_dense_one() -> None:
    y = np.stack([Y, 1 - Y, X[:, 0] > 0], 1).astype(int)
    dense, thin = quick().fit(X, y), quick().fit(X, sparse.csr_matrix(y))
    assert thin.predict_proba(X).tolist() == dense.predict_proba(X).tolist()


def fit(x=X, y=Y, sample_weight=None, **settings):
    return lambda: quick(**settings).fit(x, y, sample_weight=sample_weight)


def spoiled(value):
    x = X.copy()
    x[3, 2] = value
    return x


class Headless(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()

    def forward(self, x):
        return x


def narrow(inputs, outputs):
    return nn.Linear(inputs, 3)


def biasless(inputs, outputs):
    return nn.Linear(inputs, outputs, bias=False)


def flat(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, outputs), nn.Flatten(0))


def three_columns(y):
    return np.stack([y, np.zeros_like(y), 1 - y], 1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (fit(spoiled(np.nan)), "contains NaN"),
        (fit(spoiled(np.inf)), "contains infinity"),
        (fit(y=np.zeros(200)), r"at least two classes; got one class"),
        (fit(y=Y + 0.5 * X[:, 0]), "Unknown label type"),
        (fit(y=three_columns(Y + 1)), "multiclass-multioutput"),
        (fit(y=three_columns(Y)), "label 1 is 0 in all of them"),
        (fit(y=three_columns(Y), pos_label=1), "pos_label is for binary problems"),
        (fit(y=np.arange(200) % 3, pos_label=1), "pos_label is for binary problems"),
        (fit(pos_label="fraud"), r"one of the classes \[0, 1\]; got 'fraud'"),
        (fit(sample_weight=np.ones(3)), r"shape \[n\] = \[200\]; got \[3\]"),
        (fit(sample_weight=-np.ones(200)), "finite and not negative"),
        (fit(sample_weight=np.zeros(200)), "zero in all rows"),
        (fit(loss="triplet"), "loss must be 'auto', one of 'cross_entropy'"),
        (fit(loss=nn.BCEWithLogitsLoss), "loss must be 'auto'"),
        (fit(loss="ldam"), "is for multiclass problems"),
        (fit(loss=nn.BCEWithLogitsLoss(reduction="none")), "loss must return a scalar tensor"),
        (fit(loss=nn.CrossEntropyLoss()), "loss must have a gradient on the logits"),
        (
            fit(loss=nn.BCEWithLogitsLoss(), sample_weight=np.ones(200)),
            "sample_weight must be left out",
        ),
        (fit(goal="accuracy"), "goal must be one of"),
        (fit(goal="recall_at_fpr", budget=2), "budget must be above 0 and below 1"),
        (fit(hidden=(0,)), "hidden must be at least 1"),
        (fit(max_epochs=0), "max_epochs must be at least 1"),
        (fit(batch_size=0), "batch_size must be at least 1"),
        (fit(learning_rate=0), "learning_rate must be above 0"),
        (fit(learning_rate=1e30, max_epochs=20), "learning_rate must lead to finite logits"),
        (fit(dropout=1), "dropout must be at least 0 and below 1"),
        (fit(patience=0), "patience must be at least 1"),
        (fit(validation_fraction=1), "validation_fraction must be above 0 and below 1"),
        (fit(device="abacus"), "device must be one that torch has here; got 'abacus'"),
        (fit(module=Headless), "it has none"),
        (fit(module=narrow), "of init_prior_bias|outputs|3"),
        (fit(module=narrow, loss="cross_entropy"), r"logits of shape \[2, 1\] for two rows; got"),
        (fit(module=flat), r"logits of shape \[2, 1\] for two rows; got \[2\]"),
        (fit(module=biasless), "layer must have a bias"),
    ],
)
def test_what_does_not_fit_is_named(call, words) -> None:
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (fit(sparse.csr_matrix(X)), "dense data is required"),
        (fit(hidden=8), "hidden must be a tuple"),
        (fit(module=lambda inputs, outputs: None), "module must return an nn.Module"),
        (fit(standardize="yes"), "standardize must be True or False"),
        (fit(refit=1), "refit must be True or False"),
        (fit(patience=1.5), "patience must be an int"),
    ],
)
def test_what_has_the_wrong_type_is_named(call, words) -> None:
    with pytest.raises(TypeError, match=words):
        call()


def test_a_fit_that_fails_leaves_the_earlier_one_whole() -> None:
    model = quick().fit(X, Y)
    before = model.predict_proba(X).tolist()
    with pytest.raises(ValueError, match="finite logits"):
        model.set_params(learning_rate=1e30, max_epochs=20).fit(5 * X, Y)
    assert model.predict_proba(X).tolist() == before
