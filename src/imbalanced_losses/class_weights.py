"""Class weights, positive weights and prior-bias initialisation, from targets or counts."""

import math
from typing import Literal, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from imbalanced_losses._checks import integer, number, one_of
from imbalanced_losses._class_counts import (
    Reading,
    Targets,
    as_counts,
    count_classes,
    count_ones,
    count_positives,
)
from imbalanced_losses.samplers import warn_if_balanced

__all__ = ["class_weights", "init_prior_bias", "pos_weight"]

Method: TypeAlias = Literal["inverse", "balanced", "sqrt_inverse", "effective_number"]
Normalize: TypeAlias = Literal["none", "mean", "sum", "max"]
LayerT = TypeVar("LayerT", bound=nn.Module)


def class_weights(
    targets: Targets | None = None,
    *,
    counts: Targets | None = None,
    num_classes: int | None = None,
    method: Method = "inverse",
    smoothing: float = 0.0,
    beta: float = 0.999,
    normalize: Normalize = "none",
    ignore_index: int = -100,
    label_key: str = "labels",
) -> Tensor:
    """Weigh each class by its rarity.

    With n_c rows of class c, N rows in all, C classes, and `smoothing` s added to every n_c (and
    so s C to N), the weight of class c is

    - `"inverse"`: N / n_c,
    - `"balanced"`: N / (C n_c), which is scikit-learn's `class_weight="balanced"`,
    - `"sqrt_inverse"`: sqrt(N / n_c),
    - `"effective_number"`: (1 - beta) / (1 - beta^n_c), from Cui et al., "Class-Balanced Loss
      Based on Effective Number of Samples", CVPR 2019.

    Weights on top of a `ClassBalancedSampler` count the imbalance twice: use one of the two. A
    DataLoader that draws with one (and `power` above 0) is warned of.

    Args:
        targets: Class indices of any shape and integer type, as a tensor, an array or a list, or
            an iterable of batches of them, such as a DataLoader. A batch is the labels themselves,
            a pair `(inputs, labels)`, or a mapping with the labels at `label_key`. Batches are
            counted as they come, in one pass. Booleans and whole-numbered floats count as 0, 1,
            2, ...
        counts: Rows per class `[C]`, in place of `targets`.
        num_classes: C; left out, it is the largest class index plus one. Zeros and ones in two or
            more dimensions may be multi-hot labels `[N, C, ...]`; `num_classes=2` says that they
            are class indices (one-hot rows are refused even so).
        method: The formula, from the list above.
        smoothing: s >= 0; with s > 0, a class without rows gets a finite weight.
        beta: In [0, 1), for `"effective_number"` only.
        normalize: Divide by the weights' mean, sum or maximum, or leave them (`"none"`).
        ignore_index: Rows with this target are left out.
        label_key: Where a batch that is a mapping has its labels; `"labels"` is the name that
            Hugging Face's collators give them.

    Returns:
        Weights `[C]`, float32 (computed in float64), on the device of the targets or counts; on
        the CPU where those are no tensors.

    Raises:
        TypeError: The targets or counts are not numbers, or an option has the wrong type.
        ValueError: Both or neither of `targets` and `counts` are given; a class index is negative,
            fractional or at least `num_classes`; there is no row at all; a class has no row and
            `smoothing` is 0; an option is out of range. Also where targets could mean two things:
            zeros and ones as above; lists of number pairs, or a list of two arrays, which may be
            inputs with their labels; a batch of three or more; a mapping without `label_key`. The
            message names the way to say what is meant.

    Examples:
        >>> class_weights([0, 0, 0, 0, 0, 0, 1, 1], method="balanced")
        tensor([0.6667, 2.0000])
    """
    one_of("method", method, ("inverse", "balanced", "sqrt_inverse", "effective_number"))
    one_of("normalize", normalize, ("none", "mean", "sum", "max"))
    smoothing = number("smoothing", smoothing, at_least=0)
    beta = number("beta", beta, at_least=0, below=1)
    if num_classes is not None:
        num_classes = integer("num_classes", num_classes, at_least=1)
    how = _reading(ignore_index, label_key)
    _exactly_one(targets, counts)

    if counts is None:
        warn_if_balanced(targets)
        rows = count_classes(targets, how, num_classes)
    else:
        rows = as_counts(counts, num_classes, "num_classes")
    n = rows.cpu().double() + smoothing
    if (n == 0).any():
        raise ValueError(
            f"{_names('class', n == 0)} without any row would get an infinite weight; "
            "pass smoothing=1.0 (or another positive number), or leave the class out."
        )

    if method == "effective_number":
        # expm1 keeps 1 - beta^n right to rounding also where beta^n is close to 1.
        log_beta = math.log(beta) if beta else -math.inf
        weights = (beta - 1) / torch.expm1(n * log_beta)
    else:
        weights = n.sum() / n
        if method == "balanced":
            weights = weights / n.numel()
        elif method == "sqrt_inverse":
            weights = weights.sqrt()

    if normalize == "mean":
        weights = weights / weights.mean()
    elif normalize == "sum":
        weights = weights / weights.sum()
    elif normalize == "max":
        weights = weights / weights.max()
    return weights.float().to(rows.device)


