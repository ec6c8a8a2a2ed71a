"""Samplers: what an epoch holds, how ranks share it, and how it goes on where it stood."""

import copy
import pickle
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import parallel
from imbalanced_losses import ClassBalancedSampler, StratifiedBatchSampler, class_weights

COUNTS = (57, 30, 9, 4)
TARGETS = torch.arange(4).repeat_interleave(torch.tensor(COUNTS))[
    torch.randperm(100, generator=torch.Generator().manual_seed(0))
]
MAKE: dict[str, Callable[..., Any]] = {
    "balanced": lambda **options: ClassBalancedSampler(TARGETS, power=0.5, **options),
    "stratified": lambda **options: StratifiedBatchSampler(TARGETS, batch_size=7, **options),
}
both = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


def rows_of(items: list[Any]) -> list[int]:
    """The rows of a sampler's items, of batches one after another."""
    return [row for item in items for row in (item if isinstance(item, list) else [item])]


def quotas_by_hand(total: int, shares: list[float]) -> list[int]:
    """Largest remainders, in exact fractions of the given floats."""
    weights = [Fraction(share) for share in shares]
    ideal = [weight * total / sum(weights) for weight in weights]
    quotas = [int(part) for part in ideal]
    order = sorted(range(len(shares)), key=lambda c: (quotas[c] - ideal[c], c))
    for c in order[: total - sum(quotas)]:
        quotas[c] += 1
    return quotas


