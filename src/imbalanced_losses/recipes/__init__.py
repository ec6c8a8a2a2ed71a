"""Recipes: whole ways to train for a rare class, and which of them the evidence backs.

A recipe is a loss with everything that has to fit it: initialisation, order of the rows, averaging,
decision, and the way back to probabilities. It is plain data. `RECIPES` holds all of them by name,
`for_problem` those that suit a kind of problem, and `recommend` the one to begin with.
"""

from imbalanced_losses.recipes._advice import (
    BASELINE,
    GOALS,
    RECIPES,
    Capacity,
    Goal,
    for_problem,
    recommend,
)
from imbalanced_losses.recipes._problem import Kind, Problem
from imbalanced_losses.recipes._recipe import Recipe

__all__ = [
    "BASELINE",
    "GOALS",
    "RECIPES",
    "Capacity",
    "Goal",
    "Kind",
    "Problem",
    "Recipe",
    "for_problem",
    "recommend",
]
