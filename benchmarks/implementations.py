"""Who offers a case, and how each one's loss is made."""

import hashlib
import importlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.cases import Case
from benchmarks.goals import OURS, TORCH
from benchmarks.peers import PEERS

Loss = Callable[[Tensor, Tensor], Tensor]

# A class's positives times its pool: beyond this a float32 matrix of all pairs passes 1 GiB, and
# a step of those who build several does not fit.
MOST_PAIRS = 2**28
# Rows at which N^3 pairs still fit.
MOST_QUERIES = 512
# Logits at which a loop in Python over rows and classes still ends in seconds.
MOST_LOOPS = 2**16


@dataclass(frozen=True)
class Implementation:
    """One maker of losses; `offers` tells of a case whether it has that quantity."""

    name: str
    offers: Callable[[Case], bool]
    make: Callable[[Case], Loss]
    version: Callable[[], str]


def _own_version() -> str:
    """Version and a digest of the source, so that changed code is measured again."""
    package = importlib.import_module("imbalanced_losses")
    root = Path(str(package.__file__)).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.read_bytes())
    return f"{importlib.metadata.version('imbalanced-losses')}+{digest.hexdigest()[:8]}"


def _package_loss(case: Case) -> Loss:
    """A loss of ours or of the earlier release, which share their names."""
    ranking = {} if case.queue is None else {"num_classes": case.classes, "queue_size": case.queue}
    package = importlib.import_module("imbalanced_losses")
    loss: torch.nn.Module = getattr(package, case.loss)(**case.settings, **ranking)
    return loss.to(case.device)


def _torch_loss(case: Case) -> Loss:
    """Torch's own loss for the same targets: the time every loss is held against."""
    if case.loss == "SigmoidFocalLoss":
        return F.binary_cross_entropy_with_logits
    if case.classes == 1:
        return lambda logits, targets: F.binary_cross_entropy_with_logits(
            logits[:, 0], targets.to(logits.dtype)
        )
    return F.cross_entropy


def _libauc_loss(case: Case) -> Loss:
    losses = importlib.import_module("libauc.losses")
    rows, device = case.shape[0], case.device
    index = torch.arange(rows, device=device)
    one, several = {
        "SmoothAPLoss": (losses.APLoss, losses.mAPLoss),
        "PAUCAtBudgetLoss": (losses.pAUCLoss, losses.MultiLabelpAUCLoss),
    }[case.loss]
    if case.classes == 1:
        binary = one(data_len=rows, device=device)
        return lambda logits, targets: binary(logits, targets, index)
    joined = several(data_len=rows, num_labels=case.classes, device=device)
    return lambda logits, targets: joined(logits, F.one_hot(targets, case.classes), index)


def _retrieval_loss(case: Case) -> Loss:
    loss: Loss = importlib.import_module("pytorch_metric_learning.losses").SmoothAPLoss()
    return loss


def _kornia_loss(case: Case) -> Loss:
    losses = importlib.import_module("kornia.losses")
    if case.loss == "SigmoidFocalLoss":
        return lambda logits, targets: losses.binary_focal_loss_with_logits(
            logits, targets, 0.25, 2.0, "mean"
        )
    return lambda logits, targets: losses.focal_loss(logits, targets, None, 2.0, "mean")


def _balanced_loss(case: Case) -> Loss:
    loss: Loss = importlib.import_module("balanced_loss").Loss(loss_type="focal_loss")
    return loss


def _pairs_fit(case: Case) -> bool:
    return case.loss != "SmoothAPLoss" or case.positive_rows * case.rows <= MOST_PAIRS


def _is_focal(case: Case) -> bool:
    return case.queue is None


def _libauc_offers(case: Case) -> bool:
    batch_only = case.loss in ("SmoothAPLoss", "PAUCAtBudgetLoss") and case.queue == 0
    trapezoid = "trapezoid" in case.settings.values()
    small = case.rows * case.classes <= MOST_LOOPS and case.mode == "eager"
    return batch_only and not trapezoid and small


def _retrieval_offers(case: Case) -> bool:
    equal = case.classes > 1 and case.rows % case.classes == 0
    small = case.queue == 0 and case.rows <= MOST_QUERIES and case.mode == "eager"
    return case.loss == "SmoothAPLoss" and equal and small


def _peer(
    name: str, offers: Callable[[Case], bool], make: Callable[[Case], Loss]
) -> Implementation:
    return Implementation(name, offers, make, lambda: importlib.metadata.version(name))


IMPLEMENTATIONS = {
    implementation.name: implementation
    for implementation in (
        Implementation(OURS, lambda case: True, _package_loss, _own_version),
        Implementation(TORCH, lambda case: True, _torch_loss, lambda: torch.__version__),
        _peer(
            "imbalanced-losses",
            lambda case: case.mode == "eager" and _pairs_fit(case),
            _package_loss,
        ),
        _peer("libauc", _libauc_offers, _libauc_loss),
        _peer("pytorch-metric-learning", _retrieval_offers, _retrieval_loss),
        _peer("kornia", lambda case: _is_focal(case) and case.mode == "eager", _kornia_loss),
        _peer(
            "balanced-loss",
            lambda case: (
                case.loss == "SoftmaxFocalLoss" and len(case.shape) == 2 and case.mode == "eager"
            ),
            _balanced_loss,
        ),
    )
}
assert set(PEERS) < set(IMPLEMENTATIONS)


def offering(case: Case, names: list[str]) -> list[str]:
    """Those of the names whose implementation has the case's quantity."""
    return [name for name in names if IMPLEMENTATIONS[name].offers(case)]
