"""Dates that are written as text."""

import warnings

import pandas as pd

from imbalanced_losses._errors import missing_extra


def parse_dates(column: pd.Series) -> pd.Series | None:
    """The dates in a column of strings, without time zone; None where one format does not fit all.

    The whole column decides whether day or month comes first.
    """
    # Costly to import, and tables of numbers do without.
    try:
        from skrub import ToDatetime
    except ModuleNotFoundError as error:
        raise ImportError(missing_extra(error)) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dates: pd.Series = ToDatetime().fit_transform(column)
        except ValueError:
            return None
    return dates if dates.dt.tz is None else dates.dt.tz_convert(None)
