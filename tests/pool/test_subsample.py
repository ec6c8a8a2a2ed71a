"""`max_pool_size`: how many rows of which class are kept, and that nothing else changes."""

import copy
import warnings

import pytest
import torch

from cases import CASES, assert_same, every, state, step
from imbalanced_losses import SmoothAPLoss
from imbalanced_losses._pool.pool import Pool
from imbalanced_losses._pool.rows import one_vs_rest
from imbalanced_losses._pool.subsample import _uniform, subsample

quiet = pytest.mark.filterwarnings("ignore:The pool of .* rows is subsampled")


def pool_for(targets, classes):
    """A pool with these targets; the score and the weight of a row are its position."""
    count = len(targets)
    logits = torch.arange(count).float()[:, None].repeat(1, classes)
    rows = one_vs_rest(logits, targets, num_classes=classes, ignore_index=-100, log_odds=False)
    return Pool(
        scores=rows.scores,
        positive=rows.label == 1,
        negative=rows.label == 0,
        weight=torch.arange(count).float(),
        iid=torch.arange(count) % 2 == 0,
        rows=count,
        live_rows=count // 3,
        nonfinite=torch.zeros(classes, dtype=torch.bool),
    )


def pool_with(counts, ignored=0):
    """A pool with so many rows of each class in turn, then so many ignored ones."""
    targets = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return pool_for(torch.cat((targets, torch.full((ignored,), -100))), len(counts))


def drawn(rows, size, draw):
    return subsample(rows, size, torch.tensor(draw))


# Rows of each class, ignored rows, size, and the quota: size // (2 * classes observed).
QUOTAS = [
    ([380, 15, 5], 0, 60, 10),
    ([15, 380, 5], 40, 60, 10),
    ([5000, 3, 40, 40], 0, 200, 25),
    ([300, 0, 20], 0, 40, 10),
    ([100, 9, 2], 0, 7, 1),
    ([50, 50], 0, 99, 24),
]


@pytest.mark.parametrize(("counts", "ignored", "size", "quota"), QUOTAS)
@pytest.mark.parametrize("draw", range(3))
def test_every_observed_class_gets_its_quota(counts, ignored, size, quota, draw):
    pool = pool_with(counts, ignored)
    kept = drawn(pool, size, draw)
    assert kept.valid.shape == (len(counts), size)
    assert kept.valid.all()
    found = kept.positive.sum(1).tolist()
    assert sum(found) == size
    assert all(n >= min(quota, count) for n, count in zip(found, counts, strict=True))
    chosen = kept.scores[0].long()
    assert chosen.unique().numel() == size
    for field in ("scores", "positive", "weight", "iid", "live"):
        assert_same(getattr(kept, field), getattr(pool, field)[..., chosen])


def test_a_binary_pool_has_two_classes():
    for rare in (0, 1):
        targets = torch.where(torch.arange(500) < 12, rare, 1 - rare)
        for draw in range(5):
            kept = drawn(pool_for(targets, 1), 40, draw)
            positives = kept.positive.sum().item()
            assert 10 <= (positives if rare else 40 - positives) <= 12


def test_rows_of_several_labels_serve_the_quota_of_each():
    targets = torch.zeros(600, 3).long()
    targets[:4] = torch.tensor([1, 1, 0])
    targets[4:10, 2] = 1
    kept = drawn(pool_for(targets, 3), 48, 0)
    assert kept.positive.sum(1).tolist() == [4, 4, 6]


def test_fewer_rows_than_classes_are_still_so_many_rows():
    kept = drawn(pool_with([9] * 12), 5, 0)
    assert kept.valid.shape == (12, 5)
    assert kept.positive.sum() == 5


def test_the_rest_is_filled_uniformly():
    """A quota of 10 for either class, the other 20 from what is left of both."""
    pool, draws = pool_with([180, 20]), 2000
    seen = torch.zeros(200)
    for draw in range(draws):
        seen[drawn(pool, 40, draw).scores[0].long()] += 1
    left = 20 / 180
    share = torch.tensor([10 / 180 + (1 - 10 / 180) * left] * 180 + [0.5 + 0.5 * left] * 20)
    deviation = (seen / draws - share) / (share * (1 - share) / draws).sqrt()
    assert deviation.abs().max() < 4.5
    assert 0.7 < deviation.square().mean() < 1.3


def test_random_keys_are_uniform_and_independent():
    keys = torch.stack([_uniform(20_000, torch.tensor(draw)) for draw in (0, 1, 2, 10**6)])
    assert keys.min() >= 0
    assert keys.max() < 1
    cells = torch.stack([torch.histc(row, 50, 0, 1) for row in keys])
    chi_square = ((cells - 400) ** 2 / 400).sum(1)
    assert (chi_square < 90).all()
    assert (chi_square > 20).all()
    pairs = torch.cat((keys, keys[:1].roll(1), keys[1:2].roll(7)))
    correlation = pairs.corrcoef() - torch.eye(len(pairs))
    assert correlation.abs().max() < 0.03


def test_the_draw_decides():
    pool = pool_with([100, 30])
    assert_same(drawn(pool, 40, 3), drawn(pool, 40, 3))
    assert not torch.equal(drawn(pool, 40, 3).scores, drawn(pool, 40, 4).scores)


@every(subsamples=True)
def test_a_pool_that_fits_is_left_as_it_is(case):
    """Empty slots of the queue do not count, and nobody is warned."""
    capped, free = case.build(queue_size=60, max_pool_size=30), case.build(queue_size=60)
    for seed in (0, 1):
        batch = case.batch(seed, rows=15)
        torch.testing.assert_close(step(capped, *batch), step(free, *batch))


@every(subsamples=True)
@quiet
def test_a_capped_loss_resumes_bit_for_bit_and_has_the_same_queue(case):
    capped, free = case.build(max_pool_size=24), case.build()
    for seed in (0, 1):
        for loss in (capped, free):
            loss(*case.batch(seed))
    fresh = case.build(max_pool_size=24)
    fresh.load_state_dict(state(capped))
    twin = copy.deepcopy(capped)
    for seed in range(3):
        expected = step(capped, *case.batch(seed))
        assert expected[0].isfinite()
        assert (expected[1] == 0).flatten(1).all(1).any()
        assert (expected[1] != 0).any()
        assert_same(step(fresh, *case.batch(seed)), expected)
        assert_same(step(twin, *case.batch(seed)), expected)
        free(*case.batch(seed))
    assert_same(capped.queue.rows, free.queue.rows)


@quiet
def test_every_call_draws_anew():
    case = CASES["smooth_ap"]
    loss = case.build(queue_size=0, max_pool_size=10)
    batch = case.batch()
    assert len({loss(*batch).item() for _ in range(6)}) > 1


def test_it_is_said_once():
    loss = SmoothAPLoss(1, queue_size=8, max_pool_size=6)
    batch = torch.arange(4.0), torch.tensor([0, 1, 0, 1])
    loss(*batch)
    with pytest.warns(UserWarning, match="max_pool_size=6") as record:
        loss(*batch)
    assert record[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(*batch)


@quiet
def test_a_nonfinite_row_shows_whether_it_is_drawn_or_not():
    logits, targets = torch.randn(40), torch.arange(40) % 4 == 0
    logits[7] = torch.nan
    for _ in range(4):
        assert SmoothAPLoss(1, max_pool_size=5)(logits, targets).isnan()
