"""Targets of strings, booleans and numbers as class indices, zeros and ones."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from imbalanced_losses._errors import DataError, counted, missing_name, quoted
from imbalanced_losses.compare._table import Finding
from imbalanced_losses.recipes import Kind

_MISSING = {"", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "null"}
_YES = {"true": True, "false": False, "yes": True, "no": False}
# Numbers of more values are amounts, names of more are texts.
_MOST_FRACTIONS = 10
_MOST_INTEGERS = 100
_MOST_NAMES = 1000


@dataclass(frozen=True)
class Targets:
    """The first half of a `Table`: what its attributes of these names hold."""

    values: NDArray[np.int64] | NDArray[np.uint8]
    kind: Kind
    classes: tuple[str, ...]
    findings: tuple[Finding, ...] = ()


def read_targets(columns: Sequence[tuple[str, Any]], positive: Any = None) -> Targets:
    """Class indices of one target, or zeros and ones of several.

    Args:
        columns: Name and values of each target.
        positive: Of the classes, the one that counts as positive; all others together are the
            negative one. None: the rarer one of two.

    Raises:
        DataError: A value is missing, there is one class or far too many, `positive` is none of
            them, or a label of several is not of two values.
    """
    if len(columns) > 1:
        if positive is not None:
            raise DataError(
                "positive is for one target; with several, each says by itself which rows are "
                "positive: 1, true or yes."
            )
        labels = np.stack([_label(name, values) for name, values in columns], axis=1)
        return Targets(labels, "multilabel", tuple(name for name, _ in columns))
    ((name, values),) = columns
    codes, classes = class_codes(name, values)
    counts = np.bincount(codes, minlength=len(classes))
    if positive is not None:
        chosen = _class_named(name, positive, classes)
        negative = classes[1 - chosen] if len(classes) == 2 else f"not {classes[chosen]}"
        binary = (codes == chosen).astype(np.int64)
        return Targets(binary, "binary", (negative, classes[chosen]))
    if len(classes) > 2:
        return Targets(codes, "multiclass", classes)
    # Of two that are equally frequent, the second by name: 1, true, yes.
    rare = 1 if counts[1] <= counts[0] else 0
    message = (
        f"Taken as the positive class of {quoted(name)}, since it is the rarer one: "
        f"{quoted(classes[rare])} ({counts[rare]:,} of {counted(len(codes), 'row')})."
    )
    finding = Finding("positive", message, (name,))
    binary = (codes == rare).astype(np.int64)
    return Targets(binary, "binary", (classes[1 - rare], classes[rare]), (finding,))


def class_codes(name: str, values: Any) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Index of each row's class, and the names of the classes in order of value.

    1, 1.0, "1" and "1.0" are one class, called "1".
    """
    column = _settled(name, values)
    codes, distinct = pd.factorize(column, sort=True)
    if types.is_numeric_dtype(column.dtype) and not types.is_bool_dtype(column.dtype):
        whole = bool((distinct == np.floor(distinct)).all())
        _few_enough(name, len(distinct), _MOST_INTEGERS if whole else _MOST_FRACTIONS)
        words = [f"{value:.0f}" if whole else f"{value:g}" for value in distinct]
        names = tuple(words) if len(set(words)) == len(words) else tuple(map(str, distinct))
    else:
        _few_enough(name, len(distinct), _MOST_NAMES)
        names = tuple(map(str, distinct))
    if len(names) < 2:
        raise DataError(
            f"Target {quoted(name)} is {quoted(names[0])} in all of {counted(len(codes), 'row')}. "
            "Two classes are needed: are the rows of the other one in another file?"
        )
    return codes.astype(np.int64), names


def _settled(name: str, values: Any) -> pd.Series:
    """Booleans, floats or strings without a missing one."""
    column = pd.Series(values).reset_index(drop=True)
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object).infer_objects()
    missing = column.isna().to_numpy()
    if types.is_bool_dtype(column.dtype) and not missing.any():
        return column.astype(bool)
    if types.is_complex_dtype(column.dtype):
        raise DataError(f"Target {quoted(name)} holds complex numbers, which are no classes.")
    if not types.is_numeric_dtype(column.dtype):
        texts = column.map(_text)
        if texts.isna().any():
            raise DataError(
                f"Target {quoted(name)} holds cells that are neither numbers nor text, so that "
                "they name no class."
            )
        missing = missing | texts.str.casefold().isin(_MISSING).to_numpy()
        numbers = pd.to_numeric(texts.mask(missing), errors="coerce")
        column = numbers if (numbers.notna() | missing).all() else texts
    if types.is_numeric_dtype(column.dtype):
        column = pd.Series(column.to_numpy(np.float64, na_value=np.nan))
        infinite = int(np.isinf(column).sum())
        if infinite:
            raise DataError(
                f"Target {quoted(name)} is infinite in {counted(infinite, 'row')}. Remove these "
                "rows, or give them a class."
            )
    if missing.any():
        raise DataError(
            f"Target {quoted(name)} is missing in {int(missing.sum()):,} of "
            f"{counted(len(column), 'row')}, first in row {int(missing.argmax()) + 1:,}. Remove "
            "these rows, or give them a class."
        )
    return column


def _text(cell: Any) -> str | None:
    """What a cell says, or None where it holds more than one thing."""
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace").strip()
    if isinstance(cell, str):
        return cell.strip()
    if cell is None or (not pd.api.types.is_scalar(cell) and np.ndim(cell) > 0):
        return "" if cell is None else None
    if isinstance(cell, dict | set):
        return None
    return "" if pd.isna(cell) else str(cell)


def _few_enough(name: str, distinct: int, most: int) -> None:
    if distinct > most:
        raise DataError(
            f"Target {quoted(name)} has {distinct:,} different values, which are amounts or texts "
            f"rather than classes (at most {most:,} here). Turn it into classes first, such as "
            "above or below a limit."
        )


def _class_named(name: str, wanted: Any, classes: tuple[str, ...]) -> int:
    """Index of the class that the user means."""
    text = str(wanted).strip()
    spellings = [text, text.casefold()]
    with contextlib.suppress(ValueError):
        spellings.append(f"{float(text):g}")
    for spelling in spellings:
        for fold in (str, str.casefold):
            folded = [fold(one) for one in classes]
            if folded.count(spelling) == 1:
                return folded.index(spelling)
    raise missing_name(wanted, classes, f"class of {quoted(name)} called")


def _label(name: str, values: Any) -> NDArray[np.uint8]:
    """Zeros and ones of one label of several."""
    column = _settled(name, values)
    if column.dtype == object or types.is_string_dtype(column.dtype):
        column = column.str.casefold().map(_YES)
    if not column.isin([0, 1]).all():
        raise DataError(
            f"Target {quoted(name)} must hold 0 and 1, false and true, or no and yes, since it is "
            "one label of several. Name one target alone for more classes."
        )
    return column.to_numpy(np.float64).astype(np.uint8)
