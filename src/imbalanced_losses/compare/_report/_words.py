"""Numbers and names as a reader wants them."""

import math
import unicodedata
from decimal import ROUND_HALF_UP, Decimal

from imbalanced_losses.compare._result import Estimate

NONE = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"
# Letters of Persian and emoji are joined and parted by these two; they turn no text around.
_JOINERS = "\u200c\u200d"
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def visible(name: str) -> str:
    r"""A name from the data, on one line, with everything that hides in it written out.

    Line breaks, control characters, marks that turn the direction of text and halves of surrogate
    pairs become escapes such as `\n`, so that no name can move or forge what stands beside it.
    Markup is not its concern: whoever writes it into a page escapes it there.

    Examples:
        >>> print(visible("due\n\u202edate"))
        due\n\u202edate
    """
    return "".join(_written_out(letter) if _hides(letter) else letter for letter in name)


def short(name: str, most: int) -> str:
    """A visible name of at most so many letters."""
    name = visible(name)
    return name if len(name) <= most else name[: most - 1].rstrip() + "…"


def fixed(value: float, digits: int = 3, *, sign: bool = False) -> str:
    """A number with so many decimals, halves away from 0 as a browser's `toFixed` has them.

    Examples:
        >>> fixed(0.0005), fixed(-0.012, sign=True), fixed(float("nan"))
        ('0.001', '−0.012', '–')
    """
    if not math.isfinite(value):
        return NONE
    rounded = Decimal(value).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP)
    plus = "+" if sign and rounded > 0 else ""
    # Decimal keeps the sign of -0.000.
    return plus + (f"{rounded:f}".replace("-", _MINUS) if rounded else f"{abs(rounded):f}")


def signed(value: float) -> str:
    """A difference: its sign always stands before it."""
    return fixed(value, sign=True)


def p_value(p: float) -> str:
    """A p-value; three decimals, and never 0."""
    return "< 0.001" if p < 0.0005 else fixed(p)


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage.

    Examples:
        >>> percent(0.054), percent(0.00012, 2)
        ('5.4 %', '0.01 %')
    """
    text = fixed(100 * share, digits)
    return text if text == NONE else f"{text} %"


def probability(value: float) -> str:
    """A probability with three digits that count, however small: a threshold.

    Examples:
        >>> probability(0.123456), probability(0.0000123456), probability(1.0)
        ('12.3 %', '0.00123 %', '100 %')
    """
    places = min(12, max(0, 2 - math.floor(math.log10(100 * value)))) if value > 0 else 0
    return percent(value, places)


def count(number: float) -> str:
    """A whole number with commas.

    Examples:
        >>> count(12345)
        '12,345'
    """
    return f"{number:,.0f}"


def between(low: float, high: float) -> str:
    """The two ends of an interval."""
    return f"{fixed(low)} to {fixed(high)}"


def estimate(found: Estimate | None, *, rate: bool = True) -> tuple[str, str]:
    """A figure and its interval: as percentages, or with one decimal where it is no rate."""
    if found is None:
        return NONE, ""
    write = percent if rate else fixed
    value, low, high = (write(part, 1) for part in found)
    if NONE in (low, high):
        return value, ""
    return value, f"{low.removesuffix(' %')} to {high}"


def seconds(value: float) -> str:
    """A time that a person can feel."""
    if not math.isfinite(value):
        return NONE
    if value < 10:
        return f"{value:.1f} s"
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.0f} min"


def _hides(letter: str) -> bool:
    if letter in _JOINERS:
        return False
    return unicodedata.category(letter) in _HIDDEN or ord(letter) & 0xFFFE == 0xFFFE


def _written_out(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
