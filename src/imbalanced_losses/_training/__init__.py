"""How the estimator and `compare` train: a recipe and rows in, a fitted network out."""
