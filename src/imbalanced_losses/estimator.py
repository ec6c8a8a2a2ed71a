"""A scikit-learn classifier for rare classes: a recipe, a network, and a stop at its goal."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from imbalanced_losses import _checks
from imbalanced_losses._goals import Judge
from imbalanced_losses._training.fit import FitSettings, fit
from imbalanced_losses.recipes import BASELINE, RECIPES, Capacity, Goal, Kind, Recipe, recommend

try:
    import numpy as np
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted

    from imbalanced_losses._training.rows import (
        Scaler,
        problem_of,
        read_targets,
        row_weights,
        split,
    )
except ModuleNotFoundError as error:
    raise ImportError(
        "RareClassClassifier needs scikit-learn: in a clone of this repository, "
        'pip install ".[compare]".'
    ) from error

try:
    from sklearn.utils.validation import validate_data
except ImportError:  # scikit-learn 1.5 has it as a method

    def validate_data(estimator: Any, *args: Any, **options: Any) -> Any:
        return estimator._validate_data(*args, **options)


__all__ = ["RareClassClassifier"]

# Parameters that the training reads.
_SETTINGS = [field.name for field in dataclasses.fields(FitSettings) if field.name != "seed"]
# Fewest units of a layer up to which `recommend` is asked for a small net.
_SMALL = 8


class RareClassClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A neural network for a rare class that trains by a recipe and stops early at its goal.

    Args:
        loss: `"auto"` takes what `recipes.recommend` names for the goal, the kind of problem and
            the size of the network: for binary average precision the mean of four networks mixed
            with Smooth-AP, which take fifteen times as long (50 s for 3 s on 4,819 rows) as the one
            of `"prior_bias"`. Else the name of a recipe in `recipes.RECIPES`, a `Recipe`, or a loss
            of your own: a module or function called as `loss(logits, targets)`, with
            `sample_weight=` where `fit` gets one. Logits are `[N, 1]` for binary problems and
            `[N, C]` otherwise; targets are class indices `[N]` for multiclass problems, and zeros
            and ones of the logits' shape for the other two.
        goal: What is to be high on new rows, one of `recipes.GOALS`. `"tail_accuracy"` is for many
            classes: of two it is 1 where every row is called rare.
        budget: For `"partial_auc"`, `"recall_at_fpr"` and `"recall_at_budget"`, and for recipes
            that look at a budget: the false-positive rate or share of alerts, in (0, 1). None:
            0.01.
        hidden: Units of the hidden layers; `()` is a linear model.
        module: A network of your own in the place of that one: a function or class called as
            `module(n_features, n_outputs)` that returns an `nn.Module` from rows
            `[N, n_features]` to logits `[N, n_outputs]`, its last linear layer being the output.
        max_epochs: Passes over the training rows at most; `"auto"`: about 2,000 steps, in 5 to 400
            passes.
        batch_size: Rows in a batch at most.
        learning_rate: Of AdamW, falling to 0 along a cosine. `"auto"` tries three and keeps the
            network that did best on the validation rows, which takes three times as long and is
            often worth more than the choice of the loss.
        weight_decay: Of AdamW.
        dropout: Share of the hidden units that is left out in a step, in [0, 1).
        patience: The training looks at the validation rows 30 times; after so many looks without
            gain it stops.
        refit: Whether a network is trained anew on all rows, at the learning rate and for the share
            of the steps that did best on the held-out ones.
        validation_fraction: Share of the rows of each class that is held out for that, in (0, 1).
        standardize: Whether features are brought to mean 0 and standard deviation 1 in the training
            rows, with far tails, such as those of amounts of money, drawn in by arcsinh. Turn it
            off where a pipeline scales, or where a linear model is to follow such a tail itself.
        pos_label: The class that the goal of a binary problem is about. None: the rarer one.
        random_state: Seed of the held-out rows, initial weights, order and dropout. Torch's global
            random state is neither used nor changed.
        device: Where it trains, such as `"cuda"`; it predicts on the CPU in float64.
        precision: As Lightning Fabric names it, such as `"bf16-mixed"`. Other values than the
            default need the extra `lightning`.
        strategy: As Lightning Fabric names it, such as `"ddp"` in processes started by torchrun.
        verbose: Whether each look at the validation rows is printed.

    Attributes:
        classes_: Class labels in sorted order; label numbers for multi-label problems.
        recipe_: The recipe; with a loss of your own that of everything around the loss.
        validation_score_: Of the goal on the held-out rows. Selection makes it optimistic.
        learning_rate_: That was kept.
        history_: `(step, value of the goal)` at each look; of the first of several networks.
        n_features_in_: Number of features.
        feature_names_in_: Their names, where X was a data frame with string columns.

    Examples:
        >>> from sklearn.datasets import make_classification
        >>> X, y = make_classification(400, weights=[0.95], random_state=0)
        >>> model = RareClassClassifier(hidden=(16,), learning_rate=0.01, random_state=0)
        >>> model.fit(X, y).recipe_.name
        'smooth_ap_ensemble'
        >>> model.predict_proba(X).shape
        (400, 2)
    """

    def __init__(
        self,
        loss: str | Recipe | Callable[..., Any] = "auto",
        goal: Goal = "average_precision",
        budget: float | None = None,
        hidden: Sequence[int] = (128, 128),
        *,
        module: Callable[[int, int], nn.Module] | None = None,
        max_epochs: int | Literal["auto"] = "auto",
        batch_size: int = 256,
        learning_rate: float | Literal["auto"] = "auto",
        weight_decay: float = 0.01,
        dropout: float = 0.0,
        patience: int = 10,
        refit: bool = True,
        validation_fraction: float = 0.2,
        standardize: bool = True,
        pos_label: Any = None,
        random_state: Any = None,
        device: str = "cpu",
        precision: str = "32-true",
        strategy: str = "auto",
        verbose: bool = False,
    ) -> None:
        self.loss = loss
        self.goal = goal
        self.budget = budget
        self.hidden = hidden
        self.module = module
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.patience = patience
        self.refit = refit
        self.validation_fraction = validation_fraction
        self.standardize = standardize
        self.pos_label = pos_label
        self.random_state = random_state
        self.device = device
        self.precision = precision
        self.strategy = strategy
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "RareClassClassifier":  # noqa: N803
        """Hold out validation rows, train on the others, and keep what did best.

        Args:
            X: Features `[n, n_features]`, finite numbers.
            y: Labels `[n]` of at least two classes, of any type; or zeros and ones
                `[n, n_labels]` for a multi-label problem.
            sample_weight: Weight of each row `[n]`, at least 0, in the loss and in the goal. Rows
                of weight 0 are as if they were not there.

        Returns:
            The estimator.

        Raises:
            ImportError: Precision or strategy need Lightning, which is missing.
            TypeError: X is sparse, or an argument has the wrong type.
            ValueError: An argument is out of range, X or y are not as above, or the recipe, loss or
                module do not fit the problem.
        """
        settings = self._settings()
        y = y.toarray() if hasattr(y, "toarray") else y
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True)  # noqa: N806
        weight = row_weights(sample_weight, len(X))
        if weight is not None:
            X, y, weight = X[weight > 0], y[weight > 0], weight[weight > 0]  # noqa: N806
            weight = torch.from_numpy(weight / weight.mean())
        targets = read_targets(y, self.pos_label)
        train, val = split(targets, self.validation_fraction, settings.seed)
        mass = torch.ones(len(X), dtype=torch.float64) if weight is None else weight
        problem = problem_of(targets, train, mass)
        recipe, loss = self._recipe(problem.kind)
        scaler = Scaler.of(X[train.numpy()]) if self.standardize else None
        features = torch.from_numpy(X if scaler is None else scaler(X))
        fitted = fit(
            self.module,
            features[train],
            targets.y[train],
            features[val],
            targets.y[val],
            problem=problem,
            recipe=recipe,
            judge=Judge(self.goal, problem, self.budget),
            settings=settings,
            loss=loss,
            sample_weight=None if weight is None else mass[train],
            sample_weight_val=None if weight is None else mass[val],
            progress=_print_look if self.verbose else None,
        )
        # Only now: a fit that failed leaves the earlier one whole.
        self._scaler, self._fitted = scaler, fitted
        self._kind: Kind = targets.kind
        self._sign = 1 if targets.positive else -1  # of the logit that speaks for classes_[1]
        self.classes_ = targets.classes
        self.recipe_ = recipe
        self.validation_score_ = fitted.value
        self.learning_rate_ = fitted.learning_rate
        self.history_ = fitted.history
        return self

    def decision_function(self, X: Any) -> Any:  # noqa: N803
        """Scores that decide: the larger, the likelier.

        Args:
            X: Features `[n, n_features]`.

        Returns:
            `[n]` for binary problems, above 0 for `classes_[1]`; `[n, n_classes]`, the largest
            decides; `[n, n_labels]`, above 0 where the label is predicted. They are the
            logits, calibrated where `predict_proba` is, but as the loss made them where it moves
            the decision on purpose, and shifted where the recipe adjusts it. Float64.
        """
        logits = self._logits(X)
        scores = self._fitted.decided(logits).numpy()
        return scores if self._kind != "binary" else scores[:, 0] * self._sign

    def predict_proba(self, X: Any) -> Any:  # noqa: N803
        """Probabilities, after what the recipe is known to do to them was taken back.

        Where that is not known (a ranking loss, LDAM, the asymmetric loss, a loss of your own), and
        where the training stopped at its best ranking, which may be long before probabilities are
        true, they are calibrated on the held-out rows. Their largest need not be what `predict`
        returns: a recipe may decide for rare classes on purpose.

        Args:
            X: Features `[n, n_features]`.

        Returns:
            `[n, n_classes]`, or `[n, n_labels]` with the probability of each label. Float64.
        """
        logits = self._logits(X)
        logits = self._fitted.undone(logits)
        if self._kind == "multiclass":
            return logits.softmax(1).numpy()
        if self._kind == "multilabel":
            return logits.sigmoid().numpy()
        logits = logits * self._sign
        return torch.cat([(-logits).sigmoid(), logits.sigmoid()], 1).numpy()

    def predict(self, X: Any) -> Any:  # noqa: N803
        """The class of each row `[n]`, or zeros and ones `[n, n_labels]`."""
        scores = self.decision_function(X)
        if self._kind == "multilabel":
            return (scores > 0).astype(int)
        return self.classes_[scores.argmax(1) if scores.ndim == 2 else (scores > 0).astype(int)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _settings(self) -> FitSettings:
        _checks.number("validation_fraction", self.validation_fraction, above=0, below=1)
        _checks.flag("standardize", self.standardize)
        _checks.flag("verbose", self.verbose)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        return FitSettings(seed=seed, **{name: getattr(self, name) for name in _SETTINGS})

    def _recipe(self, kind: Kind) -> tuple[Recipe, Callable[..., Any] | None]:
        """The recipe, and the loss in the place of its own."""
        given = self.loss
        if isinstance(given, Recipe):
            return given, None
        if isinstance(given, str) and given == "auto":
            return recommend(self.goal, kind, self._capacity()), None
        if isinstance(given, str) and given in RECIPES:
            return RECIPES[given], None
        if not callable(given) or isinstance(given, type):
            raise ValueError(  # noqa: TRY004
                f"loss must be 'auto', one of {', '.join(map(repr, RECIPES))}, a Recipe, or a "
                f"module or function; got {given!r}."
            )
        return RECIPES[BASELINE], given

    def _capacity(self) -> Capacity:
        if self.module is not None:
            return "flexible"
        if not self.hidden:
            return "linear"
        return "small" if min(self.hidden) <= _SMALL else "flexible"

    def _logits(self, X: Any) -> Tensor:  # noqa: N803
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)  # noqa: N806
        return self._fitted.logits(torch.from_numpy(X if self._scaler is None else self._scaler(X)))


def _print_look(done: int, steps: int, value: float) -> None:
    print(f"step {done:,} of {steps:,} at most: {value:.4f} on held-out rows")
