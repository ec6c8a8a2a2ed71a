"""The bootstrap: its strata and groups, and whether its intervals hold what they promise."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from imbalanced_losses.metrics import (
    average_precision,
    balanced_accuracy,
    bootstrap,
    partial_auc,
    recall_at_quantile,
)


def rows(positives, negatives, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(positives + negatives, generator=generator, dtype=torch.float64)
    targets = (torch.arange(positives + negatives) < positives).long()
    return scores + 1.5 * targets, targets


def positive_share_above_one(scores, targets):
    return (scores[targets == 1] > 1).double().mean()


def test_the_interval_covers_the_truth_about_as_often_as_promised():
    truth = 0.5 * math.erfc((1 - 1.5) / math.sqrt(2))
    held = 0
    for seed in range(60):
        scores, targets = rows(100, 200, seed)
        _, low, high = bootstrap(positive_share_above_one, scores, targets, n=200, level=0.9)
        held += bool(low <= truth <= high)
    # 54 expected, with a standard deviation of 2.3.
    assert 47 <= held <= 59


def test_every_draw_keeps_the_number_of_rows_of_each_class_and_differs():
    scores, targets = rows(3, 40)
    seen = []

    def metric(s, t):
        seen.append((int(t.sum()), len(t)))
        return s.mean()

    bootstrap(metric, scores, targets, n=100)
    assert set(seen) == {(3, 43)}
    classes = torch.arange(43) % 4
    counts = []
    bootstrap(
        lambda s, t: counts.append(torch.bincount(t).tolist()) or s.mean(),
        torch.zeros(43, 4),
        classes,
        n=100,
    )
    assert {tuple(c) for c in counts} == {(11, 11, 11, 10)}


@pytest.mark.parametrize("form", ["float32", "array", "list"])
def test_the_value_is_the_metric_and_the_seed_decides_the_ends(form):
    scores, targets = rows(30, 300)
    change = {"float32": torch.Tensor.float, "array": np.asarray, "list": torch.Tensor.tolist}
    given = change[form](scores), change.get(form, lambda t: t)(targets)
    metric = partial(recall_at_quantile, quantile=0.1)
    found = bootstrap(metric, *given, n=150)
    torch.testing.assert_close(found.value, metric(*given))
    assert found.low < found.value < found.high
    assert bootstrap(metric, *given, n=150) == found
    assert bootstrap(metric, *given, n=150, seed=1) != found
    narrow = bootstrap(metric, *given, n=150, level=0.5)
    assert found.low < narrow.low < narrow.high < found.high


def test_the_interval_of_a_mean_is_the_textbooks():
    scores, targets = rows(200, 1000)

    def metric(s, t):
        return s[t == 1].mean()

    value, low, high = bootstrap(metric, scores, targets, n=2000)
    half = 1.96 * scores[:200].std(correction=0).item() / math.sqrt(200)
    assert (value - low).item() == pytest.approx(half, rel=0.1)
    assert (high - value).item() == pytest.approx(half, rel=0.1)


def test_rows_of_a_group_are_drawn_together():
    scores, targets = rows(20, 100)
    # Ten copies of each row are no ten times more rows.
    copies = [t.repeat_interleave(10) for t in (scores, targets)]
    groups = torch.arange(120).repeat_interleave(10) * 7 - 50
    shuffled = torch.randperm(1200, generator=torch.Generator().manual_seed(3))

    def width(*data, **options):
        _, low, high = bootstrap(partial(partial_auc, beta=0.2), *data, n=300, **options)
        return (high - low).item()

    one = width(scores, targets)
    grouped = width(*(t[shuffled] for t in copies), groups=groups[shuffled].numpy())
    assert grouped == pytest.approx(one, rel=0.15)
    assert width(*copies) < 0.5 * one


def test_labels_and_dense_targets_are_drawn_by_the_rarest_class_in_a_row():
    generator = torch.Generator().manual_seed(4)
    scores = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    targets = torch.zeros(60, 3)
    targets[:50, 0], targets[5:30, 1], targets[28:32, 2] = 1, 1, 1
    targets[40, 1] = -100
    value, low, high = bootstrap(average_precision, scores, targets, n=200)
    torch.testing.assert_close(value, average_precision(scores, targets))
    assert (low < high).all()
    assert (low >= 0).all()
    held = []
    bootstrap(
        lambda s, t: held.append((t[:, 2] == 1).sum().item()) or s.mean(), scores, targets, n=100
    )
    assert set(held) == {4}

    maps = torch.zeros(12, 5, dtype=torch.long)
    maps[:6, 0], maps[:2, 1] = 1, 2
    rare = []
    bootstrap(
        lambda s, t: rare.append((t == 2).any(1).sum().item()) or s.mean(),
        torch.zeros(12, 3, 5),
        maps,
        n=100,
    )
    assert set(rare) == {2}


def test_weights_go_with_their_rows():
    scores, targets = rows(25, 200)
    weight = (torch.arange(225) % 3).double()
    found = bootstrap(average_precision, scores, targets, n=200, sample_weight=weight)
    torch.testing.assert_close(
        found.value, average_precision(scores, targets, sample_weight=weight)
    )
    kept = weight > 0
    other = bootstrap(average_precision, scores[kept], targets[kept], n=200)
    assert found.low < other.value < found.high


def test_an_undefined_class_is_nan_and_numbers_are_metrics_too():
    scores, targets = rows(10, 50)
    columns = torch.stack([scores, scores], 1)
    found = bootstrap(average_precision, columns, targets * 0, n=100)
    assert [part.isnan().tolist() for part in found] == [[False, True]] * 3
    value, low, high = bootstrap(lambda s, t: float(s.mean()), scores, targets, n=100)
    assert low < value < high
    decided = bootstrap(balanced_accuracy, columns, targets, n=100)
    assert decided.value.shape == ()


def test_a_class_of_one_row_is_said():
    scores, targets = rows(1, 30)
    with pytest.warns(UserWarning, match="The positives form only one row") as caught:
        bootstrap(average_precision, scores, targets, n=100)
    assert caught[0].filename == __file__
    scores, targets = rows(5, 30)
    groups = torch.arange(35).clamp(min=4)
    with pytest.warns(UserWarning, match="only one group"):
        bootstrap(average_precision, scores, targets, n=100, groups=groups // 5)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n": 10}, ValueError, "n must be at least 100"),
        ({"level": 1.0}, ValueError, "level must be"),
        ({"groups": torch.zeros(3)}, TypeError, "groups must be integers"),
        ({"groups": [1, 2]}, ValueError, r"groups must have shape \[N\] = \[35\]"),
        ({"sample_weight": [1.0]}, ValueError, "sample_weight must hold N = 35 rows"),
        ({"seed": 0.5}, TypeError, "seed must be an int"),
    ],
)
def test_wrong_options(options, error, message):
    with pytest.raises(error, match=message):
        bootstrap(average_precision, *rows(5, 30), **options)
