"""From a table to a decision: which recipe helps, where the threshold goes, what to expect."""

try:
    from imbalanced_losses.compare._compare import compare
    from imbalanced_losses.compare._errors import DataError
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
    raise ImportError(
        f"imbalanced_losses.compare needs {error.name}, which the compare extra of this repository "
        'installs: in its clone, pip install ".[compare]".'
    ) from error

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
