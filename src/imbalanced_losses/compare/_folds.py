"""Which rows train, validate and test: repeated stratified folds of whole groups."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]

# One part in so many of the training rows validates, as in the estimator.
VALIDATION = 5
_ALWAYS_TRAINS = -1


class Fold(NamedTuple):
    """Row numbers of one fold, in ascending order."""

    repeat: int
    number: int
    train: Rows
    validation: Rows
    test: Rows


def split(
    targets: NDArray[Any], groups: Rows, *, folds: int, repeats: int, seed: int
) -> list[Fold]:
    """Folds of every repeat.

    Groups are dealt out as a whole, those of the rarest class first, so that every class lies in
    the folds as evenly as its groups allow. Those of a class with fewer groups than folds stay in
    training, since a fold that tests them could leave none to learn from. A fifth of the training
    rows is put aside in the same way to validate.

    Args:
        targets: Class indices `[N]`, or zeros and ones `[N, L]` of labels.
        groups: `[N]`, equal for rows that belong together.
        folds: At least 2.
        repeats: At least 1.
        seed: Of what is dealt at random; one more repeat leaves those before it as they were.
    """
    holds = _holds(targets)
    found = []
    for repeat in range(repeats):
        rng = np.random.default_rng((seed, repeat))
        part = _deal(holds, groups, folds, rng)
        for number in range(folds):
            rest = np.flatnonzero(part != number)
            inner = _deal(holds[rest], groups[rest], VALIDATION, rng)
            found.append(
                Fold(
                    repeat,
                    number,
                    train=rest[inner != 0],
                    validation=rest[inner == 0],
                    test=np.flatnonzero(part == number),
                )
            )
    return found


def groups_of(targets: NDArray[Any], groups: Rows) -> Rows:
    """In how many groups each class or label occurs, `[C]`; what folds can hold."""
    return np.array([len(np.unique(groups[held])) for held in _holds(targets).T], dtype=np.int64)


def _holds(targets: NDArray[Any]) -> NDArray[np.bool_]:
    """Which classes hold in which row, `[N, C]`; rows without a label have a class of their own."""
    if targets.ndim == 1:
        return np.asarray(targets[:, None] == np.arange(targets.max() + 1))
    held = targets == 1
    return np.concatenate([held, ~held.any(1, keepdims=True)], axis=1)


def _deal(
    holds: NDArray[np.bool_], groups: Rows, parts: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """The part of each row, `[N]` in [0, parts), or -1 for the rows that stay in training."""
    names, group_of = np.unique(groups, return_inverse=True)
    size = np.bincount(group_of)
    inside = np.zeros((len(names), holds.shape[1]), dtype=bool)
    for label, held in enumerate(holds.T):
        inside[group_of[held], label] = True
    count = inside.sum(0)
    by_rarity = np.argsort(count, kind="stable")
    rarest = by_rarity[inside[:, by_rarity].argmax(1)]

    part = np.full(len(names), _ALWAYS_TRAINS, dtype=np.int64)
    kept = inside[:, count < parts].any(1)
    start = 0
    for label in by_rarity.tolist():
        mine = rng.permutation(np.flatnonzero((rarest == label) & ~kept))
        # Large groups first, so that the small ones can make up for them.
        mine = mine[np.argsort(-size[mine], kind="stable")]
        part[mine] = (start + np.arange(len(mine))) % parts
        start += len(mine)
    for label in np.flatnonzero(count).tolist():
        # Groups with several classes may have put all of one class into one part.
        mine = np.flatnonzero(inside[:, label])
        if len(np.unique(part[mine])) == 1:
            part[mine] = _ALWAYS_TRAINS
    return part[group_of]
