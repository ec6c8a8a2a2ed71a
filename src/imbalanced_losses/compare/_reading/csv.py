"""CSV of any delimiter and encoding, as a frame; refused by size before it is read."""

import codecs
import contextlib
import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from imbalanced_losses._errors import DataError, counted, doubled, quoted
from imbalanced_losses.compare._table import Finding

MOST_BYTES = 1_000_000_000
"""A larger CSV file is refused: in memory it can take several times as much."""

# Enough for the header of ten thousand columns and for a few rows behind it.
_SAMPLE = 2**20
# Of the column that a delimiter at the end of each row makes.
_NO_NAME = "\0"
_DELIMITERS = ",;\t|"
_MISSING = (
    *("", "NA", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "<NA>", "NaN", "nan", "-NaN", "-nan"),
    *("NULL", "null", "None", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_OTHER_TEXT = re.compile(r"\s*(<[!?a-zA-Z]|\{\s*[\"}]|\[\s*[{\[])")


class Dialect(NamedTuple):
    """How the rows of a file are written."""

    delimiter: str
    header: list[str]
    skipped: int
    trailing: bool


def read_csv(path: Path, targets: Sequence[str]) -> tuple[pd.DataFrame, tuple[Finding, ...]]:
    """All rows, and what was met in reading them.

    The columns in `targets` stay the strings that they are, so that a class may be called "None".

    Raises:
        DataError: The file is no table, or larger than `MOST_BYTES`.
    """
    name, size = quoted(path.name), path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_SAMPLE)
    if size > MOST_BYTES:
        rows = round(size * max(1, start.count(b"\n")) / len(start), -3)
        raise DataError(
            f"{name} is too large: {size / 1e9:,.1f} GB, about {rows:,.0f} rows, and a CSV file of "
            f"at most {MOST_BYTES / 1e9:g} GB is read. Draw a sample of its rows, or store it as "
            "Parquet, which takes a fraction of that."
        )
    encoding = next((word for mark, word in _MARKS.items() if start.startswith(mark)), "utf-8")
    if encoding.startswith("utf-8") and b"\0" in start:
        raise DataError(f"{name} is no table: it holds binary data. Give CSV, Parquet or NPZ.")
    text = codecs.getincrementaldecoder(encoding)("replace").decode(start)
    if _OTHER_TEXT.match(text):
        raise DataError(f"{name} is no table: it looks like HTML, XML or JSON. Give a CSV file.")
    dialect = sniff(name, text, whole=size <= _SAMPLE)
    try:
        return _read(path, dialect, encoding, targets), ()
    except UnicodeDecodeError:
        # Older spreadsheets write so; it can read any file, rightly or not.
        frame = _read(path, dialect, "cp1252", targets)
        message = (
            f"{name} is not UTF-8 and was read as Windows-1252: letters beyond ASCII may be wrong."
        )
        return frame, (Finding("encoding", message),)


def sniff(name: str, text: str, *, whole: bool) -> Dialect:
    """The delimiter by which most rows have as many fields as the header.

    Args:
        name: Of the file, for messages.
        text: Its beginning.
        whole: Whether that is all of it; else the last row may be cut and is left out.
    """
    hint = re.match(r"sep=(.)\r?\n", text)
    skipped = 1 if hint else 0
    text = text[hint.end() :] if hint else text
    best, chosen = (-1.0, 0), None
    for delimiter in hint[1] if hint else _DELIMITERS:
        rows = _rows(text, delimiter)
        rows = rows if whole else rows[:-1]
        if not rows:
            continue
        width = len(rows[0])
        lengths = Counter(len(row) for row in rows[1:])
        # A row may end with a delimiter that the header does not have.
        longer = lengths[width + 1] > len(rows[1:]) / 2
        fitting = lengths[width + longer] / max(1, len(rows[1:]))
        merit = (fitting if width > 1 else 0.0, width)
        if merit > best:
            best, chosen = merit, (delimiter, rows, longer)
    if chosen is None:
        raise DataError(f"{name} is no table: it has no line with names of columns.")
    delimiter, rows, longer = chosen
    header = rows[0]
    named = [column for column in header if column]
    if len(set(named)) < len(named):
        raise DataError(doubled(name, named))
    return Dialect(delimiter, header, skipped, longer)


def _rows(text: str, delimiter: str) -> list[list[str]]:
    """The rows that this delimiter makes, as far as they can be told."""
    rows: list[list[str]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    # A field beyond all bounds comes of a quote that is never closed, of which the parser speaks.
    with contextlib.suppress(csv.Error):
        rows.extend(row for row in reader if row)
    return rows


def _read(path: Path, dialect: Dialect, encoding: str, targets: Sequence[str]) -> pd.DataFrame:
    name = quoted(path.name)
    columns = [*dialect.header, _NO_NAME] if dialect.trailing else dialect.header
    try:
        frame = pd.read_csv(
            path,
            sep=dialect.delimiter,
            skiprows=dialect.skipped,
            skipinitialspace=True,
            names=columns if dialect.trailing else None,
            header=0,
            dtype={one: str for one in targets if one in dialect.header},
            # What is missing in a target, its reader decides.
            keep_default_na=False,
            na_values={one: _MISSING for one in columns if one not in targets},
            encoding=encoding,
            encoding_errors="replace" if encoding == "cp1252" else "strict",
            low_memory=False,
        )
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{name} is empty.") from error
    except pd.errors.ParserError as error:
        raise DataError(_broken(name, str(error))) from error
    spilled = dialect.trailing and frame.pop(_NO_NAME).notna().any()
    if spilled or not isinstance(frame.index, pd.RangeIndex):
        raise DataError(_too_wide(name, len(dialect.header)))
    return frame


def _too_wide(name: str, width: int) -> str:
    return (
        f"{name} has rows of more fields than the {counted(width, 'column')} that its first line "
        "names. Give every column a name, and put quotes around text that holds the delimiter."
    )


def _broken(name: str, reason: str) -> str:
    """What the parser met, in our words where they are known."""
    if found := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", reason):
        wanted, line, fields = found.groups()
        return (
            f"{name} has {fields} fields in line {line}, where {wanted} were expected. Put quotes "
            "around text that holds the delimiter."
        )
    if found := re.search(r"EOF inside string starting at row (\d+)", reason):
        return f"{name} has a quote in row {int(found[1]) + 1} that is never closed."
    return f"{name} cannot be read as CSV: {reason.splitlines()[0][:200]}"
