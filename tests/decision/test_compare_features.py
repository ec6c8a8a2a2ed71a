"""Raw columns as numbers: learnt from the training rows alone, the same for the same rows."""

import pickle
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from imbalanced_losses.compare._features import ToNumbers


def mixed(rows=200, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "amount": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows)),
            "count": rng.integers(0, 9, rows),
            "flag": rng.random(rows) < 0.5,
            "shop": rng.choice(["north", "south", None], rows),
            "size": pd.Categorical(rng.choice(list("SML"), rows)),
            "day": pd.date_range("2024-01-01", periods=rows, freq="D").astype(str),
            "at": pd.date_range("2024-01-01", periods=rows, freq="h"),
            "note": [f"word{rng.integers(90)} of {rng.integers(90)}" for _ in range(rows)],
        }
    )


def test_mixed_columns_become_finite_float32_numbers_with_a_name_each():
    encoder = ToNumbers()
    numbers = encoder.fit_transform(mixed())
    assert numbers.dtype == np.float32
    assert np.isfinite(numbers).all()
    assert numbers.shape == (200, len(encoder.names_))
    assert list(encoder.get_feature_names_out()) == encoder.names_
    wanted = {"amount", "count", "flag", "amount is missing", "shop_north", "size_S", "day_month"}
    assert wanted <= set(encoder.names_)


def test_a_gap_becomes_the_median_of_the_training_rows_and_is_flagged():
    train = pd.DataFrame({"a": [1.0, 2.0, np.nan, 30.0], "b": [1.0, 2.0, 3.0, 4.0]})
    encoder = ToNumbers()
    numbers = encoder.fit_transform(train)
    assert encoder.names_ == ["a", "b", "a is missing"]
    assert numbers[2].tolist() == [2.0, 3.0, 1.0]
    # A gap where the training rows had none is filled, without a column of its own.
    later = encoder.transform(pd.DataFrame({"a": [np.nan], "b": [np.nan]}))
    assert np.isfinite(later).all()
    assert later[0, [0, 2]].tolist() == [2.0, 1.0]
    assert later[0, 1] == 2.5


def test_nothing_is_learnt_from_the_rows_that_are_only_transformed():
    frame = mixed()
    train, test = frame[:150], frame[150:]
    encoder = ToNumbers().fit(train)
    before = encoder.transform(train)
    changed = test.assign(amount=1e6, shop="elsewhere", note="quite another text")
    assert np.isfinite(encoder.transform(changed)).all()
    np.testing.assert_array_equal(encoder.transform(train), before)


def test_a_category_that_was_never_seen_is_none_of_those_known():
    train = pd.DataFrame({"shop": ["north", "south"] * 10})
    encoder = ToNumbers().fit(train)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        later = encoder.transform(pd.DataFrame({"shop": ["west", None]}))
    assert later.tolist() == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("empty", [[None] * 6, [np.nan] * 6], ids=["text", "numbers"])
def test_a_column_without_a_value_in_the_training_rows_is_left_out(empty):
    train = pd.DataFrame({"a": range(6), "empty": empty})
    encoder = ToNumbers()
    assert encoder.fit_transform(train).shape == (6, 1)
    value = "something" if empty[0] is None else 3.0
    later = train.assign(empty=pd.Series([value] * 6))
    assert encoder.transform(later).shape == (6, 1)


def test_the_same_rows_give_the_same_numbers():
    first, second = ToNumbers(seed=3), ToNumbers(seed=3)
    np.testing.assert_array_equal(first.fit_transform(mixed()), second.fit_transform(mixed()))
    np.testing.assert_array_equal(first.transform(mixed()), first.fit_transform(mixed()))


def test_it_survives_pickling_and_cloning():
    encoder = ToNumbers(seed=5).fit(mixed())
    again = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(again.transform(mixed(seed=1)), encoder.transform(mixed(seed=1)))
    assert clone(encoder).seed == 5


def test_an_array_of_numbers_passes_as_it_is():
    values = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    encoder = ToNumbers()
    np.testing.assert_array_equal(encoder.fit_transform(values), values)
    assert encoder.names_ == ["x0", "x1", "x2", "x3"]
    values[3, 1] = np.nan
    filled = encoder.fit_transform(values)
    assert filled.shape == (50, 5)
    assert filled[3, 1] == pytest.approx(np.nanmedian(values[:, 1]))


def test_small_differences_far_from_zero_survive_float32():
    seconds = 1.7e9 + np.arange(100.0)
    for features in (seconds[:, None], pd.DataFrame({"at": seconds})):
        numbers = ToNumbers().fit_transform(features)[:, 0]
        np.testing.assert_array_equal(np.diff(numbers), np.ones(99))


def test_numbers_beyond_float32_are_cut_and_not_infinite():
    numbers = ToNumbers().fit_transform(np.array([[1e300], [-1e300], [0.0]]))
    assert np.isfinite(numbers).all()
    assert numbers[0] > numbers[2] > numbers[1]


def test_skrub_is_named_where_a_table_needs_it_and_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "skrub", None)
    ToNumbers().fit(np.eye(3))
    with pytest.raises(ImportError, match=r'needs skrub.*pip install "\.\[compare\]"'):
        ToNumbers().fit(pd.DataFrame({"shop": ["north", "south"]}))


def test_few_training_rows_are_enough():
    encoder = ToNumbers().fit(mixed(rows=3))
    assert encoder.transform(mixed(rows=40)).shape == (40, len(encoder.names_))


def test_rows_out_of_order_keep_their_place():
    frame = mixed()
    encoder = ToNumbers().fit(frame)
    order = np.random.default_rng(1).permutation(len(frame))
    np.testing.assert_allclose(
        encoder.transform(frame.iloc[order]), encoder.transform(frame)[order], atol=1e-5
    )


def test_it_must_be_fitted_first():
    with pytest.raises(ValueError, match="not fitted"):
        ToNumbers().transform(mixed())
