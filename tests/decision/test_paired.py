"""Paired differences: against scipy, a brute force, and folds whose truth is known."""

import importlib
import sys
from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from imbalanced_losses._paired import corrected_interval, holm


def test_without_the_correction_it_is_the_paired_t_test() -> None:
    generator = np.random.default_rng(0)
    for n in (2, 3, 10, 40):
        one, other = generator.normal(0.3, 1, n), generator.normal(0, 1, n)
        expected = stats.ttest_rel(one, other)
        bounds = expected.confidence_interval(0.9)
        got = corrected_interval(one - other, test_share=0, level=0.9)
        np.testing.assert_allclose(
            got, [(one - other).mean(), bounds.low, bounds.high, expected.pvalue], rtol=1e-9
        )


def test_the_correction_widens_the_interval_by_the_share_of_test_rows() -> None:
    differences = np.random.default_rng(1).normal(0.5, 1, 15)
    plain = corrected_interval(differences, test_share=0)
    corrected = corrected_interval(differences, test_share=1 / 5)
    # Five folds train on four times as many rows as they test.
    wider = np.sqrt((1 / 15 + 1 / 4) / (1 / 15))
    assert corrected.mean == plain.mean
    assert corrected.high - corrected.low == pytest.approx(wider * (plain.high - plain.low))
    assert corrected.p > plain.p


def test_the_p_value_and_the_interval_agree() -> None:
    generator = np.random.default_rng(2)
    sides = set()
    for _ in range(50):
        got = corrected_interval(generator.normal(0.7, 1, 10), test_share=0.1)
        assert (got.p < 0.05) == (got.low > 0 or got.high < 0)
        sides.add(got.p < 0.05)
    assert sides == {True, False}


def differences_on_one_sample(generator: np.random.Generator, rows: int = 60) -> np.ndarray:
    """Two learners that are equally good, on five folds of ten repeats of one sample.

    Each fits a line through the origin to its own feature; the two features are exchangeable, so
    that the expected error is the same whatever rows they are fitted to.
    """
    features = generator.normal(size=(2, rows))
    labels = features.sum(0) + generator.normal(size=rows)
    found = []
    for _ in range(10):
        parts = generator.permutation(rows).reshape(5, -1)
        for test in parts:
            train = np.setdiff1d(np.arange(rows), test)
            fitted = features[:, train]
            slopes = fitted @ labels[train] / (fitted**2).sum(1)
            errors = (labels[test] - slopes[:, None] * features[:, test]) ** 2
            found.append(errors[0].mean() - errors[1].mean())
    return np.array(found)


def test_on_repeated_folds_of_one_sample_it_errs_no_more_often_than_it_says() -> None:
    generator = np.random.default_rng(3)
    samples = [differences_on_one_sample(generator) for _ in range(250)]
    corrected = [corrected_interval(found, test_share=1 / 5).p < 0.05 for found in samples]
    plain = [corrected_interval(found, test_share=0).p < 0.05 for found in samples]
    assert np.mean(corrected) <= 0.05
    # A test that takes folds for independent sees the sample, and is wrong far more often.
    assert np.mean(plain) > 0.25


def test_it_sees_a_difference_that_is_there() -> None:
    generator = np.random.default_rng(4)
    seen = [
        corrected_interval(differences_on_one_sample(generator) + 1.5, test_share=1 / 5).p < 0.05
        for _ in range(40)
    ]
    assert np.mean(seen) > 0.8


def test_no_difference_in_any_fold_is_no_difference() -> None:
    assert corrected_interval([0.0] * 5, test_share=0.2) == (0, 0, 0, 1)


def test_one_difference_in_all_folds_has_no_spread() -> None:
    assert corrected_interval([0.1] * 5, test_share=0.2) == pytest.approx((0.1, 0.1, 0.1, 0))


@pytest.mark.parametrize("few", [[], [0.1]])
def test_fewer_than_two_folds_are_refused(few: list[float]) -> None:
    with pytest.raises(ValueError, match=rf"at least 2 folds; got {len(few)}\..*split the rows"):
        corrected_interval(few, test_share=0.2)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_fold_without_a_value_is_refused(broken: float) -> None:
    with pytest.raises(ValueError, match=r"differences must be finite; number 1 is .*leave the"):
        corrected_interval([0.1, broken, 0.2], test_share=0.2)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"test_share": 1}, "test_share must be at least 0 and below 1; got 1"),
        ({"test_share": -0.1}, "test_share must be at least 0 and below 1; got -0.1"),
        ({"test_share": 0.2, "level": 1}, "level must be above 0 and below 1; got 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        corrected_interval([0.1, 0.2], **settings)


def test_differences_of_another_shape_or_kind_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"differences must have one dimension; got shape \[1, 2\]"
    ):
        corrected_interval([[0.1, 0.2]], test_share=0.2)
    with pytest.raises(TypeError, match="differences must be a list or array of numbers"):
        corrected_interval(["much", "more"], test_share=0.2)


def step_down(p_values: list[float]) -> list[float]:
    """The smallest level at which Holm's procedure rejects each, tried level by level."""
    levels = sorted({min(1, k * p) for p in p_values for k in range(1, len(p_values) + 1)} | {1})
    smallest = []
    for own in range(len(p_values)):
        for level in levels:
            rejected: set[int] = set()
            for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
                if p_values[index] * (len(p_values) - rank) > level:
                    break
                rejected.add(index)
            if own in rejected or level == 1:
                smallest.append(level)
                break
    return smallest


def test_holm_gives_the_level_at_which_each_is_first_rejected() -> None:
    generator = np.random.default_rng(5)
    for _ in range(50):
        p_values = (generator.random(generator.integers(1, 8)) ** 3).tolist()
        np.testing.assert_allclose(holm(p_values), step_down(p_values), rtol=1e-12)


def test_holm_keeps_the_order_that_was_given() -> None:
    expected = dict(zip([0.01, 0.02, 0.2, 0.5], holm([0.01, 0.02, 0.2, 0.5]), strict=True))
    for order in permutations(expected):
        assert holm(order).tolist() == [expected[p] for p in order]


def test_holm_of_edges() -> None:
    assert holm([]).tolist() == []
    assert holm([0.03]).tolist() == [0.03]
    assert holm([0.02, 0.02]).tolist() == [0.04, 0.04]
    assert holm([0.0, 1.0, 0.9]).tolist() == [0, 1, 1]


def test_holm_of_true_hypotheses_errs_no_more_often_than_it_says() -> None:
    tests = np.random.default_rng(6).random((2000, 6))
    assert np.mean([holm(row).min() < 0.05 for row in tests]) <= 0.055


@pytest.mark.parametrize("p", [-0.1, 1.1])
def test_holm_refuses_what_is_no_p_value(p: float) -> None:
    with pytest.raises(ValueError, match=r"p_values must lie in \[0, 1\]"):
        holm([0.1, p])


def test_holm_refuses_a_missing_test() -> None:
    with pytest.raises(ValueError, match=r"p_values must be finite; number 0 is nan: leave out"):
        holm([np.nan, 0.1])


@pytest.mark.parametrize("library", ["numpy", "scipy"])
def test_without_its_libraries_it_names_the_extra(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "imbalanced_losses._paired")
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    with pytest.raises(ImportError, match=r'pip install "\.\[compare\]"'):
        importlib.import_module("imbalanced_losses._paired")
