"""From a table to a decision: which recipe helps, where the threshold goes, what to expect."""

from imbalanced_losses.compare._compare import compare
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

__all__ = [
    "ClassCount",
    "Comparison",
    "Data",
    "Decision",
    "Difference",
    "Estimate",
    "Finding",
    "Outcome",
    "Scores",
    "Table",
    "compare",
]
