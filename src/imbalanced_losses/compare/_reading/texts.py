"""Numbers that are written as text: money, thousands, percent, decimal commas."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_UNIT = r"(?:[$€£¥₹%]|USD|EUR|GBP|CHF)"
_SPACES = r"\s'\u2019"
_SIGN = r"[-+\u2212]?"
_NUMBER = re.compile(
    rf"(?P<open>\()?\s*(?P<sign>{_SIGN})\s*{_UNIT}?\s*(?P<sign2>{_SIGN})"
    rf"(?P<body>\d[\d.,{_SPACES}]*|[.,]\d+)(?P<exponent>[eE][-+]?\d+)?\s*{_UNIT}?\s*(?P<close>\))?"
)
_PLACEHOLDERS = {"?", "-", "--", "\u2013", ".", "*", "n.a.", "none", "unknown", "missing"}
_SHARE = 0.95
_GLANCE = 500


class Parsed(NamedTuple):
    """Numbers of a column of text.

    Attributes:
        values: float64, NaN where there is none.
        example: A text that became a number.
        broken: Texts that did not.
    """

    values: NDArray[np.float64]
    example: str
    broken: list[str]


def parse_numbers(column: pd.Series) -> Parsed | None:
    """The numbers in a column of strings, or None where it does not hold numbers.

    It does if at least 95 % of its different texts are numbers, placeholders such as "?" set aside.
    Codes with leading zeros are none. Which of comma and point is the decimal sign, the whole
    column decides.
    """
    codes, distinct = pd.factorize(column)
    texts = [str(text).strip() for text in distinct]
    if not texts or not _mostly_numbers(texts[:: max(1, len(texts) // _GLANCE)]):
        return None
    bodies = [_body(text) for text in texts]
    numbers = [body for body in bodies if body is not None]
    comma = _has_decimal_comma([body for body, _ in numbers])
    values = np.array([math.nan if body is None else _value(*body, comma) for body in bodies])
    read = ~np.isnan(values)
    broken = [text for text, fine in zip(texts, read, strict=True) if not fine]
    strange = [text for text in broken if text.casefold() not in _PLACEHOLDERS]
    if not read.any() or len(strange) > (1 - _SHARE) * (read.sum() + len(strange)):
        return None
    if any(re.fullmatch(r"0\d+", text) for text in texts):
        return None
    telling = (text for text, fine in zip(texts, read, strict=True) if fine)
    example = max(telling, key=lambda text: sum(not one.isdigit() for one in text))
    # Missing cells have the code -1.
    return Parsed(np.append(values, math.nan)[codes], example, broken)


def _mostly_numbers(texts: Sequence[str]) -> bool:
    """A glance that spares long texts the whole work; it errs on the side of numbers."""
    strange = [text for text in texts if text.casefold() not in _PLACEHOLDERS]
    found = sum(_body(text) is not None for text in strange)
    return found > 0 and found >= 0.8 * len(strange)


def _body(text: str) -> tuple[str, str] | None:
    """Digits with their separators, and a frame that holds sign and exponent."""
    found = _NUMBER.fullmatch(text)
    if not found or bool(found["open"]) != bool(found["close"]):
        return None
    if found["sign"] and found["sign2"]:
        return None
    negative = (found["sign"] or found["sign2"]) in ("-", "\u2212") or bool(found["open"])
    body = re.sub(rf"(?<=\d)[{_SPACES}](?=\d{{3}}(?!\d))", "", found["body"].strip())
    return body, f"{'-' * negative}{{}}{found['exponent'] or ''}"


def _has_decimal_comma(bodies: Sequence[str]) -> bool:
    """Whether the comma is the decimal sign; else it parts thousands."""
    long_without = any(re.fullmatch(r"\d{4,}", body) for body in bodies)
    for body in bodies:
        last = max(body.rfind(","), body.rfind("."))
        if "," in body and "." in body:
            return body[last] == ","
        if body.count(".") > 1:
            return True
        if body.count(",") == 1:
            before, after = body.split(",")
            if len(after) != 3 or before in ("", "0") or len(before) > 3 or long_without:
                return True
    return False


def _value(body: str, frame: str, comma: bool) -> float:
    """The number, or NaN where its separators do not part thousands."""
    thousands, decimal = (".", ",") if comma else (",", ".")
    whole, _, part = body.partition(decimal)
    grouped = re.fullmatch(rf"\d*|\d{{1,3}}(?:{re.escape(thousands)}\d{{3}})+", whole)
    if not grouped or not re.fullmatch(r"\d*", part) or not (whole or part):
        return math.nan
    return float(frame.format(f"{whole.replace(thousands, '') or '0'}.{part or '0'}"))
