"""Who is measured: our losses, torch's own as the baseline, and peers in folders of their own.

Two peers share their import name with ours, and none belongs into the environment of this one.
"""

import importlib
import importlib.metadata
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.cases import Case

Loss = Callable[[Tensor, Tensor], Tensor]

OURS = "ours"
PEERS_FOLDER = Path(__file__).parent / "peers"

# A class's positives times its pool: beyond this a float32 matrix of all pairs passes 1 GiB, and
# a step of those who build several does not fit.
MOST_PAIRS = 2**28
# Rows at which N^3 pairs still fit.
MOST_QUERIES = 512
# Logits at which a loop in Python over rows and classes still ends in a second.
MOST_LOOPS = 2**14


@dataclass(frozen=True)
class Contender:
    """One maker of losses.

    Attributes:
        name: What a reader calls it.
        make: Makes its loss of a case.
        offers: Whether it has the case's quantity.
        package: Name of the distribution; "" for ours.
        version: The version of a peer that is measured.
        needs: Pinned packages beside torch and what the `bench` extra brings, to import a peer.
        computes: What a reader must know to compare a peer's figures with ours.
    """

    name: str
    make: Callable[[Case], Loss]
    offers: Callable[[Case], bool]
    package: str = ""
    version: str = ""
    needs: tuple[str, ...] = ()
    computes: str = ""

    @property
    def folder(self) -> Path | None:
        """Where a peer is installed; None for ours."""
        return PEERS_FOLDER / f"{self.package}-{self.version}" if self.package else None

    @property
    def is_installed(self) -> bool:
        """Whether it can be measured here."""
        return self.folder is None or self.folder.is_dir()

    def install(self) -> bool:
        """Let pip install a peer that is absent; whether it is there now."""
        if not self.is_installed:
            pinned = [f"{self.package}=={self.version}", *self.needs]
            options = ["install", "--no-deps", "--target", str(self.folder), *pinned]
            subprocess.run([sys.executable, "-m", "pip", *options], check=False)
        return self.is_installed


def baseline(case: Case) -> Loss:
    """Torch's own loss for the same targets, which every loss is measured beside."""
    if case.loss == "SigmoidFocalLoss":
        return F.binary_cross_entropy_with_logits
    if case.classes == 1:
        return lambda logits, targets: F.binary_cross_entropy_with_logits(
            logits[:, 0], targets.to(logits.dtype)
        )
    return F.cross_entropy


def _package_loss(case: Case) -> Loss:
    """A loss of ours or of the earlier release, which share their names."""
    ranking = {} if case.queue is None else {"num_classes": case.classes, "queue_size": case.queue}
    package = importlib.import_module("imbalanced_losses")
    loss: torch.nn.Module = getattr(package, case.loss)(**case.settings, **ranking)
    return loss.to(case.device)


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


def _release_offers(case: Case) -> bool:
    return case.loss != "SmoothAPLoss" or case.positive_rows * case.rows <= MOST_PAIRS


def _libauc_offers(case: Case) -> bool:
    batch_only = case.loss in ("SmoothAPLoss", "PAUCAtBudgetLoss") and case.queue == 0
    trapezoid = "trapezoid" in case.settings.values()
    return batch_only and not trapezoid and case.rows * case.classes <= MOST_LOOPS


def _retrieval_offers(case: Case) -> bool:
    equal = case.classes > 1 and case.rows % case.classes == 0
    return case.loss == "SmoothAPLoss" and case.queue == 0 and equal and case.rows <= MOST_QUERIES


def _kornia_offers(case: Case) -> bool:
    return case.queue is None


def _balanced_offers(case: Case) -> bool:
    return case.loss == "SoftmaxFocalLoss" and len(case.shape) == 2


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender(OURS, _package_loss, lambda case: True),
        Contender(
            "release 0.6.0",
            _package_loss,
            _release_offers,
            "imbalanced-losses",
            "0.6.0",
            computes=(
                "the same quantities: the earlier release of this interface, which forms a matrix "
                "of pairs for every class"
            ),
        ),
        Contender(
            "libauc",
            _libauc_loss,
            _libauc_offers,
            "libauc",
            "2.0.1",
            computes=(
                "other estimators: squared-hinge surrogates of average precision (`APLoss`, "
                "`mAPLoss`) and of partial AUC by KL-DRO (`pAUCLoss`, `MultiLabelpAUCLoss`), with "
                "moving averages per training row in place of a queue; called as its "
                "documentation prescribes, with the row indices of the batch"
            ),
        ),
        Contender(
            "pytorch-metric-learning",
            _retrieval_loss,
            _retrieval_offers,
            "pytorch-metric-learning",
            "2.9.0",
            computes=(
                "Smooth-AP as retrieval: each row is a query that ranks all others by the cosine "
                "of their embeddings, for which the logits stand in; N queries and N^3 pairs where "
                "ours has C queries; it wants classes of one size"
            ),
        ),
        Contender(
            "kornia",
            _kornia_loss,
            _kornia_offers,
            "kornia",
            "0.9.0",
            needs=("kornia-rs==0.2.0",),
            computes="the same focal losses; the softmax one's mean is over rows and classes",
        ),
        Contender(
            "balanced-loss",
            _balanced_loss,
            _balanced_offers,
            "balanced-loss",
            "0.1.1",
            computes="sigmoid focal loss of one-hot targets, summed over classes",
        ),
    )
}


def offering(case: Case, names: list[str]) -> list[str]:
    """Those of the names that have the case's quantity; peers are measured alone and in eager."""
    plain = case.mode == "eager" and not case.network
    return [name for name in names if (plain or name == OURS) and CONTENDERS[name].offers(case)]
