"""torchmetrics: the quantities that it lacks, over a whole epoch and all ranks.

Each is the function of the same name in `imbalanced_losses.metrics`, of all rows that `update` saw.
The exact form keeps them. With `binned=True` the memory is bounded, however long the stream is:
every score is rounded to bfloat16 and counted, which takes 1 MiB for each class. The result is then
the exact metric of the rounded scores. They differ from the scores by at most one part in 256, and
tie where they round alike; how far that can have moved the metric on the data at hand, `bounds`
says. So pass logits, which are spread out at the top: probabilities of .998 and .999 tie.
"""

from typing import Any

import torch
from torch import Tensor

from imbalanced_losses._checks import flag, integer, number, one_of
from imbalanced_losses._pool.rows import one_vs_rest
from imbalanced_losses.metrics import _cells, _curves, _top
from imbalanced_losses.metrics._cells import Cells

try:
    from torchmetrics import Metric
except ModuleNotFoundError as error:
    raise ImportError(
        "imbalanced_losses.integrations.torchmetrics needs torchmetrics: in a clone of this "
        'repository, pip install ".[torchmetrics]".'
    ) from error

__all__ = ["PartialAUC", "PrecisionAtK", "RecallAtQuantile"]

_BINS = 2**16


class _RankMetric(Metric):  # type: ignore[misc]
    """What the metrics share: their rows, kept or counted.

    Args:
        num_classes: C; 1 for binary scores.
        average: `"macro"`, or `"none"` for one value per class.
        ignore_index: Target value of the cells to leave out.
        binned: Keep counts of rounded scores in place of the rows.
        kwargs: Of `torchmetrics.Metric`, such as `sync_on_compute`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def __init__(
        self,
        num_classes: int,
        average: _cells.Average,
        ignore_index: int,
        binned: bool,
        kwargs: dict[str, Any],
    ) -> None:
        super().__init__(**kwargs)
        self.num_classes = integer("num_classes", num_classes, at_least=1)
        one_of("average", average, ("none", "macro"))
        flag("binned", binned)
        self.average, self.binned = average, binned
        self.ignore_index = integer("ignore_index", ignore_index)
        if binned:
            for name in ("positives", "negatives"):
                empty = torch.zeros(num_classes, _BINS, dtype=torch.int64)
                self.add_state(name, default=empty, dist_reduce_fx="sum")
        else:
            for name in ("scores", "labels"):
                self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Take a batch: scores and targets as `imbalanced_losses.metrics` takes them.

        Args:
            preds: `[N]` where `num_classes` is 1, or `[N, C]` or `[N, C, d1, ...]`; floating.
            target: Class indices or multi-hot.
        """
        given, scores, target, _ = _cells.rows_of(preds, target, None)
        rows = one_vs_rest(
            scores,
            target,
            num_classes=self.num_classes,
            ignore_index=self.ignore_index,
            log_odds=False,
        )
        scores, labels = (t.to(given.device) for t in (rows.scores, rows.label))
        if not self.binned:
            kept = torch.promote_types(given.dtype, torch.float32)
            self.scores.append(scores.t().to(kept))
            self.labels.append(labels.t())
            return
        first = torch.arange(0, self.num_classes * _BINS, _BINS, device=scores.device)
        cell = (_bin_of(scores) + first.unsqueeze(1)).flatten()
        for held, name in ((1, "positives"), (0, "negatives")):
            counts = getattr(self, name)
            counts.view(-1).index_add_(0, cell, (labels == held).flatten().to(counts.dtype))

    def compute(self) -> Tensor:
        """The metric of all rows so far, in float64: a scalar, or `[C]` for `average="none"`."""
        return self._averaged(self._value(self._binned(0) if self.binned else self._rows()))

    def bounds(self) -> tuple[Tensor, Tensor]:
        """The least and the most that the exact metric of these rows can be.

        Where scores round alike, the positives come last or first. The exact form leaves no doubt:
        there both are the value. All ranks have to ask, as for `compute`.
        """
        if not self.binned:
            value = self.compute()
            return value, value
        with self.sync_context(self.dist_sync_fn, should_sync=self.sync_on_compute):
            low = self._averaged(self._least(self._binned(-1)))
            return low, self._averaged(self._value(self._binned(1)))

    def _value(self, cells: Cells) -> Tensor:
        raise NotImplementedError

    def _least(self, cells: Cells) -> Tensor:
        """The value where the cells, each a count of rows, only seem to be ties."""
        return self._value(cells)

    def _averaged(self, values: Tensor) -> Tensor:
        return values.nanmean() if self.average == "macro" else values

    def _rows(self) -> Cells:
        # Before the first batch a list, after a synchronisation one tensor.
        scores, labels = (
            torch.cat(state) if isinstance(state, list) and state else state
            for state in (self.scores, self.labels)
        )
        if isinstance(scores, list):
            scores = labels = torch.empty(0, self.num_classes, device=self.device)
        scores, labels = (_cells.where_float64_is(t) for t in (scores, labels))
        return _cells.cells_of(scores.t(), labels.t(), None)

    def _binned(self, side: int) -> Cells:
        """The bins as rows; the positives of a bin lie with, above or below its negatives."""
        counts = torch.cat((self.positives, self.negatives), 1)
        count = _cells.where_float64_is(counts).double()
        number_of = torch.arange(_BINS, dtype=torch.float64, device=count.device)
        scores = torch.cat((2 * number_of + side, 2 * number_of)).expand_as(count)
        positive = (torch.arange(2 * _BINS, device=count.device) < _BINS).expand_as(count)
        valid = count > 0
        # The last bin holds NaN, which leaves its class undefined.
        broken = (number_of == _BINS - 1).repeat(2)
        valid = valid & ~(valid & broken).any(1, keepdim=True)
        count = count * valid
        return Cells(scores, positive & valid, valid, count, count)