@pytest.mark.parametrize("power", [0.0, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("length", [None, 37, 250])
def test_an_epoch_holds_each_class_by_its_quota_and_each_row_as_evenly_as_can_be(
    power: float, length: int | None
) -> None:
    sampler = ClassBalancedSampler(TARGETS, power, epoch_length=length)
    rows = list(sampler)
    quotas = quotas_by_hand(length or 100, [n ** (1 - power) for n in COUNTS])

    assert len(rows) == len(sampler) == (length or 100)
    assert TARGETS[rows].bincount().tolist() == sampler.quotas.tolist() == quotas
    times = Counter(rows)
    for label, (count, quota) in enumerate(zip(COUNTS, quotas, strict=True)):
        drawn = {times[row] for row in TARGETS.eq(label).nonzero().flatten().tolist()}
        assert drawn <= {quota // count, -(-quota // count)}
    if power == 0 and length is None:
        assert sorted(rows) == list(range(100)) != rows


def test_a_batch_holds_its_minimum_of_every_class_and_the_rest_as_the_data_are() -> None:
    targets = torch.arange(3).repeat_interleave(torch.tensor([160, 35, 5]))
    sampler = StratifiedBatchSampler(targets, batch_size=20, min_per_class=2)
    batches = list(sampler)
    held = torch.stack([targets[batch].bincount(minlength=3) for batch in batches])

    assert len(batches) == len(sampler) == 10
    assert {len(batch) for batch in batches} == {20}
    assert held.min() >= 2
    assert (held.amax(0) - held.amin(0)).max() <= 1
    # The rare class takes 20 of the 200 places; 180 are shared as 160 : 35.
    assert held.sum(0).tolist() == [148, 32, 20]
    times = Counter(rows_of(batches))
    assert {times[row] for row in range(195)} <= {0, 1}
    assert {times[row] for row in range(195, 200)} == {4}
    # Ten batches are a multiple of five rows: one that comes again after ten places would double.
    assert all(len(set(batch)) == 20 for batch in batches)


def test_classes_at_the_edge_of_the_minimum_fill_whole_batches() -> None:
    # Lifting the last class pushes the one before below the minimum; four equal ones fit exactly.
    for counts, size, least in (([50, 11, 10, 1], 8, 1), ([5, 5, 5, 5], 4, 1), ([97, 1, 1], 9, 3)):
        targets = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        batches = list(StratifiedBatchSampler(targets, size, least))
        held = torch.stack([targets[batch].bincount(minlength=len(counts)) for batch in batches])
        assert len(batches) == sum(counts) // size
        assert held.min() >= least
        assert (held.sum(1) == size).all()
        times = Counter(rows_of(batches))
        for label, count in enumerate(counts):
            if count >= len(batches) * least:
                rows = targets.eq(label).nonzero().flatten().tolist()
                assert {times[row] for row in rows} <= {0, 1}


@pytest.mark.parametrize("ranks", [2, 3, 4])
@both
def test_ranks_share_one_plan_in_equal_lengths(make: Callable[..., Any], ranks: int) -> None:
    samplers = [make(num_replicas=ranks, rank=rank) for rank in range(ranks)]
    shares = [list(sampler) for sampler in samplers]
    joined = [item for step in zip(*shares, strict=True) for item in step]

    assert {len(share) for share in shares} == {len(samplers[0])}
    if samplers[0].__class__ is ClassBalancedSampler:
        # Not one position of the plan twice, and less than one round of it unused.
        assert joined == list(make())[: 100 - 100 % ranks]
    times = Counter(rows_of(joined))
    enough = (TARGETS < 1).nonzero().flatten().tolist()
    assert max(times[row] for row in enough) == 1
    if isinstance(joined[0], list):
        assert min(TARGETS[batch].bincount(minlength=4).min() for batch in joined) >= 1


@both
def test_an_epoch_is_known_by_its_number_and_the_seed(make: Callable[..., Any]) -> None:
    def epoch(seed: int, number: int) -> list[Any]:
        sampler = make(seed=seed)
        sampler.set_epoch(number)
        return list(sampler)

    torch.manual_seed(5)
    state = torch.get_rng_state()
    plans = [epoch(seed, number) for seed in (0, 1) for number in (0, 1, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(a != b for i, a in enumerate(plans) for b in plans[:i])
    torch.manual_seed(6)
    assert plans == [epoch(seed, number) for seed in (0, 1) for number in (0, 1, 2)]


@both
def test_a_whole_pass_is_followed_by_the_next_epoch_and_a_broken_one_by_the_same(
    make: Callable[..., Any],
) -> None:
    named = make()
    plans = []
    for number in range(3):
        named.set_epoch(number)
        plans.append(list(named))

    sampler = make()
    assert [list(sampler), list(sampler)] == plans[:2]
    next(iter(sampler))
    assert sampler.epoch == 2
    assert list(sampler) == plans[2]
    sampler.set_epoch(1)
    assert list(sampler) == plans[1]
    sampler.set_epoch(1)
    assert list(sampler) == plans[1]

    next(iter(sampler))
    next(iter(sampler))
    with pytest.warns(UserWarning, match=r"epoch 2 for the third time.*set_epoch"):
        next(iter(sampler))


@pytest.mark.parametrize("stop", [0, 1, 5, 13, 14])
@both
def test_a_resumed_epoch_goes_on_as_the_uninterrupted_one(
    make: Callable[..., Any], stop: int
) -> None:
    whole = make()
    whole.set_epoch(3)
    rest = list(whole)[stop:]
    after = list(whole)

    first = make()
    first.set_epoch(3)
    running = iter(first)
    for _ in range(stop):
        next(running)
    state = pickle.loads(pickle.dumps(first.state_dict()))

    second = make()
    assert len(second) == len(whole)
    second.load_state_dict(state)
    second.set_epoch(3)  # as trainers do, who name the epoch before each pass
    assert [list(second), list(second)] == [rest, after]
    assert len(second) == len(whole)

    ended, named = make(), make()
    for other in (ended, named):
        other.load_state_dict(whole.state_dict())  # epochs 3 and 4 are over
    named.set_epoch(4)
    whole.set_epoch(5)
    fifth = list(whole)
    assert list(ended) == fifth
    assert [list(named), list(named)] == [[], fifth]


@both
def test_the_training_loop_tells_what_it_consumed_where_workers_read_ahead(
    make: Callable[..., Any],
) -> None:
    sampler = make()
    rows_per_batch = 1
    if isinstance(sampler, ClassBalancedSampler):
        rows_per_batch = 7
        loader = DataLoader(range(100), batch_size=7, sampler=sampler, **parallel.WORKERS)
    else:
        loader = DataLoader(range(100), batch_sampler=sampler, **parallel.WORKERS)
    batches = [batch.tolist() for batch in loader]

    sampler.set_epoch(0)
    running = iter(loader)
    for _ in range(4):
        next(running)
    state = sampler.state_dict()
    assert state["progress"] > 4 * rows_per_batch
    assert [batch.tolist() for batch in running] == batches[4:]

    sampler.load_state_dict(state)
    sampler.set_progress(4 * rows_per_batch)
    assert [batch.tolist() for batch in loader] == batches[4:]


def test_an_older_pass_that_still_runs_does_not_write_the_progress() -> None:
    sampler = MAKE["balanced"]()
    older = iter(sampler)
    next(older)
    sampler.set_epoch(4)
    newer = iter(sampler)
    next(newer)
    list(older)
    assert (sampler.epoch, sampler.state_dict()["progress"]) == (4, 1)


@both
def test_settings_states_and_progress_that_do_not_fit_are_refused(make: Callable[..., Any]) -> None:
    sampler = make()
    before = sampler.state_dict()
    for other in (make(seed=1), make(num_replicas=2, rank=0)):
        with pytest.raises(ValueError, match=r"a sampler with the same (seed|length)"):
            sampler.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="state_dict must hold seed, length, epoch"):
        sampler.load_state_dict({"epoch": 1})
    with pytest.raises(ValueError, match="consumed must be at most"):
        sampler.set_progress(len(sampler) + 1)
    with pytest.raises(ValueError, match="epoch must be at least 0"):
        sampler.set_epoch(-1)
    with pytest.raises(ValueError, match="passed together; got num_replicas=2, rank=None"):
        make(num_replicas=2)
    with pytest.raises(ValueError, match="rank must be below num_replicas=2; got 2"):
        make(num_replicas=2, rank=2)
    with pytest.raises(ValueError, match="no item for each of 101 ranks"):
        len(make(num_replicas=101, rank=0))
    assert sampler.state_dict() == before


@pytest.mark.parametrize(
    ("targets", "error", "words"),
    [
        ([[1, 0], [0, 1]], ValueError, r"shape \[N\].*got \[2, 2\].*multi-hot"),
        ([0, 2, 2], ValueError, "class 1 has none"),
        ([-100, -100], ValueError, "at least one row that is not ignored"),
        ([], ValueError, "at least one row"),
        ([0.5, 1.0], ValueError, "fractional"),
        ([0, -1], ValueError, "at least 0"),
        (["a"], TypeError, "class indices of the data set's rows"),
        (DataLoader(range(4)), TypeError, "got DataLoader"),
    ],
)
def test_targets_that_are_no_class_indices_are_refused(
    targets: Any, error: type[Exception], words: str
) -> None:
    for make in (ClassBalancedSampler, lambda given: StratifiedBatchSampler(given, batch_size=2)):
        with pytest.raises(error, match=words):
            make(targets)


def test_settings_out_of_range_are_refused() -> None:
    for options, error, words in (
        ({"power": 1.5}, ValueError, "power must be at least 0 and at most 1"),
        ({"power": "all"}, TypeError, "power must be a number"),
        ({"seed": 0.5}, TypeError, "seed must be an int"),
        ({"power": 0, "epoch_length": 10}, ValueError, "class 3 would never be drawn"),
        ({"epoch_length": 0}, ValueError, "epoch_length must be at least 1"),
    ):
        with pytest.raises(error, match=words):
            ClassBalancedSampler(TARGETS, **options)
    for options, words in (
        ({"batch_size": 7, "min_per_class": 2}, r"min_per_class times .*, 2 \* 4; got 7"),
        ({"batch_size": 7, "min_per_class": 0}, "min_per_class must be at least 1"),
        ({"batch_size": 7, "drop_last": False}, "drop_last must be True"),
    ):
        with pytest.raises(ValueError, match=words):
            StratifiedBatchSampler(TARGETS, **options)


def test_every_form_of_targets_is_read_and_ignored_rows_are_never_drawn() -> None:
    np = pytest.importorskip("numpy")
    labels = [0, 1, 1, 0, 1, 1]
    forms = (labels, np.array(labels), torch.tensor(labels, dtype=torch.uint8))
    forms += (torch.tensor(labels).bool(), torch.tensor(labels).float(), np.array(labels, bool))
    assert len({tuple(ClassBalancedSampler(form)) for form in forms}) == 1

    for ignored, wanted in ((-100, {0, 1, 3, 4}), (2, {0, 1, 3, 4}), (0, {2, 3, 4, 5})):
        given = torch.tensor([0, 0, ignored or 2, 1, 1, ignored or 2])
        given[given == ignored] = ignored
        sampler = ClassBalancedSampler(given, ignore_index=ignored)
        drawn = set(list(sampler) + list(sampler) + list(sampler))
        assert drawn == (wanted if ignored else {2, 3, 4, 5})
        batches = list(StratifiedBatchSampler(given, batch_size=2, ignore_index=ignored))
        assert set(rows_of(batches)) <= wanted
        assert len(batches) == 2


@both
def test_default_device_and_dtype_do_not_matter_and_copies_go_on_alike(
    make: Callable[..., Any],
) -> None:
    wanted = list(make())
    with torch.device("meta"):
        assert list(make()) == wanted
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert list(make()) == wanted
    finally:
        torch.set_default_dtype(torch.float32)

    sampler = make(num_replicas=2, rank=1)
    sampler.set_progress(2)
    for copied in (pickle.loads(pickle.dumps(sampler)), copy.deepcopy(sampler)):
        assert repr(copied) == repr(sampler)
        assert (copied.num_replicas, copied.rank, copied.seed) == (2, 1, 0)
        assert list(copied) == list(make(num_replicas=2, rank=1))[2:]


def test_settings_are_attributes_and_repr_names_them() -> None:
    balanced, stratified = MAKE["balanced"](seed=3), MAKE["stratified"](min_per_class=1)
    assert (balanced.power, balanced.epoch_length, balanced.seed) == (0.5, 100, 3)
    assert (balanced.ignore_index, balanced.class_counts.tolist()) == (-100, list(COUNTS))
    assert (stratified.batch_size, stratified.min_per_class, stratified.drop_last) == (7, 1, True)
    assert repr(balanced) == (
        "ClassBalancedSampler(100 rows, 4 classes, power=0.5, epoch_length=100, seed=3)"
    )
    assert repr(stratified) == (
        "StratifiedBatchSampler(100 rows, 4 classes, batch_size=7, min_per_class=1, seed=0)"
    )


def test_weights_that_are_counted_through_a_balanced_sampler_are_warned_of() -> None:
    data = TensorDataset(torch.zeros(100, 1), TARGETS)
    with pytest.warns(UserWarning, match="power=0.5.*count the imbalance twice"):
        class_weights(DataLoader(data, 10, sampler=MAKE["balanced"]()))
    # Without a warning, which would be an error here.
    as_they_are = ClassBalancedSampler(TARGETS, power=0)
    weights = class_weights(DataLoader(data, 10, sampler=as_they_are))
    assert torch.equal(weights, class_weights(TARGETS))
    class_weights(DataLoader(data, batch_sampler=MAKE["stratified"]()))


def _shares(rank: int) -> tuple[list[Any], ...]:
    """What this rank hands out by itself."""
    return tuple(list(make()) for make in MAKE.values())


def test_the_live_process_group_shares_the_rows() -> None:
    for kind, shares in enumerate(zip(*parallel.run(2, _shares), strict=True)):
        make = list(MAKE.values())[kind]
        assert list(shares) == [list(make(num_replicas=2, rank=rank)) for rank in range(2)]
