"""The beta distribution in float64 and plain Python: torch has no incomplete beta function."""

import math
from functools import lru_cache

# A continued fraction needs about sqrt(a + b) terms; this many serve 10^9 rows.
_MOST_TERMS = 100_000
_TINY = 1e-300
_EPS = 1e-15


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function I_x(a, b), for a, b > 0 and x in [0, 1].

    By the continued fraction of DiDonato and Morris, "Algorithm 708", ACM TOMS 1992,
    https://doi.org/10.1145/131766.131776, in the older form of Abramowitz and Stegun 26.5.8, summed
    as Lentz does; on the side of the mean where it converges fast.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    log_front = _log_beta(a, b) + a * math.log(x) + b * math.log1p(-x)
    if x < (a + 1) / (a + b + 2):
        return min(1.0, math.exp(log_front) * _fraction(x, a, b) / a)
    return max(0.0, 1 - math.exp(log_front) * _fraction(1 - x, b, a) / b)


@lru_cache(maxsize=2**14)
def beta_quantile(p: float, a: float, b: float) -> float:
    """The x with I_x(a, b) = p, for 0 < p < 1, by Newton's steps inside a shrinking bracket."""
    low, high = 0.0, 1.0
    x = _first_guess(p, a, b)
    log_front = _log_beta(a, b)
    for _ in range(200):
        error = beta_cdf(x, a, b) - p
        low, high = (low, x) if error > 0 else (x, high)
        density = math.exp(log_front + (a - 1) * math.log(x) + (b - 1) * math.log1p(-x))
        newton = x - error / density if density > 0 else math.nan
        # Newton's steps double the digits, so after this one all are right.
        if abs(newton - x) <= 1e-7 * min(x, 1 - x):
            return min(max(newton, low), high)
        x = newton if low < newton < high else (low + high) / 2
    return x


def clopper_pearson(found: float, rows: float, alpha: float) -> tuple[float, float]:
    """Interval of a rate of which `found` in `rows` were seen; misses it in at most `alpha`.

    Clopper and Pearson, "The Use of Confidence or Fiducial Limits Illustrated in the Case of the
    Binomial", Biometrika 1934, https://doi.org/10.1093/biomet/26.4.404.
    """
    low = 0.0 if found <= 0 else beta_quantile(alpha / 2, found, rows - found + 1)
    high = 1.0 if found >= rows else beta_quantile(1 - alpha / 2, found + 1, rows - found)
    return low, high


def _log_beta(a: float, b: float) -> float:
    """Minus the logarithm of the beta function."""
    return math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)


def _fraction(x: float, a: float, b: float) -> float:
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > _TINY else _TINY)
    value = d
    for m in range(1, _MOST_TERMS):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 + term * d
            c = 1 + term / c
            d = 1 / (d if abs(d) > _TINY else _TINY)
            c = c if abs(c) > _TINY else _TINY
            value *= c * d
        if abs(c * d - 1) < _EPS:
            break
    return value


def _first_guess(p: float, a: float, b: float) -> float:
    """A point inside (0, 1): the normal approximation on the scale of the log-odds."""
    # Tukey's lambda is near enough to the normal quantile.
    z = 4.91 * (p**0.14 - (1 - p) ** 0.14)
    a, b = max(a - 0.5, 0.2), max(b - 0.5, 0.2)
    spread = math.sqrt(1 / a + 1 / b)
    odds = a / b * math.exp(max(-600.0, min(600.0, z * spread)))
    return min(max(odds / (1 + odds), 1e-300), 1 - 1e-16)
