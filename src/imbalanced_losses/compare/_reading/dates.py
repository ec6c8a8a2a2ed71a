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


def parse_dates_like(column: pd.Series, known: pd.Series) -> pd.Series | None:
    """`parse_dates` of another part of the data, with day and month in the order of `known`.

    A part without a day above 12 does not tell the order by itself; of the two, it is in the one by
    which more of its dates are known.
    """
    dates = parse_dates(column)
    if dates is None or not (dates.dt.day.fillna(1) <= 12).all():
        return dates
    parts = {"year": dates.dt.year, "month": dates.dt.day, "day": dates.dt.month}
    swapped = pd.to_datetime(pd.DataFrame(parts)) + (dates - dates.dt.normalize())
    return swapped if swapped.isin(known).sum() > dates.isin(known).sum() else dates
