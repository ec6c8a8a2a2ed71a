"""Samplers that decide how often a class is drawn, and how many of its rows a batch holds.

Both work alike with ranks, epochs and resuming:

- **Epochs.** The order is a pure function of the targets, the settings, `seed` and the epoch. Name
  the epoch with `sampler.set_epoch(epoch)`; Lightning, Accelerate and Hugging Face's Trainer do it
  for you. A pass that came to its end is otherwise followed by the next epoch.
- **Ranks.** All ranks draw one plan and take disjoint shares of equal length. `num_replicas` and
  `rank` are those of the live process group unless they are passed.
- **A plain `DataLoader`.** `DataLoader(data, batch_size=64, sampler=ClassBalancedSampler(...))` or
  `DataLoader(data, batch_sampler=StratifiedBatchSampler(...))`.
- **Lightning.** A `ClassBalancedSampler` is left alone. For a `StratifiedBatchSampler` over several
  devices pass `Trainer(use_distributed_sampler=False)`; without it Lightning tries to rebuild the
  sampler around its own and the construction fails. It does not resume a plain loader in the middle
  of an epoch; tell the sampler before `fit`: `set_epoch(checkpoint["epoch"])` and `set_progress`
  with the batches under "processed" in the checkpoint's `epoch_loop.batch_progress`. A run that is
  resumed with workers needs that `set_epoch` at any rate: Lightning's first pass begins before it
  names the epoch.
- **Accelerate and Hugging Face's Trainer** share among the ranks whatever a sampler yields, so pass
  `num_replicas=1, rank=0`; where a live process group would be shared twice, that is an error. A
  `StratifiedBatchSampler` needs `split_batches=False`, their default, to keep its minimum.
- **Resuming in the middle of an epoch.** Without workers `state_dict` and `load_state_dict` go on
  with the first row that was not handed out. Loaders with workers and trainers read ahead of
  training, so count the batches that training consumed, and after `load_state_dict` (or
  `set_epoch`) tell `set_progress`. `StatefulDataLoader` of torchdata does all this by itself (with
  a `ClassBalancedSampler` pass it `drop_last=True`). With `accelerate.skip_first_batches` name the
  epoch with the prepared loader's `set_epoch` first, and load no state: it skips by itself.
"""

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from imbalanced_losses._checks import integer, number
from imbalanced_losses._class_counts import Targets
from imbalanced_losses._planned import PlannedSampler, apportion, places
from imbalanced_losses._warn import warn

__all__ = ["ClassBalancedSampler", "StratifiedBatchSampler"]


