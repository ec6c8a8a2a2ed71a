"""From a table to a decision: which recipe helps, where the threshold goes, what to expect."""

from imbalanced_losses._errors import DataError, missing_extra

try:
    from imbalanced_losses.compare._compare import compare
    from imbalanced_losses.compare._inspect import Inspection, inspect
    from imbalanced_losses.compare._result import (
        ClassCount,
        Comparison,
        Data,
        Decision,
        Difference,
        Estimate,
        Outcome,
        Scores,
    )
    from imbalanced_losses.compare._table import Finding, Table
except ModuleNotFoundError as error:
    raise ImportError(missing_extra(error)) from error

__all__ = [
    "ClassCount",
    "Comparison",
    "Data",
    "DataError",
    "Decision",
    "Difference",
    "Estimate",
    "Finding",
    "Inspection",
    "Outcome",
    "Scores",
    "Table",
    "compare",
    "inspect",
]
