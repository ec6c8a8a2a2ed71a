"""Frozen dataclasses of plain values as rows of a CSV file."""

import csv
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")


def read(path: Path, kind: type[Record]) -> list[Record]:
    """The rows of a file; none where there is no file."""
    if not path.exists():
        return []
    types = {field.name: field.type for field in fields(kind)}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames is None or set(reader.fieldnames) != set(types):
            raise ValueError(
                f"{path} has other columns than this version writes; move it away or "
                "choose another folder with --output."
            )
        return [
            kind(**{name: _value(types[name], text) for name, text in row.items()})
            for row in reader
        ]


def write(path: Path, records: Iterable["DataclassInstance"]) -> None:
    """Write the rows, in place of a file that is there."""
    path.unlink(missing_ok=True)
    append(path, records)


def append(path: Path, records: Iterable["DataclassInstance"]) -> None:
    """Add rows, below a line of names where the file is new."""
    rows = [asdict(record) for record in records]
    if not rows:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        if fresh:
            writer.writeheader()
        writer.writerows({name: _text(value) for name, value in row.items()} for row in rows)


def _text(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value


def _value(kind: Any, text: str) -> Any:
    if kind is str:
        return text
    if kind is bool:
        return text == "True"
    if not text:
        return None
    return int(text) if kind in (int, int | None) else float(text)