class ClassBalancedSampler(PlannedSampler[int]):
    r"""Draw rare classes more often: an epoch has rows of class c in proportion to n_c^(1 - power).

    With n_c rows of class c in the data and L rows in an epoch, class c gets a quota of
    L n_c^(1 - power) / sum_k n_k^(1 - power) rows, rounded by the largest remainders. `power=0`
    leaves the data as they are; `power=1` draws all classes alike, which is class-aware sampling
    (Shen, Lin and Huang, "Relay Backpropagation for Effective Learning of Deep Convolutional Neural
    Networks", ECCV 2016, https://arxiv.org/abs/1512.05830); `power=0.5` is square-root sampling,
    and the powers between are those of Kang et al., "Decoupling Representation and Classifier for
    Long-Tailed Recognition", ICLR 2020, https://arxiv.org/abs/1910.09217.

    A quota above n_c repeats the class's rows as evenly as can be: each is drawn floor or ceil of
    quota / n_c times. A quota below n_c is a random subset, anew in each epoch, without any row
    twice. Quotas are those of the whole epoch; a rank's share is a random part of it, and up to
    `num_replicas - 1` rows of an epoch go unused so that all ranks have equal lengths.

    It helps where a network sees too few rows of a class to learn it at all; Kang et al. use it for
    the last layer alone, after features that were trained on the data as they are. It adds no
    information: a handful of rows that are seen hundreds of times are soon known by heart. The
    trained model's probabilities are those of the balanced draws, not of the data.

    Balanced sampling and class weights are two ways to do the same. Together they count the
    imbalance twice: leave out `class_weights`, a per-class `alpha` and `pos_weight`, or keep
    `power=0`.

    Args:
        targets: The class of each row of the data set, `[N]`: a tensor, an array or a list of
            class indices of any integer type (booleans and whole-numbered floats count as 0, 1,
            ...). Every class up to the largest has to have a row.
        power: From 0, as the data are, to 1, all classes alike.
        epoch_length: L, rows in an epoch over all ranks together; left out, as many as there are
            rows that are not ignored.
        seed: Another seed gives other epochs. The same on all ranks.
        num_replicas: Ranks that share the epoch; left out, those of the live process group, or one.
        rank: This rank's number, passed with `num_replicas` or not at all.
        ignore_index: Rows with this target are never drawn.

    Attributes:
        class_counts: n_c, rows of each class in the data `[C]`.
        quotas: Rows of each class in an epoch `[C]`.
        epoch: The number of the epoch that is being drawn.

    Raises:
        TypeError: The targets are no numbers, or a setting has the wrong type.
        ValueError: The targets are multi-hot or otherwise not `[N]`, fractional or negative; a
            class has no row; a setting is out of range; `epoch_length` is so short that a class
            would never be drawn.

    Examples:
        >>> sampler = ClassBalancedSampler([0] * 90 + [1] * 10, power=1.0)
        >>> sampler.quotas
        tensor([50, 50])
        >>> rows = torch.tensor(list(sampler))
        >>> rows.bincount()[90:]  # each of the ten rare rows five times
        tensor([5, 5, 5, 5, 5, 5, 5, 5, 5, 5])
    """

    def __init__(
        self,
        targets: Targets,
        power: float = 1.0,
        *,
        epoch_length: int | None = None,
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
        ignore_index: int = -100,
    ) -> None:
        self.power = number("power", power, at_least=0, at_most=1)
        if epoch_length is not None:
            epoch_length = integer("epoch_length", epoch_length, at_least=1)
        super().__init__(
            targets, seed=seed, num_replicas=num_replicas, rank=rank, ignore_index=ignore_index
        )
        self.epoch_length = len(self._rows) if epoch_length is None else epoch_length
        present = self.class_counts > 0
        self.quotas = torch.zeros_like(self.class_counts)
        self.quotas[present] = apportion(
            self.epoch_length, self.class_counts[present].double() ** (1 - self.power)
        )
        never = present & (self.quotas == 0)
        if never.any():
            raise ValueError(
                f"epoch_length must leave every class a row; with {self.epoch_length} and "
                f"power={self.power}, class {int(never.nonzero()[0])} would never be drawn."
            )

    def __repr__(self) -> str:
        return (
            f"ClassBalancedSampler({len(self._rows)} rows, {int((self.class_counts > 0).sum())} "
            f"classes, power={self.power}, epoch_length={self.epoch_length}, seed={self.seed})"
        )

    def _length(self) -> int:
        return self.epoch_length

    def _plan(self, generator: torch.Generator) -> Tensor:
        quotas = self.quotas[self.class_counts > 0]
        rows = self._pick(quotas, places(quotas), generator)
        return rows[torch.randperm(len(rows), generator=generator, device="cpu")]