def pos_weight(targets: Targets, *, ignore_index: int = -100, label_key: str = "labels") -> Tensor:
    """Weigh the positives of each label against its negatives: (N - n_c) / n_c.

    The result is the `pos_weight` of `torch.nn.BCEWithLogitsLoss`: with it, the positives and the
    negatives of a label have the same total weight.

    Args:
        targets: Zeros and ones of any integer, floating or boolean type: multi-hot `[N, C]` or
            `[N, C, d1, ...]` (each position is a row), or binary `[N]` (one label). They come as a
            tensor, an array, a list or a list of rows, or as an iterable of batches like those of
            `class_weights`. Batches are `[N, C, ...]`; `[N]` only out of a DataLoader, because
            another iterable may as well yield the labels of one row at a time.
        ignore_index: Cells with this value are left out, so that N is the number of the label's
            own remaining cells.
        label_key: Where a batch that is a mapping has its labels.

    Returns:
        Weights `[C]` (`[1]` for binary targets), float32 (computed in float64), on the device of
        the targets; on the CPU where those are no tensors.

    Raises:
        TypeError: The targets are not numbers, or an option has the wrong type.
        ValueError: The targets hold something else than 0, 1 and `ignore_index`; a label has no
            positive; batches differ in their labels, or could mean two things.

    Examples:
        >>> pos_weight([[1, 0], [0, 0], [0, 1], [1, 0]])
        tensor([1., 3.])
    """
    positives, rows = count_positives(targets, _reading(ignore_index, label_key))
    n = positives.cpu().double()
    if (n == 0).any():
        raise ValueError(
            f"{_names('label', n == 0)} without any positive would get an infinite "
            "pos_weight; leave the label out, or set its weight by hand."
        )
    return ((rows.cpu() - n) / n).float().to(positives.device)


