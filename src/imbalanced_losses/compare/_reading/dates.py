"""Dates that are written as text."""

import warnings

import pandas as pd

from imbalanced_losses.compare._skrub import load_skrub


def parse_dates(column: pd.Series) -> pd.Series | None:
    """The dates in a column of strings, without time zone; None where one format does not fit all.

    The whole column decides whether day or month comes first.
    """
    skrub = load_skrub()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dates: pd.Series = skrub.ToDatetime().fit_transform(column)
        except ValueError:
            return None
    return dates if dates.dt.tz is None else dates.dt.tz_convert(None)
