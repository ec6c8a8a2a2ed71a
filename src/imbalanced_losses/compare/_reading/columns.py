"""Feature columns as they can be used: plain types, numbers read, what says nothing left out."""

import re
from collections.abc import Collection, Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from imbalanced_losses._errors import counted, listed, quoted
from imbalanced_losses.compare._reading.dates import parse_dates, parse_dates_like
from imbalanced_losses.compare._reading.texts import parse_numbers
from imbalanced_losses.compare._table import Finding

_LARGEST = float(np.finfo(np.float32).max)
# Below these numbers of rows, different values in all of them are no sign of an id.
_FEWEST_ROWS = 20
_MANY_ROWS = 1000
_ID = re.compile(r"(?:^|[_\W])(?:id|ids|uid|uuid|guid)$", re.I)
_CAMEL = re.compile(r"[a-z](?:Id|ID|UUID)$")
_COUNTER = re.compile(
    r"(?:^|[_\W])(?:index|idx|row|record|no|nr|number|num|key|ref|reference|unnamed: \d+)$", re.I
)
# Seconds and milliseconds between 1980 and 2100.
_TIMES = ((3.1e8, 4.2e9), (3.1e11, 4.2e12))


def clean(
    frame: pd.DataFrame, keep: Collection[str] = ()
) -> tuple[pd.DataFrame, tuple[Finding, ...]]:
    """The columns that may help, in plain types, and what was done to them.

    Numbers are integers, floats or booleans, NaN where one is missing; anything else is text,
    categories or dates.

    Args:
        frame: Columns of any type.
        keep: Columns that stay although they look like ids or hold one value.
    """
    columns, findings = _plain_columns(frame)
    _read_numbers(columns, findings)
    _read_dates(columns, findings)
    _mask_infinite(columns, findings)
    _drop_empty(columns, findings)
    _drop_constant(columns, findings, keep)
    _drop_ids(columns, findings, keep)
    return pd.DataFrame(columns, index=frame.index, copy=False), tuple(findings)


def like(frame: pd.DataFrame, model: pd.DataFrame) -> pd.DataFrame:
    """The columns of `model` out of another file, in the same types, so that rows compare."""
    columns = {}
    for name, wanted in model.items():
        column = plain(frame[name])
        column = frame[name].astype(str) if column is None else column
        if types.is_numeric_dtype(wanted.dtype):
            if not types.is_numeric_dtype(column.dtype):
                parsed = parse_numbers(column)
                column = pd.to_numeric(column, errors="coerce") if parsed is None else column
                column = column if parsed is None else pd.Series(parsed.values, column.index)
            values = column.to_numpy(np.float64, na_value=np.nan)
            column = pd.Series(np.where(np.abs(values) > _LARGEST, np.nan, values), column.index)
        elif types.is_datetime64_any_dtype(wanted.dtype):
            dates = parse_dates_like(column, wanted)
            column = pd.Series(pd.NaT, frame.index) if dates is None else dates
        columns[name] = column
    return pd.DataFrame(columns, index=frame.index)