def init_prior_bias(
    layer: LayerT,
    targets: Targets | None = None,
    *,
    counts: Targets | None = None,
    total: float | None = None,
    activation: Literal["softmax", "sigmoid"] = "softmax",
    ignore_index: int = -100,
    label_key: str = "labels",
) -> LayerT:
    """Set an output layer's bias, in place, to the log priors of its classes.

    The untrained model then predicts each class at its frequency pi_c in the data, and training
    does not spend its first epochs on learning that rare classes are rare. The bias becomes

    - log pi_c with `activation="softmax"` (mutually exclusive classes),
    - log(pi_c / (1 - pi_c)) with `activation="sigmoid"` (one binary problem per output), from Lin
      et al., "Focal Loss for Dense Object Detection", ICCV 2017, section 4.1.

    Args:
        layer: `nn.Linear` or a (transposed) convolution with a bias, C outputs. On the meta device
            its bias stays without values, as with the functions of `torch.nn.init`.
        targets: In any form that `class_weights` accepts: with `"softmax"` class indices of any
            shape, with `"sigmoid"` multi-hot `[N, C, ...]` (each position is a row), or zeros and
            ones of any shape where C = 1.
        counts: Rows per class or positives per label `[C]`, in place of `targets`.
        total: Number of rows behind the per-label `counts`, for `"sigmoid"` only; left out, it is
            their sum, as is right for mutually exclusive classes.
        activation: What turns the layer's outputs into probabilities.
        ignore_index: Rows (cells, for multi-hot targets) with this value are left out.
        label_key: Where a batch that is a mapping has its labels.

    Returns:
        The same layer.

    Raises:
        TypeError: The layer is of another type or still lazy, targets or counts are not numbers,
            or an option has the wrong type.
        ValueError: The layer has no bias; not exactly one of `targets` and `counts` is given; their
            length differs from the layer's outputs; a class has no row, or a label no negative, so
            that its bias would be infinite; `total` does not fit. Also for class indices with
            `"sigmoid"` (pass `counts`), for zeros and ones `[N, C, ...]` with `"softmax"`, which
            may be multi-hot, and for whatever else `class_weights` refuses to guess.

    Examples:
        >>> layer = init_prior_bias(nn.Linear(16, 2), counts=[900, 100])
        >>> layer.bias.exp()
        tensor([0.9000, 0.1000], grad_fn=<ExpBackward0>)
    """
    one_of("activation", activation, ("softmax", "sigmoid"))
    how = _reading(ignore_index, label_key)
    _exactly_one(targets, counts)
    bias = _output_bias(layer)
    outputs = bias.numel()
    sigmoid = activation == "sigmoid"
    if not sigmoid and outputs == 1:
        raise ValueError(
            "activation='softmax' over the layer's single output is always 1; "
            "pass activation='sigmoid'."
        )
    if total is not None and not (sigmoid and counts is not None):
        raise ValueError("total is for activation='sigmoid' with counts; leave it out here.")

    if counts is not None:
        n = as_counts(counts, outputs, "the layer's outputs").cpu().double()
        if sigmoid and outputs == 1 and total is None:
            raise ValueError("counts of a single sigmoid output need total=, the number of rows.")
        if total is not None:
            total = number("total", total, above=0)
            if (n > total).any():
                raise ValueError(
                    f"total must be at least every count; got {total} and counts {n.tolist()}."
                )
        rows = n.sum() if total is None else torch.full_like(n, total)
    elif not sigmoid:
        n = count_classes(targets, how, outputs, from_layer=True).cpu().double()
        rows = n.sum()
    else:
        found = count_ones(targets, how) if outputs == 1 else count_positives(targets, how, outputs)
        n, rows = (part.cpu().double() for part in found)

    if (n == 0).any():
        raise ValueError(
            f"{_names('class', n == 0)} without any row would get a bias of -inf; "
            "leave the class out, or pass counts= with one pseudo-row added to each class."
        )
    if sigmoid and (n == rows).any():
        raise ValueError(
            f"{_names('class', n == rows)} positive in every row would get a bias of inf; leave "
            "the class out, or pass counts= with a total= that exceeds every count."
        )
    with torch.no_grad():
        bias.copy_((n / (rows - n) if sigmoid else n / rows).log().to(bias.dtype))
    return layer


_LAYERS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def _output_bias(layer: nn.Module) -> Tensor:
    if not isinstance(layer, _LAYERS):
        raise TypeError(
            f"layer must be nn.Linear or a convolution; got {type(layer).__name__}. "
            "Pass the model's output layer itself."
        )
    if layer.bias is None:
        raise ValueError("layer must have a bias; got one built with bias=False.")
    if isinstance(layer.bias, nn.UninitializedParameter):
        raise TypeError("layer must have its shape; run one batch through the lazy layer first.")
    return layer.bias


def _reading(ignore_index: int, label_key: str) -> Reading:
    if not isinstance(label_key, str):
        raise TypeError(
            f"label_key must be a str; got {label_key!r} of type {type(label_key).__name__}."
        )
    return Reading(integer("ignore_index", ignore_index), label_key)


def _exactly_one(targets: object, counts: object) -> None:
    if (targets is None) == (counts is None):
        got = "neither" if targets is None else "both"
        raise ValueError(f"Exactly one of targets and counts must be given; got {got}.")


def _names(noun: str, chosen: Tensor) -> str:
    """`class 3`, `classes 1, 3`, or the first ten and how many more."""
    ids = chosen.nonzero().flatten().tolist()
    plural = noun if len(ids) == 1 else {"class": "classes", "label": "labels"}[noun]
    more = f" and {len(ids) - 10} more" if len(ids) > 10 else ""
    return f"{plural} {', '.join(map(str, ids[:10]))}{more}"
