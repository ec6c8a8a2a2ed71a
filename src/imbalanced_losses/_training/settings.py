"""How a network is trained, whatever the recipe."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from imbalanced_losses import _checks
from imbalanced_losses._training.engine import PRECISION, STRATEGY

# One training looks at the validation rows so often.
LOOKS = 30


@dataclass(frozen=True)
class FitSettings:
    """How a network is trained, whatever the recipe. Checked at construction.

    Attributes:
        hidden: Units of the hidden layers of the network that is built where none is given.
        max_epochs: Passes over the training rows at most; "auto": about 2,000 steps.
        batch_size: Rows in a batch at most; an epoch is cut into batches of equal size.
        learning_rate: Of AdamW, falling to 0 along a cosine; "auto": the best of three.
        weight_decay: Of AdamW.
        dropout: On the hidden units.
        patience: Looks at the validation rows without gain, of `LOOKS` in all, until it stops.
        refit: Whether a network is trained anew on training and validation rows together, at the
            learning rate and for the share of the steps that did best.
        seed: Of the initial weights, the order of the rows and dropout.
        device: As torch names it, or "auto".
        precision: As Lightning Fabric names it.
        strategy: As Lightning Fabric names it.
    """

    hidden: Sequence[int] = (128, 128)
    max_epochs: int | Literal["auto"] = "auto"
    batch_size: int = 256
    learning_rate: float | Literal["auto"] = "auto"
    weight_decay: float = 0.01
    dropout: float = 0.0
    patience: int = 10
    refit: bool = True
    seed: int = 0
    device: str = "cpu"
    precision: str = PRECISION
    strategy: str = STRATEGY

    def __post_init__(self) -> None:
        integer, number = _checks.integer, _checks.number
        if not isinstance(self.hidden, list | tuple):
            raise TypeError(
                f"hidden must be a tuple with the units of each hidden layer; got {self.hidden!r}."
            )
        _checks.settle(
            self,
            hidden=tuple(integer("hidden", units, at_least=1) for units in self.hidden),
            batch_size=integer("batch_size", self.batch_size, at_least=1),
            weight_decay=number("weight_decay", self.weight_decay, at_least=0),
            dropout=number("dropout", self.dropout, at_least=0, below=1),
            patience=integer("patience", self.patience, at_least=1),
            seed=integer("seed", self.seed, at_least=0),
        )
        _checks.flag("refit", self.refit)
        if self.max_epochs != "auto":
            _checks.settle(self, max_epochs=integer("max_epochs", self.max_epochs, at_least=1))
        if self.learning_rate != "auto":
            rate = number("learning_rate", self.learning_rate, above=0)
            _checks.settle(self, learning_rate=rate)

    def network(self, inputs: int, outputs: int) -> nn.Sequential:
        """Linear layers with ReLU, and dropout, between them."""
        layers: list[nn.Module] = []
        for units in self.hidden:
            layers += [nn.Linear(inputs, units), nn.ReLU()]
            layers += [nn.Dropout(self.dropout)] if self.dropout else []
            inputs = units
        return nn.Sequential(*layers, nn.Linear(inputs, outputs))
