"""The estimator among scikit-learn's: its own checks, and the tools that take any classifier."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV, TunedThresholdClassifierCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from imbalanced_losses.estimator import RareClassClassifier

X, Y = make_classification(200, 5, weights=[0.9], class_sep=2, random_state=0)


def quick(**settings):
    given = {"hidden": (8,), "learning_rate": 0.02, "max_epochs": 15, "random_state": 0}
    return RareClassClassifier(**{**given, **settings})


WEIGHTS = "batches of rows with weights are not batches of repeated rows"
EXPECTED = {
    # Rows are held out and batches are drawn by place, so that another number of rows, or another
    # order, is another training. Rows of weight 0 are left out first.
    "check_sample_weight_equivalence": WEIGHTS,
    "check_sample_weight_equivalence_on_dense_data": WEIGHTS,
    "check_sample_weights_invariance": WEIGHTS,
}


@pytest.mark.no_cover  # long runs of what other tests cover
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [RareClassClassifier(hidden=(16,), learning_rate=0.01)],
    expected_failed_checks=lambda estimator: EXPECTED,
)
def test_the_estimator_passes_the_checks_of_scikit_learn(estimator, check) -> None:
    check(estimator.set_params(max_epochs=30))


def test_a_pipeline_and_cross_validation_take_it() -> None:
    model = make_pipeline(StandardScaler(), quick(standardize=False))
    scores = cross_validate(model, X, Y, cv=2, scoring=("average_precision", "roc_auc"))
    assert scores["test_average_precision"].min() > 0.8


def test_a_grid_search_chooses_among_recipes() -> None:
    grid = {"loss": ["prior_bias", "smooth_ap_mix"], "hidden": [(), (4,)]}
    search = GridSearchCV(quick(max_epochs=8), grid, cv=2, scoring="average_precision").fit(X, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.recipe_.name == search.best_params_["loss"]


def test_a_threshold_is_tuned_on_its_probabilities() -> None:
    tuned = TunedThresholdClassifierCV(quick(), scoring="f1", cv=2).fit(X, Y)
    flagged = tuned.predict_proba(X)[:, 1] >= tuned.best_threshold_
    assert np.array_equal(tuned.predict(X), flagged.astype(int))
    assert 0 < flagged.sum() < 40


def test_its_scores_are_calibrated_by_scikit_learn() -> None:
    calibrated = CalibratedClassifierCV(quick(), cv=2, method="sigmoid").fit(X, Y)
    assert calibrated.predict_proba(X)[:, 1].mean() == pytest.approx(Y.mean(), abs=0.04)


def test_a_clone_has_the_parameters_and_nothing_that_was_fitted() -> None:
    fitted = quick(loss="focal").fit(X, Y)
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert not [name for name in vars(copy) if name.endswith("_")]
    assert copy.fit(X, Y).predict_proba(X).tolist() == fitted.predict_proba(X).tolist()
