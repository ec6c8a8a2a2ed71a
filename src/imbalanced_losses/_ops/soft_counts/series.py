"""The soft step and its slope as polynomials of the decay z, for the far sums of `blocks`."""

from torch import Tensor

from imbalanced_losses._ops.constants import constants


def series_coefficients(terms: int, like: Tensor) -> Tensor:
    """How K = `terms` decayed sums of either side enter the count and the slope, `[2, 2 K]`."""
    return constants(_coefficients, terms, like)


def _coefficients(terms: int) -> list[list[float]]:
    counts, slopes = _series(terms, derivative=False), _series(terms, derivative=True)
    return [[*counts, *(-c for c in counts)], [*slopes, *slopes]]


def _monomials(chebyshev: list[float]) -> list[float]:
    """Coefficients in z of sum_n chebyshev[n] T_n(2z - 1), with exact integer polynomials T_n."""
    size = len(chebyshev)
    result = [0.0] * size
    # T_0 = 1 and T_1 = 2z - 1, padded to one length; T_(n+1) = (4z - 2) T_n - T_(n-1).
    polynomial, following = [1] + [0] * size, [-1, 2] + [0] * (size - 1)
    for weight in chebyshev:
        result = [r + weight * p for r, p in zip(result, polynomial[:size], strict=True)]
        shifted = [0, *following[:-1]]
        after = [4 * s - 2 * f - p for s, f, p in zip(shifted, following, polynomial, strict=True)]
        polynomial, following = following, after
    return result


def _series(terms: int, *, derivative: bool) -> list[float]:
    """Polynomial p of `terms` coefficients with p(z) = 1 / (1 + z), or 1 / (1 + z)^2, on [0, 1].

    With x = 2z - 1, 1 / (1 + z) = 2 / (3 + x), whose Chebyshev series is
    (2 / sqrt 8) (1 + 2 sum_n (-rho)^n T_n(x)), rho = 3 - sqrt 8; the derivative of 1 / (a + x) by a
    at a = 3 gives the square. The kernels are z p(z), so their error is relative at small z.
    """
    root = 8**0.5
    rho = 1 / (3 + root)
    if derivative:
        chebyshev = [4 * (3 / root**3 + n / 8) * (-rho) ** n for n in range(terms)]
    else:
        chebyshev = [2 / root * (-rho) ** n for n in range(terms)]
    return _monomials([chebyshev[0], *(2 * c for c in chebyshev[1:])])
