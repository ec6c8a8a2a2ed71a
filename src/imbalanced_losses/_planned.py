"""Epochs that are planned: the same on every rank, shared among them, resumed where they stood.

An epoch is a plan: a pure function of the targets, the settings, `seed` and the epoch's number.
Every rank draws the whole plan and takes its own share of it.
"""

import sys
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DistributedSampler

from imbalanced_losses._checks import integer
from imbalanced_losses._class_counts import Targets, class_indices
from imbalanced_losses._warn import warn

ItemT_co = TypeVar("ItemT_co", covariant=True)

_PIECE = 4096  # so many items of a plan are Python objects at a time


class PlannedSampler(DistributedSampler[ItemT_co]):
    """What both samplers share: rows by class, ranks, epochs, and where a pass goes on.

    Being a `DistributedSampler` tells trainers that it shares its rows among the ranks by itself.
    Torch's own constructor is not called: it would fix the ranks before there may be a group.
    """

    drop_last: bool = True

    def __init__(
        self,
        targets: Targets,
        *,
        seed: int,
        num_replicas: int | None,
        rank: int | None,
        ignore_index: int,
    ) -> None:
        self.seed = integer("seed", seed)
        self.ignore_index = integer("ignore_index", ignore_index)
        self._ranks = _given_ranks(num_replicas, rank)
        labels = class_indices(targets, self.ignore_index)
        valid = labels != self.ignore_index
        self.class_counts = torch.bincount(labels[valid])
        _refuse_gaps(self.class_counts, self.ignore_index)
        order = labels.argsort(stable=True)
        self._rows = order[valid[order]]
        self.epoch = 0
        self._start = 0  # where the next pass over this epoch begins
        self._progress = 0  # how much of this epoch the last pass has handed out
        self._ended = False  # whether that pass came to its end
        self._begun = 0  # passes over this epoch since somebody named it
        self._pass = 0  # only the pass of this number may write the progress

    @abstractmethod
    def _length(self) -> int:
        """Items in the plan, over all ranks."""

    @abstractmethod
    def _plan(self, generator: torch.Generator) -> Tensor:
        """The items of one epoch along dimension 0."""

    @property
    def num_replicas(self) -> int:  # type: ignore[override]  # fixed where torch's can be set
        """Ranks that share an epoch: as given, else those of the process group that is live now."""
        return self._world()[0]

    @property
    def rank(self) -> int:  # type: ignore[override]
        """The rank whose share is handed out."""
        return self._world()[1]

    def __len__(self) -> int:
        """Items in one whole epoch of this rank, wherever a pass begins; all ranks have as many."""
        length = self._length() // self.num_replicas
        if length == 0:
            raise ValueError(
                f"{self!r} has no item for each of {self.num_replicas} ranks in an epoch; use "
                "fewer ranks, a smaller batch_size or more rows."
            )
        return length

    def __iter__(self) -> Iterator[ItemT_co]:
        """Hand out this rank's share of the epoch; the plan is drawn when the first is asked for.

        Lightning makes the iterator of its first pass before it sets the epoch.
        """
        done = self._begin()
        this_pass = self._pass
        ranks, rank = self._world()
        # torch's CPU generator reads 32 bits of its seed, and seed + epoch would repeat the plans
        # of one seed under the next.
        seed = zlib.crc32(f"{self.seed} {self.epoch}".encode())
        generator = torch.Generator(device="cpu").manual_seed(seed)
        plan = self._plan(generator)[: len(self) * ranks][rank::ranks]
        for first in range(done, len(plan), _PIECE):
            for item in plan[first : first + _PIECE].tolist():
                done += 1
                if self._pass == this_pass:
                    self._progress = done
                yield item
        if self._pass == this_pass:
            self._ended = True

    def set_epoch(self, epoch: int) -> None:
        """Name the epoch of the next pass.

        Naming the epoch that is already set keeps the progress that `load_state_dict` or
        `set_progress` has set. Without this call a pass that came to its end is followed by the
        next epoch, one that broke off by the same epoch again. Over several ranks call it before
        every pass, as for torch's `DistributedSampler`, so that all ranks share one plan also if
        one of them has made a pass more.
        """
        epoch = integer("epoch", epoch, at_least=0)
        if epoch != self.epoch:
            self._go_on(epoch, 0)
        elif self._ended:
            self._go_on(epoch, self._start)
        self._begun = 0

    def set_progress(self, consumed: int) -> None:
        """Begin the next pass over this epoch after so many items of this rank.

        Items are rows of a `ClassBalancedSampler` (batches consumed times the loader's batch size)
        and batches of a `StratifiedBatchSampler`. Set the epoch first.
        """
        consumed = integer("consumed", consumed, at_least=0)
        if consumed > len(self):
            raise ValueError(
                f"consumed must be at most {len(self)}, the items of this rank in an epoch; "
                f"got {consumed}."
            )
        self._go_on(self.epoch, consumed)

    def state_dict(self) -> dict[str, Any]:
        """Where this rank's last pass stands, as plain numbers.

        `progress` counts the items that were handed to the loader. Without workers a plain
        `DataLoader` has trained on all of them; workers and trainers read ahead (see `set_progress`
        for what to do then). After the whole pass the state goes on with the next epoch. A loader
        reads to the end of the pass to make a last batch that is not full, so a state that is taken
        right there does so too; name the same epoch, and its next pass is empty.
        """
        return {
            "seed": self.seed,
            "length": len(self),
            "epoch": self.epoch,
            "progress": self._progress,
            "ended": self._ended,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where the state was taken: the next pass yields what was left of its epoch.

        Raises:
            ValueError: The state is of a sampler with another seed or length (other targets,
                settings or number of ranks), whose plan would be another one; or parts are missing.
        """
        here = self.state_dict()
        if here.keys() != state_dict.keys():
            raise ValueError(
                f"state_dict must hold {', '.join(here)}; got {', '.join(map(str, state_dict))}."
            )
        for name in ("seed", "length"):
            if state_dict[name] != here[name]:
                raise ValueError(
                    f"state_dict must be of a sampler with the same {name}, {here[name]}; got "
                    f"{state_dict[name]}. Build the sampler as it was (targets, settings, seed and "
                    "number of ranks), or begin the epoch anew with set_epoch."
                )
        epoch = integer("epoch", state_dict["epoch"], at_least=0)
        progress = integer("progress", state_dict["progress"], at_least=0)
        self._go_on(epoch, min(progress, len(self)))
        self._ended = bool(state_dict["ended"])

    def _go_on(self, epoch: int, start: int) -> None:
        """Let the next pass begin there, and let no pass that still runs write its progress."""
        self.epoch = epoch
        self._start = self._progress = start
        self._ended = False
        self._begun = 0
        self._pass += 1

    def _begin(self) -> int:
        """Open a pass and return where it starts."""
        if self._ended:
            self.set_epoch(self.epoch + 1)
        self._begun += 1
        if self._begun == 3:
            warn(
                f"{type(self).__name__} begins epoch {self.epoch} for the third time, because the "
                "passes before broke off: the same rows come first again. Call "
                "sampler.set_epoch(epoch) before each pass.",
            )
        start, self._start = self._start, 0
        self._progress = start
        self._pass += 1
        return start

    def _world(self) -> tuple[int, int]:
        """The number of ranks and this one."""
        if self._ranks is not None:
            return self._ranks
        if not (dist.is_available() and dist.is_initialized()):
            return 1, 0
        ranks = dist.get_world_size()
        if ranks > 1 and _accelerate_shares():
            raise RuntimeError(
                f"{type(self).__name__} would share its rows among {ranks} ranks, and "
                "accelerator.prepare would share them again. Pass num_replicas=1, rank=0 where "
                "Accelerate or Hugging Face's Trainer prepares the loader; where nobody does, "
                "pass the number of processes and this one's index."
            )
        return ranks, dist.get_rank()

    def _pick(self, quotas: Tensor, place: Tensor, generator: torch.Generator) -> Tensor:
        """The rows at these places in the random order of their classes, which goes in circles.

        `quotas` counts the places of each class that has rows; they come one class after another.
        """
        counts = self.class_counts[self.class_counts > 0]
        classes = torch.arange(len(counts), device="cpu")
        of_row = classes.repeat_interleave(counts)
        mixed = torch.randperm(len(of_row), generator=generator, device="cpu")
        # A stable sort by class keeps the random order inside each class.
        mixed = self._rows[mixed[of_row[mixed].argsort(stable=True)]]
        of_place = classes.repeat_interleave(quotas)
        first = counts.cumsum(0) - counts
        return mixed[first[of_place] + place % counts[of_place]]


def places(quotas: Tensor) -> Tensor:
    """0, 1, ... up to each quota, one class after another."""
    first = (quotas.cumsum(0) - quotas).repeat_interleave(quotas)
    return torch.arange(len(first), device="cpu") - first


def apportion(total: int, shares: Tensor) -> Tensor:
    """Whole numbers in these proportions with this sum, by the largest remainders."""
    ideal = shares.double() * (total / shares.double().sum())
    quotas = ideal.floor().long()
    most = (ideal - quotas).argsort(descending=True, stable=True)
    quotas[most[: total - int(quotas.sum())]] += 1
    return quotas


def _given_ranks(num_replicas: int | None, rank: int | None) -> tuple[int, int] | None:
    """The ranks as passed, or None where the process group tells."""
    if num_replicas is None and rank is None:
        return None
    if num_replicas is None or rank is None:
        raise ValueError(
            f"num_replicas and rank must be passed together; got num_replicas={num_replicas}, "
            f"rank={rank}."
        )
    num_replicas = integer("num_replicas", num_replicas, at_least=1)
    rank = integer("rank", rank, at_least=0)
    if rank >= num_replicas:
        raise ValueError(f"rank must be below num_replicas={num_replicas}; got {rank}.")
    return num_replicas, rank


def _refuse_gaps(counts: Tensor, ignore_index: int) -> None:
    """Raise unless every class but the ignored one has a row."""
    if not counts.any():
        raise ValueError("targets must hold at least one row that is not ignored; got none.")
    empty = [label for label in (counts == 0).nonzero().flatten().tolist() if label != ignore_index]
    if empty:
        raise ValueError(
            f"targets must have a row of every class; class {', '.join(map(str, empty[:8]))} "
            f"{'and more have' if len(empty) > 8 else 'has'} none. The sampler only hands out row "
            "numbers: pass it labels without gaps."
        )


def _accelerate_shares() -> bool:
    """Whether Accelerate runs several processes here: its `prepare` shares what samplers yield."""
    state = sys.modules.get("accelerate.state")
    return state is not None and state.PartialState._shared_state.get("num_processes", 1) > 1
