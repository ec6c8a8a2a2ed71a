"""How the page writes a figure. Brackets are a 95 % interval wherever they stand behind a gain."""

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import pandas as pd

# Figures of `over_sets` by the names of its columns.
Row: TypeAlias = Mapping[Any, Any]


def interval(row: Row) -> str:
    """A mean gain and its interval over families, which too few families do not have."""
    if math.isnan(row["low"]):
        return f"{row['mean']:+.4f}"
    return f"{row['mean']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"


def gain(row: Row) -> str:
    """A gain with its interval, and how many sets were won and lost."""
    return f"{interval(row)}, {row['won']:.0f} won, {row['lost']:.0f} lost"


def count(row: Row) -> str:
    """Sets won, lost and tied."""
    return f"{row['won']:.0f}-{row['lost']:.0f}-{row['tied']:.0f}"


def worse(row: Row) -> str:
    """Sets that are worse by their own interval, and those that are after Holm's adjustment."""
    return f"{row['worse']:.0f} ({row['worse_holm']:.0f})"


def mean(table: pd.DataFrame, arm: Any, *, counted: bool = False) -> str:
    """An arm's mean gain, a dash where it was not measured."""
    if arm not in table.index:
        return "-"
    row: Row = table.to_dict("index")[arm]
    return f"{row['mean']:+.4f}" + (f" ({count(row)})" if counted else "")


def emphasised(table: pd.DataFrame, arm: Any) -> str:
    """An arm's gain, in bold where it is a loss beyond doubt."""
    if arm not in table.index:
        return "-"
    row: Row = table.to_dict("index")[arm]
    return f"**{interval(row)}**" if row["high"] < 0 else interval(row)


def p_value(p: float) -> str:
    """A p-value with the digits that it can carry."""
    if math.isnan(p):
        return "-"
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"


def rank(value: float) -> str:
    """A mean rank; a dash for an arm of too few sets."""
    return "-" if math.isnan(value) else f"{value:.1f}"


def capital(text: str) -> str:
    """A sentence begins."""
    return text[:1].upper() + text[1:]
