"""Other packages that offer a quantity of ours, each in a folder of its own.

Two of them share their import name with ours, and none belongs into the environment of this one.
"""

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "peers"


@dataclass(frozen=True)
class Peer:
    """One package at one version.

    Attributes:
        name: Name of the distribution.
        version: The version that is measured.
        needs: Pinned packages beside torch and what the `bench` extra brings, to import it.
        differs: What a reader must know to compare it with ours.
    """

    name: str
    version: str
    needs: tuple[str, ...] = ()
    differs: str = ""

    @property
    def folder(self) -> Path:
        """Where it is installed."""
        return FOLDER / f"{self.name}-{self.version}"

    @property
    def install(self) -> list[str]:
        """Arguments of pip that install it there."""
        pinned = [f"{self.name}=={self.version}", *self.needs]
        return ["install", "--no-deps", "--target", str(self.folder), *pinned]


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            "imbalanced-losses",
            "0.6.0",
            differs="the same quantities: an earlier release, with a matrix of pairs per class",
        ),
        Peer(
            "libauc",
            "2.0.1",
            differs=(
                "other estimators: squared-hinge surrogates of average precision (`APLoss`, "
                "`mAPLoss`) and of partial AUC by KL-DRO (`pAUCLoss`, `MultiLabelpAUCLoss`), with "
                "moving averages per training row in place of a queue; called as its "
                "documentation prescribes, with the row indices of the batch"
            ),
        ),
        Peer(
            "pytorch-metric-learning",
            "2.9.0",
            differs=(
                "Smooth-AP as retrieval: each row is a query that ranks all others by the cosine "
                "of their embeddings, for which the logits stand in; N queries and N^3 pairs where "
                "ours has C queries; it wants classes of one size"
            ),
        ),
        Peer(
            "kornia",
            "0.9.0",
            needs=("kornia-rs==0.2.0",),
            differs="the same focal losses; the softmax one's mean is over rows and classes",
        ),
        Peer(
            "balanced-loss",
            "0.1.1",
            differs="sigmoid focal loss of one-hot targets, summed over classes",
        ),
    )
}