def plain(column: pd.Series) -> pd.Series | None:
    """The column as numbers, text or dates; None where its cells are none of them."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        column = column.astype(object).infer_objects()
        dtype = column.dtype
    if types.is_complex_dtype(dtype):
        return None
    if types.is_numeric_dtype(dtype):
        if types.is_extension_array_dtype(dtype):
            return pd.Series(column.to_numpy(np.float64, na_value=np.nan), column.index)
        return column
    if types.is_datetime64_any_dtype(dtype):
        return column
    if types.is_timedelta64_dtype(dtype):
        return pd.Series(column.dt.total_seconds())
    if isinstance(dtype, pd.PeriodDtype):
        return pd.Series(column.dt.to_timestamp())
    if isinstance(dtype, pd.IntervalDtype):
        return column.astype(str).where(column.notna())
    return _plain_objects(column)


def _plain_objects(column: pd.Series) -> pd.Series | None:
    """`plain` of a column whose cells can be anything."""
    kind = types.infer_dtype(column, skipna=True)
    if kind in ("string", "empty"):
        return column
    if kind in ("boolean", "integer", "floating", "mixed-integer-float", "decimal"):
        values = [np.nan if missing else float(cell) for cell, missing in _cells(column)]
        return pd.Series(values, column.index, dtype=np.float64)
    if kind in ("date", "datetime", "datetime64"):
        return pd.to_datetime(column, errors="coerce", utc=True).dt.tz_localize(None)
    if kind in ("timedelta", "timedelta64"):
        return pd.to_timedelta(column).dt.total_seconds()
    simple = (str, int, float, bool, Decimal, np.number, np.bool_)
    if all(missing or isinstance(cell, simple) for cell, missing in _cells(column)):
        return column.map(str, na_action="ignore")
    return None


def _cells(column: pd.Series) -> Iterator[tuple[Any, bool]]:
    return zip(column, column.isna(), strict=True)


Columns = dict[str, pd.Series]


def _plain_columns(frame: pd.DataFrame) -> tuple[Columns, list[Finding]]:
    given = {str(name): plain(column) for name, column in frame.items()}
    columns = {name: column for name, column in given.items() if column is not None}
    odd = tuple(name for name in given if name not in columns)
    if not odd:
        return columns, []
    message = f"Left out, since the cells are neither numbers nor text nor dates: {listed(odd)}."
    return columns, [Finding("unusable", message, odd)]


def _texts(columns: Columns) -> Iterator[tuple[str, pd.Series]]:
    for name, column in list(columns.items()):
        if not (
            types.is_numeric_dtype(column.dtype) or types.is_datetime64_any_dtype(column.dtype)
        ):
            yield name, column


def _read_numbers(columns: Columns, findings: list[Finding]) -> None:
    """Numbers written as text become numbers."""
    read, broken, cells = [], [], 0
    example = strange = ""
    for name, column in _texts(columns):
        parsed = parse_numbers(column)
        if parsed is None:
            continue
        numbers = pd.Series(parsed.values, column.index)
        read.append(name)
        example = example or parsed.example
        if parsed.broken:
            broken.append(name)
            cells += int((numbers.isna() & column.notna()).sum())
            strange = strange or parsed.broken[0]
        columns[name] = numbers
    if read:
        message = f"Read as numbers, although written as text such as {quoted(example)}: "
        findings.append(Finding("numbers", f"{message}{listed(read)}.", tuple(read)))
    if broken:
        message = (
            f"Taken as missing, {counted(cells, 'cell')} that hold no number, such as "
            f"{quoted(strange)}: {listed(broken)}."
        )
        findings.append(Finding("broken_numbers", message, tuple(broken)))


def _read_dates(columns: Columns, findings: list[Finding]) -> None:
    """Dates written as text become dates; whoever has any is told how folds treat time."""
    for name, column in _texts(columns):
        dates = parse_dates(column)
        if dates is not None:
            columns[name] = dates
    found = [
        name for name, column in columns.items() if types.is_datetime64_any_dtype(column.dtype)
    ]
    if found:
        message = (
            f"Dates: {listed(found)}. Every fold mixes earlier and later rows, so what is measured "
            "holds for rows of the same time. Where things change, judge the choice on later rows "
            "too."
        )
        findings.append(Finding("dates", message, tuple(found)))


def _mask_infinite(columns: Columns, findings: list[Finding]) -> None:
    """Infinite numbers, and those that float32 cannot hold, become missing."""
    found, cells = [], 0
    for name, column in columns.items():
        if not types.is_float_dtype(column.dtype):
            continue
        large = column.abs() > _LARGEST
        if large.any():
            found.append(name)
            cells += int(large.sum())
            columns[name] = column.mask(large)
    if found:
        message = (
            f"Taken as missing, {counted(cells, 'number')} that are infinite or beyond "
            f"{_LARGEST:.0e}: {listed(found)}."
        )
        findings.append(Finding("infinite", message, tuple(found)))


def _drop(columns: Columns, names: list[str], findings: list[Finding], code: str, why: str) -> None:
    if names:
        findings.append(Finding(code, f"Left out, {why}: {listed(names)}.", tuple(names)))
        for name in names:
            del columns[name]


def _drop_empty(columns: Columns, findings: list[Finding]) -> None:
    empty = [name for name, column in columns.items() if column.isna().all()]
    _drop(columns, empty, findings, "empty", "since every cell is missing")


def _drop_constant(columns: Columns, findings: list[Finding], keep: Collection[str]) -> None:
    same = [name for name, column in columns.items() if name not in keep and _is_constant(column)]
    _drop(columns, same, findings, "constant", "since every row has the same value")


def _is_constant(column: pd.Series) -> bool:
    first = column.iloc[0]
    return not pd.isna(first) and bool((column == first).all())


def _drop_ids(columns: Columns, findings: list[Finding], keep: Collection[str]) -> None:
    """Names of rows teach nothing of other rows; names of what several rows share make a leak."""
    ids, shared = [], []
    for name, column in columns.items():
        if name in keep or len(column) < _FEWEST_ROWS:
            continue
        distinct, present = column.nunique(), int(column.notna().sum())
        # Doubled rows double their ids.
        if distinct >= 0.99 * present and present >= 0.99 * len(column):
            if _names_rows(name, column, distinct):
                ids.append(name)
        elif _is_id_name(name) and distinct > 0.01 * present and distinct > _FEWEST_ROWS:
            shared.append(name)
    why = "since it is different in every row, as an id is (to use it, name it with keep)"
    _drop(columns, ids, findings, "id", why)
    if shared:
        message = (
            f"Looks like an id that rows share: {listed(shared)}. Name it as group to keep its "
            "rows in one fold, or as drop to leave it out."
        )
        findings.append(Finding("id_like", message, tuple(shared)))


def _is_id_name(name: str) -> bool:
    return bool(_ID.search(name) or _CAMEL.search(name))


def _names_rows(name: str, column: pd.Series, distinct: int) -> bool:
    """Whether a column that differs in every row is an id, and no measurement, text or date."""
    if types.is_datetime64_any_dtype(column.dtype):
        return False
    if not types.is_numeric_dtype(column.dtype):
        some = column.dropna().astype(str).head(_MANY_ROWS)
        return not some.str.contains(r"\s").any()
    values = column.dropna().to_numpy(np.float64)
    if (values != np.floor(values)).any():
        return False
    low, high = values.min(), values.max()
    if high - low < 1.02 * distinct or _is_id_name(name) or _COUNTER.search(name):
        return True
    times = any(first <= low and high <= last for first, last in _TIMES)
    return len(values) >= _MANY_ROWS and not times
