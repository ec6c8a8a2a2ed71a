"""Raw columns as numbers, by what the training rows of a fold show."""

import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_numeric_dtype
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.validation import check_is_fitted

from imbalanced_losses.compare._skrub import load_skrub

Floats: TypeAlias = NDArray[np.floating]
Numbers: TypeAlias = NDArray[np.float32]

# A text or category of so many values or more becomes a few numbers instead of one for each value.
_MANY_VALUES = 40
_TEXT_NUMBERS = 30
# float32 keeps seven digits: of a column that lies further from 0 than so many of its half-widths,
# less than four would be left.
_LARGE_OFFSET = 1e3
_LARGEST = float(np.finfo(np.float32).max)


class ToNumbers(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Make float32 numbers without gaps out of the raw columns of a `Table`.

    Numbers stay as they are; a missing one becomes the median of the training rows, and each column
    with missing ones gets another that says where. Categories get a column for each value, texts
    and categories of 40 values or more 30 numbers from their letters, dates their parts. Everything
    is learnt from the rows that are given to `fit`: a category that appears later is none of those
    known, a column without a value there is left out. Scaling is left to the model.

    The same rows give the same numbers: what is random has the seed.

    Args:
        seed: Of the projection that makes numbers out of texts.

    Attributes:
        names_: What each number is called.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, features: Any, y: Any = None) -> "ToNumbers":
        """Learn from the training rows of a fold.

        Args:
            features: `Table.features` or some of its rows.
            y: Ignored.
        """
        self.fit_transform(features)
        return self

    def fit_transform(self, features: Any, y: Any = None, **_: Any) -> Numbers:
        """`fit`, and the numbers of the same rows, float32 `[N, len(names_)]`."""
        numbers, names, others = _parted(features)
        self.gaps_ = _Gaps(numbers, names)
        parts = [self.gaps_.fill(numbers)]
        self.names_ = self.gaps_.names
        self.encoder_ = None
        if others.shape[1]:
            self.encoder_ = _encoder(self.seed)
            encoded = _quietly(self.encoder_.fit_transform, others)
            values = encoded.to_numpy(np.float32)
            self.rest_ = _Gaps(values, list(map(str, encoded.columns)))
            parts.append(self.rest_.fill(values))
            self.names_ = self.names_ + self.rest_.names
        return np.concatenate(parts, axis=1)

    def transform(self, features: Any) -> Numbers:
        """The numbers of other rows with the same columns, float32 `[N, len(names_)]`."""
        check_is_fitted(self, "gaps_")
        numbers, _, others = _parted(features)
        parts = [self.gaps_.fill(numbers)]
        if self.encoder_ is not None:
            encoded = _quietly(self.encoder_.transform, others)
            parts.append(self.rest_.fill(encoded.to_numpy(np.float32)))
        return np.concatenate(parts, axis=1)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """`names_` as scikit-learn asks for them."""
        check_is_fitted(self, "gaps_")
        return np.array(self.names_, dtype=object)


class _Gaps:
    """Columns of numbers whose gaps are filled by what the training rows show."""

    def __init__(self, values: Floats, names: list[str]) -> None:
        missing = np.isnan(values)
        self.kept = np.flatnonzero(~missing.all(0))
        values, missing = values[:, self.kept], missing[:, self.kept]
        self.flagged = np.flatnonzero(missing.any(0))
        self.fillers = np.median(values, axis=0)
        self.fillers[self.flagged] = np.nanmedian(values[:, self.flagged], axis=0)
        self.offsets = _offsets(values)
        names = [names[k] for k in self.kept]
        self.names = names + [f"{names[k]} is missing" for k in self.flagged]

    def fill(self, values: Floats) -> Numbers:
        """The columns without gaps, and those that say where gaps were."""
        values = values[:, self.kept]
        missing = np.isnan(values)
        if missing.any():
            values = np.where(missing, self.fillers, values)
        if self.offsets.any():
            values = values - self.offsets
        filled = np.clip(values, -_LARGEST, _LARGEST).astype(np.float32, copy=False)
        return np.concatenate([filled, missing[:, self.flagged].astype(np.float32)], axis=1)


def _offsets(values: Floats) -> Floats:
    """What to take off each column before it is rounded to float32; 0 where nothing is lost."""
    if values.dtype == np.float32:
        return np.zeros(values.shape[1])
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    middle = low / 2 + high / 2
    return np.where(np.abs(middle) > _LARGE_OFFSET * (high / 2 - low / 2), middle, 0.0)


def _parted(features: Any) -> tuple[Floats, list[str], pd.DataFrame]:
    """The numbers among the columns, what they are called, and the other columns."""
    if not isinstance(features, pd.DataFrame):
        values = np.asarray(features)
        values = values if values.dtype == np.float32 else values.astype(np.float64)
        return values, [f"x{k}" for k in range(values.shape[1])], pd.DataFrame()
    numeric = [is_numeric_dtype(dtype) for dtype in features.dtypes]
    numbers = features.loc[:, numeric]
    names = list(map(str, numbers.columns))
    others = features.loc[:, np.logical_not(numeric)]
    return numbers.to_numpy(np.float64, na_value=np.nan), names, others


def _encoder(seed: int) -> Any:
    """Skrub's vectorizer, with nothing left to chance."""
    skrub = load_skrub()
    return skrub.TableVectorizer(
        cardinality_threshold=_MANY_VALUES,
        low_cardinality=OneHotEncoder(
            handle_unknown="ignore", sparse_output=False, dtype=np.float32
        ),
        high_cardinality=skrub.StringEncoder(n_components=_TEXT_NUMBERS, random_state=seed),
        datetime=skrub.DatetimeEncoder(add_weekday=True),
    )


def _quietly(call: Callable[[pd.DataFrame], pd.DataFrame], frame: pd.DataFrame) -> pd.DataFrame:
    """Unseen categories, texts of few letters and odd dates are expected, not worth a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(frame)
