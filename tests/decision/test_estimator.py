"""RareClassClassifier: what it learns, what it stops at, and that a seed says everything."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits, make_classification, make_multilabel_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, balanced_accuracy_score, log_loss
from sklearn.preprocessing import StandardScaler
from torch import nn

import imbalanced_losses
import launch
from imbalanced_losses import SigmoidFocalLoss, SmoothAPLoss, SoftmaxFocalLoss, estimator
from imbalanced_losses.estimator import RareClassClassifier
from imbalanced_losses.recipes import RECIPES, for_problem

X, Y = make_classification(300, 6, weights=[0.9], class_sep=1.5, random_state=1)
X3, Y3 = make_classification(
    400, 6, n_informative=4, n_classes=3, weights=[0.8, 0.15], class_sep=2, random_state=0
)
XL, YL = make_multilabel_classification(300, 6, n_classes=3, n_labels=1, random_state=0)
DATA = {"binary": (X, Y), "multiclass": (X3, Y3), "multilabel": (XL, YL)}


def quick(**settings):
    given = {"hidden": (8,), "learning_rate": 0.02, "max_epochs": 10, "random_state": 0}
    return RareClassClassifier(**{**given, **settings})


@pytest.mark.slow
def test_it_finds_a_rare_digit_as_well_as_a_net_that_is_trained_to_its_end() -> None:
    pixels, digits = load_digits(return_X_y=True)
    rare = np.flatnonzero(digits == 8)
    rows = np.sort(np.concatenate([np.flatnonzero(digits != 8), rare[:60]]))
    x, y = pixels[rows], (digits[rows] == 8).astype(int)
    test = np.arange(len(x)) % 4 == 0
    model = RareClassClassifier(hidden=(64,), learning_rate=0.01, max_epochs=60, random_state=0)
    found = model.fit(x[~test], y[~test]).decision_function(x[test])
    # Chance is the share of eights, 0.04.
    assert average_precision_score(y[test], found) > 0.93


def test_a_linear_model_comes_to_the_optimum_of_logistic_regression() -> None:
    model = RareClassClassifier("prior_bias", "log_loss", hidden=(), random_state=0)
    ours = model.fit(X, Y).predict_proba(X)
    scaled = StandardScaler().fit_transform(X)
    best = LogisticRegression(C=1e4).fit(scaled, Y).predict_proba(scaled)
    assert log_loss(Y, ours) < log_loss(Y, best) + 0.01
    assert model.learning_rate_ in (0.01, 0.03, 0.1)


@pytest.mark.no_cover  # long runs of what other tests cover
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        # Four mixed nets of several outputs take as long as all other recipes together.
        pytest.param(
            kind,
            recipe.name,
            marks=pytest.mark.slow if kind != "binary" and recipe.members > 1 else (),
        )
        for kind in DATA
        for recipe in for_problem(kind)
    ],
)
def test_every_recipe_learns_and_gives_probabilities(kind, name) -> None:
    x, y = DATA[kind]
    model = quick(loss=name, goal="log_loss", max_epochs=25, batch_size=64).fit(x, y)
    scores, shares, classes = model.decision_function(x), model.predict_proba(x), model.predict(x)
    assert model.recipe_ is RECIPES[name]
    assert shares.shape == (len(x), 2 if kind == "binary" else 3)
    assert shares.min() >= 0
    assert shares.max() <= 1
    hot = y if kind == "multilabel" else np.eye(shares.shape[1])[y]
    if kind == "multilabel":
        assert np.array_equal(classes, scores > 0)
        assert np.array_equal(model.classes_, [0, 1, 2])
    else:
        assert shares.sum(1) == pytest.approx(np.ones(len(x)))
        assert np.array_equal(classes, scores > 0 if kind == "binary" else scores.argmax(1))
    for column in range(hot.shape[1]):
        found = average_precision_score(hot[:, column], shares[:, column])
        chance = hot[:, column].mean()
        assert found > chance + 0.3 * (1 - chance)
    # Whatever the loss does to probabilities is taken back.
    assert shares.mean(0) == pytest.approx(hot.mean(0), abs=0.13)


def test_the_choice_of_the_recipe_follows_goal_kind_and_size(monkeypatch) -> None:
    once = {"max_epochs": 1}
    assert quick(**once, hidden=(16,)).fit(X, Y).recipe_.name == "smooth_ap_ensemble"
    assert quick(**once, hidden=()).fit(X, Y).recipe_.name == "prior_bias"
    asked = {}

    def spy(goal, kind, capacity):
        asked[len(asked)] = (goal, kind, capacity)
        return RECIPES["prior_bias"]

    monkeypatch.setattr(estimator, "recommend", spy)
    for hidden in ((), (4, 32), (32,)):
        quick(**once, hidden=hidden).fit(X, Y)
    assert [capacity for _, _, capacity in asked.values()] == ["linear", "small", "flexible"]
    monkeypatch.undo()
    assert quick(**once, goal="tail_accuracy").fit(X3, Y3).recipe_.name == "adjusted"
    module = nn.Linear
    own = quick(**once, hidden=(), module=module).fit(X, Y)
    assert own.recipe_.name == "smooth_ap_ensemble"
    mine = RECIPES["focal"]
    assert quick(**once, loss=mine).fit(X, Y).recipe_ is mine


@pytest.mark.parametrize("kind", DATA)
def test_an_adjusted_decision_gains_balanced_accuracy_and_keeps_the_probabilities(kind) -> None:
    x, y = DATA[kind]
    settings = {"goal": "balanced_accuracy", "max_epochs": 20, "refit": False}
    adjusted = quick(loss="adjusted", **settings).fit(x, y)
    plain = quick(loss="prior_bias", **settings).fit(x, y)
    columns = range(3) if kind == "multilabel" else [slice(None)]

    def accuracy(model):
        found = model.predict(x)
        if kind != "multilabel":
            return balanced_accuracy_score(y, found)
        return np.mean([balanced_accuracy_score(y[:, c], found[:, c]) for c in columns])

    assert accuracy(adjusted) > accuracy(plain)
    assert adjusted.predict_proba(x).mean() == pytest.approx(plain.predict_proba(x).mean(), abs=0.1)


def test_classes_may_have_any_names_and_the_rarer_one_is_the_goal() -> None:
    names = np.where(Y == 1, "alarm", "usual")  # the rare class comes first
    model = quick().fit(X, names)
    other = quick().fit(X, Y)
    assert model.classes_.tolist() == ["alarm", "usual"]
    assert np.array_equal(model.predict(X) == "alarm", other.predict(X) == 1)
    assert model.decision_function(X).tolist() == (-other.decision_function(X)).tolist()
    assert model.predict_proba(X).tolist() == other.predict_proba(X)[:, ::-1].tolist()
    assert model.validation_score_ == other.validation_score_
    usual = quick(pos_label="usual").fit(X, names)
    assert usual.validation_score_ != model.validation_score_
    assert np.array_equal(quick().fit(X, Y == 1).classes_, [False, True])


def test_the_same_seed_gives_the_same_model_and_leaves_the_global_state_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = quick(dropout=0.3).fit(X, Y).decision_function(X)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)
    assert quick(dropout=0.3).fit(X, Y).decision_function(X).tolist() == first.tolist()
    other = quick(dropout=0.3, random_state=1).fit(X, Y)
    assert other.decision_function(X).tolist() != first.tolist()


def test_a_pickle_predicts_the_same_and_holds_no_rows() -> None:
    model = quick(loss="ensemble").fit(X, Y)
    stored = pickle.dumps(model)
    assert pickle.loads(stored).predict_proba(X).tolist() == model.predict_proba(X).tolist()
    longer = quick(loss="ensemble").fit(np.tile(X, (5, 1)), np.tile(Y, 5))
    assert len(pickle.dumps(longer)) < len(stored) + 500


def test_rows_are_predicted_alike_alone_and_together() -> None:
    model = quick(loss="smooth_ap_mix").fit(X, Y)
    alone = np.concatenate([model.decision_function(row[None]) for row in X[:20]])
    assert alone == pytest.approx(model.decision_function(X)[:20], rel=1e-9)


def test_weights_reach_the_loss_and_the_goal_and_rows_of_weight_zero_are_not_there() -> None:
    weight = np.where(Y == 1, 5.0, 1.0)
    heavy = quick(loss="prior_bias").fit(X, Y, sample_weight=weight)
    plain = quick(loss="prior_bias").fit(X, Y)
    assert heavy.predict_proba(X)[:, 1].mean() > plain.predict_proba(X)[:, 1].mean() + 0.1
    scaled = quick(loss="prior_bias").fit(X, Y, sample_weight=3 * weight)
    assert scaled.predict_proba(X) == pytest.approx(heavy.predict_proba(X), abs=1e-5)
    adjusted = quick(loss="adjusted", goal="balanced_accuracy")
    assert adjusted.fit(X, Y, sample_weight=weight).validation_score_ > 0.7
    keep = np.arange(len(X)) >= 30
    without = quick().fit(X[keep], Y[keep], sample_weight=np.ones(keep.sum()))
    masked = quick().fit(X, Y, sample_weight=keep.astype(float))
    assert masked.predict_proba(X).tolist() == without.predict_proba(X).tolist()


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (nn.BCEWithLogitsLoss(), "binary"),
        (nn.functional.binary_cross_entropy_with_logits, "multilabel"),
        (nn.CrossEntropyLoss(), "multiclass"),
        (SigmoidFocalLoss(), "binary"),
        (SoftmaxFocalLoss(), "multiclass"),
        (SmoothAPLoss(1, temperature=0.2, tau_scale="std"), "binary"),
        (SmoothAPLoss(3, temperature=0.2, tau_scale="std"), "multilabel"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_any_loss_trains_and_is_left_as_it_came(loss, kind) -> None:
    x, y = DATA[kind]
    before = pickle.dumps(loss)
    model = quick(loss=loss, max_epochs=20).fit(x, y)
    assert pickle.dumps(loss) == before
    assert model.recipe_.name == "prior_bias"
    shares = model.predict_proba(x)
    hot = y if kind == "multilabel" else np.eye(shares.shape[1])[y]
    assert average_precision_score(hot, shares) > hot.mean() + 0.2
    assert shares.mean(0) == pytest.approx(hot.mean(0), abs=0.1)


def test_a_loss_of_ones_own_hears_of_epochs_and_steps() -> None:
    heard = []

    class Listening(nn.BCEWithLogitsLoss):
        def on_train_epoch_start(self, epoch):
            heard.append(("epoch", epoch))

        def on_train_batch_start(self, step):
            heard.append(("step", step))

    quick(loss=Listening(), max_epochs=2, batch_size=200, refit=False).fit(X, Y)
    assert heard == [("epoch", 0), ("step", 0), ("step", 1), ("epoch", 1), ("step", 2), ("step", 3)]


class Wide(nn.Module):
    """A network with a batch norm, to see that averages and modes are right."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inputs, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.head = nn.Linear(8, outputs)

    def forward(self, x):
        return self.head(self.body(x))


