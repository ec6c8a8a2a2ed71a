"""Paired differences over folds: an interval that knows that folds share rows, and Holm's p-values.

What `compare` says of two recipes on one table, and the study of many tables, come from here.
"""

from typing import Any, NamedTuple

from imbalanced_losses._checks import number

try:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray
    from scipy import special
except ModuleNotFoundError as error:
    raise ImportError(
        "Comparing recipes needs numpy and scipy: in a clone of this repository, "
        'pip install ".[compare]".'
    ) from error

__all__ = ["Interval", "corrected_interval", "holm"]


class Interval(NamedTuple):
    """A mean difference, the interval around it, and the p-value of "there is no difference"."""

    mean: float
    low: float
    high: float
    p: float


def corrected_interval(differences: ArrayLike, test_share: float, level: float = 0.95) -> Interval:
    """Mean of paired differences over folds with the corrected resampled t-test.

    Folds of one table share most of their training rows, so that their differences are not
    independent, and the variance of their mean does not fall with 1/n however often the table is
    split again. The correction adds the share of it that stays:

        t = mean / sqrt((1/n + n_test / n_train) * variance),    n - 1 degrees of freedom,

    with the variance over folds (ddof 1). Without it (`test_share=0`) this is the paired t-test,
    which on repeated folds of one table finds a difference that is not there several times as often
    as it says.

    Nadeau and Bengio, Inference for the Generalization Error, Machine Learning 52, 2003,
    https://doi.org/10.1023/A:1024068626366; for repeated folds see Bouckaert and Frank, Evaluating
    the Replicability of Significance Tests, PAKDD 2004.

    Args:
        differences: `[n]`, one difference between two recipes per fold of every repeat, n >= 2.
        test_share: Rows that a fold tests over all rows it has, n_test / (n_test + n_train), in
            [0, 1): 0.2 for five folds, whatever part of the training rows validates. The term
            n_test / n_train above is test_share / (1 - test_share).
        level: Probability with which the interval holds the true difference, in (0, 1).

    Returns:
        `(mean, low, high, p)`, p two-sided. All differences zero: p is 1 and the interval is
        [0, 0]. All equal and not zero: p is 0 and the interval is the mean alone.

    Raises:
        ValueError: For fewer than two differences, which have no spread, or for one that is not
            finite.
        TypeError: If a setting is not a number.

    Examples:
        >>> corrected_interval([0.02, 0.01, 0.03, 0.02, 0.04], test_share=0.2).p < 0.05
        True
    """
    test_share = number("test_share", test_share, at_least=0, below=1)
    level = number("level", level, above=0, below=1)
    values = _finite_vector("differences", differences, "leave the fold out of both recipes")
    if len(values) < 2:
        raise ValueError(
            f"differences must hold one number per fold of at least 2 folds; got {len(values)}. "
            "One difference has no spread: split the rows more often."
        )
    mean = float(values.mean())
    # Equal differences: subtracting their mean would leave rounding.
    spread = 0.0 if np.ptp(values) == 0 else float(values.std(ddof=1))
    error = spread * float(np.sqrt(1 / len(values) + test_share / (1 - test_share)))
    if error == 0:
        return Interval(mean, mean, mean, float(mean == 0))
    freedom = len(values) - 1
    half = error * float(special.stdtrit(freedom, (1 + level) / 2))
    p = 2 * float(special.stdtr(freedom, -abs(mean) / error))
    return Interval(mean, mean - half, mean + half, p)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """P-values adjusted for their number, so that all of them may be read at one level.

    The k-th smallest of m becomes the largest of (m - j + 1) p_(j) over j <= k, at most 1. Calling
    those below alpha different is wrong anywhere with a probability of at most alpha, however the
    tests depend on each other.

    Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of
    Statistics 6, 1979, https://www.jstor.org/stable/4615733.

    Args:
        p_values: `[m]`, in [0, 1], in any order; none gives none.

    Returns:
        `[m]` in the order of `p_values`, float64.

    Raises:
        ValueError: For a p-value outside [0, 1] or NaN.

    Examples:
        >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
        [0.03, 0.06, 0.06]
    """
    values = _finite_vector("p_values", p_values, "leave out what was not tested")
    outside = (values < 0) | (values > 1)
    if outside.any():
        raise ValueError(f"p_values must lie in [0, 1]; got {values[outside][0]}.")
    order = values.argsort()
    tests_left = np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(tests_left * values[order]), 1)
    return adjusted


def _finite_vector(name: str, value: Any, fix: str) -> NDArray[np.float64]:
    """The numbers as float64, or an error that says how to mend them."""
    try:
        vector = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be a list or array of numbers; got {value!r}.") from error
    if vector.ndim != 1:
        raise ValueError(f"{name} must have one dimension; got shape {list(vector.shape)}.")
    broken = np.flatnonzero(~np.isfinite(vector))
    if broken.size:
        first = broken[0]
        raise ValueError(f"{name} must be finite; number {first} is {vector[first]}: {fix}.")
    return vector