class StratifiedBatchSampler(PlannedSampler[list[int]]):
    """Put at least so many rows of every class into each batch, and the rest as the data are.

    Losses that compare a class's positives with its negatives (the ranking losses) have nothing to
    compare in a batch without a positive. Here every batch of every rank holds `min_per_class` rows
    of each class; the other places are shared in proportion to the data, so that the rows of a
    class differ by at most one between batches.

    An epoch is as long as the data: K = N // (batch_size * num_replicas) * num_replicas batches.
    No row comes twice in it, except in a class with fewer than K * min_per_class rows, each of
    which is drawn floor or ceil of K * min_per_class / n_c times. The places this takes, and what
    does not fill a batch, are rows of other classes that are left out: a random choice, anew in
    each epoch.

    It helps where batches without a positive are common: with batch_size times the rare class's
    share at three, one batch in twenty has none. It does not help where every batch holds positives
    anyway, and a class of five rows that comes in each of a thousand batches is soon known by
    heart: a queue (`queue_size` of the ranking losses) compares more without repeating any. The
    minimum lifts rare classes above their share in the data, so that class weights on top count
    part of the imbalance twice.

    Batches with a minimum per class are common practice in metric learning (P classes times K rows
    in Hermans, Beyer and Leibe, "In Defense of the Triplet Loss for Person Re-Identification",
    2017, https://arxiv.org/abs/1703.07737).

    Args:
        targets: The class of each row of the data set, `[N]`, as in `ClassBalancedSampler`.
        batch_size: Rows in each batch of each rank; at least `min_per_class` times the classes.
        min_per_class: Rows of each class that each batch of each rank holds at least.
        drop_last: True, and nothing else: a part of a batch could not hold every class. It is
            there because trainers pass and read it.
        seed: Another seed gives other epochs. The same on all ranks.
        num_replicas: Ranks that share the epoch; left out, those of the live process group, or one.
        rank: This rank's number, passed with `num_replicas` or not at all.
        ignore_index: Rows with this target are never drawn.

    Attributes:
        class_counts: n_c, rows of each class in the data `[C]`.
        epoch: The number of the epoch that is being drawn.

    Raises:
        TypeError: The targets are no numbers, or a setting has the wrong type.
        ValueError: The targets are multi-hot or otherwise not `[N]`, fractional or negative; a
            class has no row; a setting is out of range; a batch is too small for its minimum, or
            there is not one whole batch for each rank.

    Examples:
        >>> sampler = StratifiedBatchSampler([0] * 95 + [1] * 5, batch_size=10)
        >>> batches = torch.tensor(list(sampler))
        >>> batches.shape, (batches >= 95).sum(1)  # the five rare rows twice each
        (torch.Size([10, 10]), tensor([1, 1, 1, 1, 1, 1, 1, 1, 1, 1]))
    """

    def __init__(
        self,
        targets: Targets,
        batch_size: int,
        min_per_class: int = 1,
        *,
        drop_last: bool = True,
        seed: int = 0,
        num_replicas: int | None = None,
        rank: int | None = None,
        ignore_index: int = -100,
    ) -> None:
        self.batch_size = integer("batch_size", batch_size, at_least=1)
        self.min_per_class = integer("min_per_class", min_per_class, at_least=1)
        if drop_last is not True:
            raise ValueError(
                f"drop_last must be True, for a part of a batch cannot hold every class; got "
                f"{drop_last!r}."
            )
        super().__init__(
            targets, seed=seed, num_replicas=num_replicas, rank=rank, ignore_index=ignore_index
        )
        classes = int((self.class_counts > 0).sum())
        if self.batch_size < classes * self.min_per_class:
            raise ValueError(
                f"batch_size must be at least min_per_class times the number of classes, "
                f"{self.min_per_class} * {classes}; got {self.batch_size}."
            )

    @property
    def sampler(self) -> "StratifiedBatchSampler":
        """Itself: trainers set the epoch of a batch sampler's `sampler`."""
        return self

    def __repr__(self) -> str:
        return (
            f"StratifiedBatchSampler({len(self._rows)} rows, {int((self.class_counts > 0).sum())} "
            f"classes, batch_size={self.batch_size}, min_per_class={self.min_per_class}, "
            f"seed={self.seed})"
        )

    def _length(self) -> int:
        ranks = self.num_replicas
        return len(self._rows) // (self.batch_size * ranks) * ranks

    def _plan(self, generator: torch.Generator) -> Tensor:
        batches = self._length()
        least = batches * self.min_per_class
        counts = self.class_counts[self.class_counts > 0]
        quotas = _at_least(least, counts, batches * self.batch_size)
        place = places(quotas)
        # Place p of the table below falls into batch p mod K. A class at its minimum, which may
        # have to repeat rows, gives each batch neighbours, so that none holds a row twice in vain.
        neighbours = place % batches * self.min_per_class + place // batches
        at_minimum = (quotas == least).repeat_interleave(quotas)
        rows = self._pick(quotas, torch.where(at_minimum, neighbours, place), generator)
        table = rows.view(self.batch_size, batches).T
        table = table[torch.randperm(batches, generator=generator, device="cpu")]
        order = torch.rand(table.shape, generator=generator, dtype=torch.float64, device="cpu")
        return table.gather(1, order.argsort(1))


def warn_if_balanced(loader: object) -> None:
    """Warn where the labels that class weights are counted from come through a balanced sampler."""
    ahead = [loader]
    while ahead:
        part = ahead.pop()
        if isinstance(part, ClassBalancedSampler) and part.power > 0:
            warn(
                f"targets come through {part!r}: the weights are those of the rows that it draws, "
                "not of the data, and the weights of the data on top of it would count the "
                "imbalance twice. Train with the sampler and without weights, or with "
                "class_weights of the labels themselves and power=0.",
            )
        elif isinstance(part, DataLoader | Sampler):
            # A batch sampler may hold another sampler; the sampler of ours is itself.
            inner = (getattr(part, name, None) for name in ("batch_sampler", "sampler"))
            ahead += [other for other in inner if other is not None and other is not part]


def _at_least(least: int, counts: Tensor, total: int) -> Tensor:
    """Whole numbers with this sum: `least` for rare classes, the rest in proportion to counts."""
    lifted = torch.zeros_like(counts, dtype=torch.bool)
    while True:
        free = total - least * int(lifted.sum())
        # In whole numbers, for a share that is exactly the minimum is not below it.
        short = ~lifted & (counts * free < least * counts[~lifted].sum())
        if not short.any():
            break
        lifted |= short
    quotas = torch.full_like(counts, least)
    quotas[~lifted] = apportion(free, counts[~lifted])
    return quotas
