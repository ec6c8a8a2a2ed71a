"""The exact quantities by which models for rare classes are judged.

They share their arguments, and are held against scikit-learn where it has them:

- `scores`, higher meaning more likely positive: floating, `[N]` for one binary problem or
  `[N, C]`, with further dimensions `[N, C, d1, ...]` where there is one row per position.
- `targets`: class indices `[N]` (`[N, d1, ...]`; 0/1 where there is one class), or multi-hot of
  the scores' shape. Every class is one binary problem, one-vs-rest, with its own ignored cells.
- `average`: `"none"` for one value per class `[C]`, `"macro"` for the mean over the classes where
  the quantity is defined. `[N]` scores give a scalar either way.
- `sample_weight`: finite and not negative, one per row `[N]`, per position `[N, d1, ...]` or per
  cell of the scores' shape. A row counts by its weight wherever rows are counted, negatives and
  alerts included; the scale of the weights does not matter, and a row of weight 0 is left out.
- `ignore_index`: the target value of the cells to leave out.

Tensors, NumPy arrays and lists are taken. The result is a tensor on the scores' device, NaN where
the quantity is undefined. It is computed in float64 and returned in the scores' dtype (float32
for half precision, float64 for lists), whatever torch's default dtype and device are. Nothing
here carries a gradient.

`bootstrap` puts an interval around any of them. How sure one may be of a *threshold* is
`imbalanced_losses.thresholds`; probabilities are judged in `imbalanced_losses.calibration`.
"""

from imbalanced_losses.metrics._bootstrap import Interval, bootstrap
from imbalanced_losses.metrics._curves import average_precision, partial_auc, recall_at_fpr
from imbalanced_losses.metrics._decisions import balanced_accuracy, tail_accuracy
from imbalanced_losses.metrics._top import precision_at_k, recall_at_quantile

__all__ = [
    "Interval",
    "average_precision",
    "balanced_accuracy",
    "bootstrap",
    "partial_auc",
    "precision_at_k",
    "recall_at_fpr",
    "recall_at_quantile",
    "tail_accuracy",
]
