"""Probabilities that mean what they say, after losses and samplers that distort them.

Class weights, focal losses, logit adjustment and rebalanced sampling each move the minimum of the
risk from the true class probabilities p to others, q, in a way that their settings tell. The
functions `undo_...` go back. They take the logits z with which the model was trained (q is their
softmax or sigmoid) and return logits, so that several corrections follow each other and small
probabilities keep their digits:

    p = undo_class_weights(undo_focal(logits, gamma=2.0), weights).softmax(1)

For probabilities q, pass `q.log()` with `"softmax"` or `q.logit()` with `"sigmoid"`. A correction
is exact where the model reached the minimum. What is left is fitted on held-out rows, by
scikit-learn's `CalibratedClassifierCV`, say; `reliability` and `calibration_error` show it.

`activation` says what the loss applied to the logits: `"softmax"` for logits `[N, C]` or
`[N, C, d1, ...]` of exclusive classes, `"sigmoid"` for binary and multi-label ones of any shape, of
which dimension 1 holds the labels where a setting is given for each. The results have the logits'
dtype (float32 for half precision) and carry no gradient.
"""

from imbalanced_losses.calibration._reliability import Reliability, calibration_error, reliability
from imbalanced_losses.calibration._undo import (
    undo_class_weights,
    undo_focal,
    undo_logit_adjustment,
    undo_resampling,
)

__all__ = [
    "Reliability",
    "calibration_error",
    "reliability",
    "undo_class_weights",
    "undo_focal",
    "undo_logit_adjustment",
    "undo_resampling",
]