@pytest.mark.parametrize("name", ["prior_bias", "weight_average"])
def test_a_network_of_ones_own_is_trained(name) -> None:
    model = quick(loss=name, module=Wide, max_epochs=30).fit(X, Y)
    assert average_precision_score(Y, model.decision_function(X)) > 0.8
    assert pickle.loads(pickle.dumps(model)).predict(X).tolist() == model.predict(X).tolist()


def test_it_stops_early_and_says_where(capsys) -> None:
    settings = {"max_epochs": 200, "patience": 2, "verbose": True, "refit": False}
    model = quick(loss="prior_bias", **settings).fit(X, Y)
    steps, values = zip(*model.history_, strict=True)
    assert max(values) == model.validation_score_
    assert len(steps) < 30
    told = capsys.readouterr().out.splitlines()
    assert len(told) == len(steps) + 1
    assert told[0].startswith(f"step {steps[0]} of 200 at most: ")


def test_names_of_columns_are_kept_and_compared() -> None:
    frame = pd.DataFrame(X, columns=list("abcdef"))
    model = quick(max_epochs=1).fit(frame, pd.Series(Y))
    assert model.feature_names_in_.tolist() == list("abcdef")
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[list("fedcba")])


def test_the_package_names_it_and_does_without_it() -> None:
    assert imbalanced_losses.RareClassClassifier is RareClassClassifier
    assert "RareClassClassifier" in dir(imbalanced_losses)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = imbalanced_losses.Nothing
    code = """
import sys
sys.modules["sklearn"] = None
from imbalanced_losses import *
import imbalanced_losses
try:
    imbalanced_losses.RareClassClassifier
except ImportError as error:
    print(error)
"""
    assert launch.python("-c", code).stdout.count('pip install ".[compare]"') == 1
