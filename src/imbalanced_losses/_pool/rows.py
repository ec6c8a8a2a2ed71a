"""Any accepted form of logits and targets to one binary problem per class, with every check."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from imbalanced_losses import _checks
from imbalanced_losses._ops.runtime import readable
from imbalanced_losses.distributed import join_rows

IGNORED = -1


class Rows(NamedTuple):
    """N rows of C one-vs-rest problems: what is ranked, and what is known of each row."""

    scores: Tensor  # [C, N] float32 or float64, finite wherever the label is not IGNORED
    label: Tensor  # [C, N] int8: 1 positive, 0 negative, IGNORED
    weight: Tensor  # [N], dtype of scores, non-negative
    iid: Tensor  # [N] bool: drawn as the population is, so fit for thresholds


class Batch(NamedTuple):
    """What a loss was called with, not looked at yet, and which target does not count."""

    logits: Tensor
    targets: Tensor
    iid_mask: Tensor | None
    sample_weight: Tensor | None
    ignore_index: int

    @classmethod
    def of(cls, rows: Rows) -> "Batch":
        """The batch of multi-hot targets that has these rows."""
        return cls(rows.scores.t(), rows.label.t(), rows.iid, rows.weight, IGNORED)

    def rows(self, num_classes: int, *, log_odds: bool = False) -> Rows:
        """The checked rows."""
        return one_vs_rest(
            self.logits,
            self.targets,
            self.iid_mask,
            self.sample_weight,
            num_classes=num_classes,
            ignore_index=self.ignore_index,
            log_odds=log_odds,
        )


def one_vs_rest(
    logits: Tensor,
    targets: Tensor,
    iid_mask: Tensor | None = None,
    sample_weight: Tensor | None = None,
    *,
    num_classes: int,
    ignore_index: int,
    log_odds: bool,
) -> Rows:
    """Check a batch and lay it out as one binary problem per class.

    Args:
        logits: `[N, C]`, or `[N]` where C = 1, or dense `[N, C, d1, ...]`, of which every position
            is a row; any floating dtype.
        targets: Class indices `[N]`, `[N, 1]` or dense `[N, d1, ...]`, binary in the same shapes
            where C = 1, or multi-hot in the shape of the logits.
        iid_mask: bool, `[N]` or dense `[N, d1, ...]`; None means all rows.
        sample_weight: Non-negative, `[N]` or dense `[N, d1, ...]`; None means 1.
        num_classes: C.
        ignore_index: Rows (or cells of multi-hot targets) with this target are IGNORED.
        log_odds: Rank the log-odds of the softmax probability instead of the logit.

    Raises:
        TypeError: For a wrong dtype.
        ValueError: For a wrong shape, and on CPU for a target, weight or mask out of range.
    """
    _checks.tensor("logits", logits)
    _checks.tensor("targets", targets)
    if logits.dim() > 2 and logits.shape[1] == num_classes:
        logits, targets, iid_mask, sample_weight = _by_position(
            logits, targets, iid_mask, sample_weight
        )
    scores = _scores(logits, num_classes)
    rows = scores.shape[1]
    label = _labels(targets, rows, num_classes, ignore_index, log_odds=log_odds)
    if log_odds:
        # Through logsumexp the NaN of an ignored row would reach its gradient.
        scores = _log_odds(scores.masked_fill(label[0] == IGNORED, 0.0).t()).t()
    if iid_mask is None:
        iid_mask = torch.ones(rows, dtype=torch.bool, device=scores.device)
    else:
        _check_mask(iid_mask, rows)
    if sample_weight is None:
        weight = torch.ones(rows, dtype=scores.dtype, device=scores.device)
    else:
        _checks.weights(sample_weight, (rows,), "[N]")
        weight = sample_weight.detach().to(scores.dtype)
    return Rows(scores, label, weight, iid_mask)


def _by_position(
    logits: Tensor, targets: Tensor, iid_mask: Tensor | None, sample_weight: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """A dense batch as one of rows: logits `[N, C, d1, ...]` as `[N d1 ..., C]`, others alike."""
    positions = logits.shape[:1] + logits.shape[2:]
    if targets.shape == logits.shape:
        targets = targets.movedim(1, -1).reshape(-1, logits.shape[1])
    elif targets.shape == positions:
        targets = targets.reshape(-1)
    else:
        raise ValueError(
            f"targets must have shape {list(positions)} (class indices) or {list(logits.shape)} "
            f"(multi-hot) beside dense logits {list(logits.shape)}; got {list(targets.shape)}."
            f"{_checks.layout_fix(targets, logits.shape, 'logits')}"
        )

    def spread(name: str, given: Tensor | None) -> Tensor | None:
        if given is None:
            return None
        _checks.tensor(name, given)
        if given.shape == positions[:1]:
            given = given.view(-1, *[1] * (len(positions) - 1)).expand(positions)
        elif given.shape != positions:
            raise ValueError(
                f"{name} must have shape [N] = {list(positions[:1])} or that of the positions, "
                f"{list(positions)}; got {list(given.shape)}."
            )
        return given.reshape(-1)

    logits = logits.movedim(1, -1).reshape(-1, logits.shape[1])
    return logits, targets, spread("iid_mask", iid_mask), spread("sample_weight", sample_weight)


def _scores(logits: Tensor, num_classes: int) -> Tensor:
    """Logits as `[C, N]` in float32 or float64."""
    _checks.floating_logits(logits)
    if logits.dim() == 2 and logits.shape[1] == num_classes:
        scores = logits.t()
    elif logits.dim() == 1 and num_classes == 1:
        scores = logits.unsqueeze(0)
    else:
        binary = "[N], " if num_classes == 1 else ""
        fix = ""
        if logits.dim() > 2 and logits.shape[-1] == num_classes:
            fix = " Classes belong in dimension 1: logits.movedim(-1, 1)."
        elif logits.dim() > 2 and num_classes == 1:
            fix = " Maps of one class have that dimension too: logits.unsqueeze(1)."
        raise ValueError(
            f"logits must have shape {binary}[N, {num_classes}] or [N, {num_classes}, d1, ...] for "
            f"num_classes={num_classes}; got {list(logits.shape)}.{fix}"
        )
    return scores if scores.dtype == torch.float64 else scores.float()


def _labels(
    targets: Tensor, rows: int, num_classes: int, ignore_index: int, *, log_odds: bool
) -> Tensor:
    """int8 `[C, N]` of 1, 0 and IGNORED."""
    if targets.is_complex():
        raise TypeError(f"targets must be of an integer, bool or float dtype; got {targets.dtype}.")
    if not targets.is_floating_point() and targets.dtype != torch.bool:
        # A comparison in a narrow dtype would wrap ignore_index and num_classes around.
        targets = targets.long()
    shape = list(targets.shape)
    is_column = shape in ([rows], [rows, 1])
    if num_classes > 1 and shape == [rows, num_classes]:
        if log_odds:
            raise ValueError(
                'scores="log_odds" ranks mutually exclusive classes; targets must be class '
                f'indices [N], got multi-hot {shape}. Use scores="logits" with multi-hot targets.'
            )
        return _binary_labels(targets.t().contiguous(), ignore_index)
    if not is_column:
        wanted = "[N] or [N, 1]" + (f", or multi-hot [N, {num_classes}]" if num_classes > 1 else "")
        raise ValueError(
            f"targets must have shape {wanted} with N = {rows} as in logits; got {shape}."
        )
    targets = targets.reshape(1, rows)
    if num_classes == 1:
        return _binary_labels(targets, ignore_index)
    if targets.is_floating_point() or targets.dtype == torch.bool:
        raise TypeError(
            f"targets must be integer class indices for num_classes={num_classes}; got "
            f"{targets.dtype}. Use targets.long()."
        )
    positive = targets == torch.arange(num_classes, device=targets.device).unsqueeze(1)
    if not 0 <= ignore_index < num_classes and _checks.seen_within(targets, 0, num_classes - 1):
        return positive.view(torch.int8)
    ignored = targets == ignore_index
    _checks.holds(
        ignored | ((targets >= 0) & (targets < num_classes)),
        targets,
        f"targets must be class indices in [0, {num_classes}) or ignore_index={ignore_index}",
    )
    return torch.where(ignored, IGNORED, positive.view(torch.int8))


def _binary_labels(targets: Tensor, ignore_index: int) -> Tensor:
    if targets.dtype == torch.bool:
        return targets.view(torch.int8)
    is_whole = not targets.is_floating_point() and ignore_index not in (0, 1)
    if is_whole and _checks.seen_within(targets, 0, 1):
        return targets.to(torch.int8)
    ignored, positive = targets == ignore_index, targets == 1
    _checks.holds(
        ignored | positive | (targets == 0),
        targets,
        f"targets must be 0, 1 or ignore_index={ignore_index}",
    )
    return torch.where(ignored, IGNORED, positive.view(torch.int8))


def _check_mask(iid_mask: Tensor, rows: int) -> None:
    _checks.tensor("iid_mask", iid_mask)
    if iid_mask.dtype != torch.bool:
        raise TypeError(f"iid_mask must be of dtype bool; got {iid_mask.dtype}. Use .bool().")
    if list(iid_mask.shape) != [rows]:
        raise ValueError(f"iid_mask must have shape [N] = [{rows}]; got {list(iid_mask.shape)}.")


def _log_odds(logits: Tensor) -> Tensor:
    """z_c - logsumexp of the other classes' logits, exact where the softmax saturates.

    For the largest logit the others are summed without it. For every other class p_c <= 1/2, so
    log(1 - p_c) loses no digits.
    """
    top = logits.argmax(1, keepdim=True)
    # A common shift changes no log-odds, but near 0 a sum keeps the digits that 1e4 would swallow.
    logits = logits - logits.detach().gather(1, top)
    is_top = torch.zeros_like(logits, dtype=torch.bool).scatter(1, top, value=True)
    others_of_top = logits.masked_fill(is_top, -torch.inf).logsumexp(1, keepdim=True)
    total = torch.logaddexp(logits.gather(1, top), others_of_top)
    probability = (logits - total).exp().masked_fill(is_top, 0.0)
    return logits - torch.where(is_top, others_of_top, total + torch.log1p(-probability))


def gather_rows(rows: Rows, call: str) -> Rows:
    """The rows of all ranks that make the same `call`, in rank order; own scores keep gradient."""
    dtype = rows.scores.dtype
    packed = torch.cat(
        (
            rows.scores,
            rows.label.to(dtype),
            rows.weight.unsqueeze(0),
            rows.iid.to(dtype).unsqueeze(0),
        )
    )
    joined = join_rows(packed.t(), call).t()
    classes = len(rows.scores)
    scores, label, weight, iid = torch.split(joined, [classes, classes, 1, 1])
    return Rows(scores, label.detach().to(torch.int8), weight.detach()[0], iid.detach()[0] == 1)


def finite_rows(rows: Rows) -> tuple[Rows, Tensor | None]:
    """Rows with finite scores, 0 where there was none, and the cells `[C, N]` that were nonfinite.

    Those are the cells that count and are not finite; None where one look tells that all scores are
    finite. The gradient of nan_to_num is a product: the NaN of a nonfinite class reaches all
    its cells, while that of where is exactly 0 in ignored ones.
    """
    if readable(rows.scores) and math.isfinite(rows.scores.detach().sum()):
        return rows, None
    counted = rows.label != IGNORED
    scores = torch.where(counted, rows.scores, 0.0)
    nonfinite = ~scores.isfinite()
    return rows._replace(scores=scores.nan_to_num(0.0, 0.0, 0.0)), nonfinite


def slope_of_rows(slope: Tensor, rows: Rows, nonfinite: Tensor | None) -> Tensor:
    """A slope `[C, N]` in the scores of `finite_rows(rows)` as that in the scores of `rows`."""
    if nonfinite is None:
        return slope
    return (slope * ~nonfinite).masked_fill(rows.label == IGNORED, 0)