class RecallAtQuantile(_RankMetric):
    """Recall among the highest `quantile` of all scores: `metrics.recall_at_quantile`.

    Args:
        quantile: Share of the rows that raises an alert, within [0, 1].
        num_classes: C; 1 for binary scores.
        average: `"macro"`, or `"none"` for one value per class.
        ignore_index: Target value of the cells to leave out.
        binned: Keep counts of rounded scores in place of the rows; see the top of the module.
        kwargs: Of `torchmetrics.Metric`.

    Raises:
        TypeError: For a setting of a wrong type.
        ValueError: For a setting out of range.

    Examples:
        >>> import torch
        >>> from imbalanced_losses.integrations.torchmetrics import RecallAtQuantile
        >>> metric = RecallAtQuantile(quantile=0.2, binned=True)
        >>> for batch in torch.arange(10.0).split(3):
        ...     metric.update(batch, batch % 5 == 4)
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    def __init__(
        self,
        quantile: float = 0.005,
        num_classes: int = 1,
        *,
        average: _cells.Average = "macro",
        ignore_index: int = -100,
        binned: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, average, ignore_index, binned, kwargs)
        self.quantile = number("quantile", quantile, at_least=0, at_most=1)

    def _value(self, cells: Cells) -> Tensor:
        return _top.recall_at_quantile_of(cells, self.quantile)

    def _least(self, cells: Cells) -> Tensor:
        # A tie raises an alert as one; rows with scores of their own do so one by one.
        curve = _cells.curve_of(cells)
        rows = cells.multiplicity.sum(1, keepdim=True)
        alerts = (self.quantile * (rows - 1) + 1e-12 * rows).floor() + 1
        share = _top.share_of_ties(curve, alerts)
        return (curve.positive * share).sum(1) / curve.positive.sum(1)


class PartialAUC(_RankMetric):
    """Mean recall over false-positive rates from `alpha` to `beta`: `metrics.partial_auc`.

    Args:
        alpha: Lower end of the band, within [0, 1).
        beta: Upper end of the band, above `alpha` and at most 1.
        num_classes: C; 1 for binary scores.
        average: `"macro"`, or `"none"` for one value per class.
        ignore_index: Target value of the cells to leave out.
        binned: Keep counts of rounded scores in place of the rows; see the top of the module.
        kwargs: Of `torchmetrics.Metric`.

    Raises:
        TypeError: For a setting of a wrong type.
        ValueError: For a setting out of range.

    Examples:
        >>> import torch
        >>> from imbalanced_losses.integrations.torchmetrics import PartialAUC
        >>> metric = PartialAUC(beta=0.5)
        >>> metric.update(torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([1, 0, 1, 0]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    def __init__(
        self,
        alpha: float = 0.0,
        beta: float = 0.005,
        num_classes: int = 1,
        *,
        average: _cells.Average = "macro",
        ignore_index: int = -100,
        binned: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, average, ignore_index, binned, kwargs)
        self.alpha = number("alpha", alpha, at_least=0, below=1)
        self.beta = number("beta", beta, above=alpha, at_most=1)

    def _value(self, cells: Cells) -> Tensor:
        return _curves.partial_auc_of(cells, self.alpha, self.beta)


class PrecisionAtK(_RankMetric):
    """Share of positives among the k highest scores: `metrics.precision_at_k`.

    Args:
        k: Number of alerts over all batches, at least 1.
        num_classes: C; 1 for binary scores.
        average: `"macro"`, or `"none"` for one value per class.
        ignore_index: Target value of the cells to leave out.
        binned: Keep counts of rounded scores in place of the rows; see the top of the module.
        kwargs: Of `torchmetrics.Metric`.

    Raises:
        TypeError: For a setting of a wrong type.
        ValueError: For a setting out of range.

    Examples:
        >>> import torch
        >>> from imbalanced_losses.integrations.torchmetrics import PrecisionAtK
        >>> metric = PrecisionAtK(k=2)
        >>> metric.update(torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([1, 0, 1, 0]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    def __init__(
        self,
        k: int,
        num_classes: int = 1,
        *,
        average: _cells.Average = "macro",
        ignore_index: int = -100,
        binned: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, average, ignore_index, binned, kwargs)
        self.k = integer("k", k, at_least=1)

    def _value(self, cells: Cells) -> Tensor:
        return _top.precision_at_k_of(cells, self.k)


def _bin_of(scores: Tensor) -> Tensor:
    """Number of each score's bfloat16, in the order of the numbers, from 0 on."""
    # Adding 0 makes one number of -0 and 0. NaN, whatever its sign, comes out above infinity.
    bits = (scores.nan_to_num(posinf=torch.inf, neginf=-torch.inf) + 0.0).to(torch.bfloat16)
    order = bits.view(torch.int16).long()
    order = torch.where(order < 0, order ^ 0x7FFF, order) + _BINS // 2
    return order.masked_fill(scores.isnan(), _BINS - 1)
