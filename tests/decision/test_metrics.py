"""The exact metrics against scikit-learn and against their definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    recall_score,
    roc_auc_score,
    roc_curve,
)

from imbalanced_losses.calibration import (
    calibration_error,
    reliability,
    undo_focal,
    undo_resampling,
)
from imbalanced_losses.metrics import (
    average_precision,
    balanced_accuracy,
    bootstrap,
    partial_auc,
    precision_at_k,
    recall_at_fpr,
    recall_at_quantile,
    tail_accuracy,
)
from imbalanced_losses.thresholds import choose


def precision_at_1(scores, targets, **options):
    return precision_at_k(scores, targets, 1, **options)


METRICS = [average_precision, partial_auc, recall_at_quantile, recall_at_fpr, precision_at_1]
every_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)


@st.composite
def problems(draw, fewest=2):
    """Scores and 0/1 targets, both present, with few distinct scores and so with ties."""
    rows = draw(st.integers(fewest, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = rng.normal(size=rows)
    if draw(st.booleans()):
        scores = np.round(scores * draw(st.integers(1, 4)))
    targets = rng.random(rows) < draw(st.sampled_from([0.05, 0.3, 0.8]))
    targets[:2] = [True, False]
    return torch.tensor(scores), torch.tensor(targets)


@st.composite
def weighted_problems(draw):
    """The same with a weight per row, some of them zero, but none of the first two rows."""
    scores, targets = draw(problems())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight = rng.random(len(scores)) * (rng.random(len(scores)) < 0.8)
    weight[:2] = rng.uniform(0.1, 2, 2)
    return scores, targets, torch.tensor(weight)


def recall_by_definition(scores, targets, quantile):
    """Walk down the sorted rows to the one at rank ceil((1 - q)(n - 1)) from below."""
    ordered = sorted(scores.tolist())
    threshold = ordered[math.ceil((1 - quantile) * (len(ordered) - 1))]
    found = [s >= threshold for s, t in zip(scores.tolist(), targets.tolist(), strict=True) if t]
    return sum(found) / len(found)


def sklearn_partial_auc(targets, scores, rate):
    """Undo McClish's rescaling, which sends chance level to 0.5 and a perfect ranking to 1."""
    if rate == 0:
        return 0.0
    chance = rate**2 / 2
    return (2 * roc_auc_score(targets, scores, max_fpr=rate) - 1) * (rate - chance) + chance


@given(weighted_problems())
def test_average_precision_is_scikit_learns(problem):
    for scores, targets, weight in (problem, (*problem[:2], None)):
        expected = average_precision_score(targets.numpy(), scores.numpy(), sample_weight=weight)
        found = average_precision(scores, targets, sample_weight=weight)
        assert found.item() == pytest.approx(expected, abs=1e-12)


@given(problems(), st.floats(0, 0.9), st.floats(0.01, 1))
def test_partial_auc_is_scikit_learns(problem, alpha, width):
    scores, targets = problem
    beta = min(alpha + width, 0.999)
    ends = [sklearn_partial_auc(targets.numpy(), scores.numpy(), f) for f in (alpha, beta)]
    expected = (ends[1] - ends[0]) / (beta - alpha)
    assert partial_auc(scores, targets, alpha, beta).item() == pytest.approx(expected, abs=1e-10)


@given(weighted_problems(), st.floats(0.01, 0.99))
def test_mcclishs_partial_auc_is_scikit_learns(problem, beta):
    scores, targets, weight = problem
    expected = roc_auc_score(
        targets.numpy(), scores.numpy(), max_fpr=beta, sample_weight=weight.numpy()
    )
    found = partial_auc(scores, targets, beta=beta, mcclish=True, sample_weight=weight)
    assert found.item() == pytest.approx(expected, abs=1e-10)


def test_mcclish_sends_chance_to_one_half_and_perfection_to_one_in_any_band():
    targets = torch.tensor([1, 1, 0, 0])
    band = {"alpha": 0.2, "beta": 0.7, "mcclish": True}
    assert partial_auc(torch.zeros(4), targets, **band) == pytest.approx(0.5)
    assert partial_auc(targets.float(), targets, **band) == pytest.approx(1)


@given(weighted_problems(), st.sampled_from([0.0, 0.01, 0.29, 0.5, 1.0]))
def test_recall_at_a_false_positive_rate_is_the_best_point_of_scikit_learns_curve(problem, fpr):
    for scores, targets, weight in (problem, (*problem[:2], None)):
        rates, recalls, _ = roc_curve(
            targets.numpy(), scores.numpy(), sample_weight=weight, drop_intermediate=False
        )
        expected = recalls[rates <= fpr * (1 + 1e-9)].max()
        found = recall_at_fpr(scores, targets, fpr, sample_weight=weight)
        assert found.item() == pytest.approx(expected, abs=1e-12)


@given(problems(fewest=3), st.integers(1, 3))
def test_precision_at_k_is_the_mean_over_every_order_of_tied_rows(problem, k):
    scores, targets = problem
    generator = torch.Generator().manual_seed(0)
    orders = torch.rand(4000, len(scores), generator=generator).argsort(1)
    ranked = scores[orders].argsort(dim=1, descending=True, stable=True)[:, :k]
    expected = targets[orders.gather(1, ranked)].double().mean().item()
    assert precision_at_k(scores, targets, k).item() == pytest.approx(expected, abs=0.04)


def test_precision_at_k_weighs_the_rows_that_it_counts():
    scores, targets = torch.tensor([3.0, 2.0, 2.0, 1.0]), torch.tensor([1, 0, 1, 1])
    weight = torch.tensor([2.0, 1.0, 4.0, 9.0])
    found = precision_at_k(scores, targets, 2, sample_weight=weight)
    assert found.item() == pytest.approx((2 + 4 / 2) / (2 + 1 / 2 + 4 / 2))
    assert precision_at_k(scores, targets, 5).isnan()


@given(problems())
def test_partial_auc_over_the_whole_band_is_the_auc(problem):
    scores, targets = problem
    expected = roc_auc_score(targets.numpy(), scores.numpy())
    assert partial_auc(scores, targets, 0, 1).item() == pytest.approx(expected, abs=1e-12)


@given(problems(), st.sampled_from([0.0, 1 / 64, 1 / 8, 0.5, 1.0]))
def test_recall_at_quantile_is_its_definition(problem, quantile):
    scores, targets = problem
    expected = recall_by_definition(scores, targets, quantile)
    assert recall_at_quantile(scores, targets, quantile).item() == pytest.approx(expected)


@given(problems(), st.sampled_from([0.0, 1 / 64, 1 / 8, 0.3, 1.0]), st.integers(0, 2**32 - 1))
def test_weights_at_a_quantile_are_copies_of_rows_whatever_their_scale(problem, quantile, seed):
    scores, targets = problem
    copies = torch.from_numpy(np.random.default_rng(seed).integers(1, 4, len(scores)))
    copies[0] = 1
    expected = recall_at_quantile(
        scores.repeat_interleave(copies), targets.repeat_interleave(copies), quantile
    )
    for scale in (1, 1e-3, 7):
        found = recall_at_quantile(scores, targets, quantile, sample_weight=copies * scale)
        torch.testing.assert_close(found, expected)
    plain = recall_at_quantile(scores, targets, quantile)
    same = recall_at_quantile(scores, targets, quantile, sample_weight=torch.full_like(scores, 0.1))
    torch.testing.assert_close(plain, same)


def exclusive(rows=90, classes=4):
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(rows, classes, generator=generator, dtype=torch.float64).round(decimals=1)
    weight = torch.rand(rows, generator=generator)
    return scores, torch.randint(classes - 1, (rows,), generator=generator), weight


def test_balanced_accuracy_is_scikit_learns():
    scores, targets, weight = exclusive()
    chosen = scores.argmax(1)
    # The last class has no row, though it is chosen: scikit-learn warns, and leaves it out too.
    kept = chosen != 3
    for w in (None, weight[kept]):
        expected = balanced_accuracy_score(targets[kept], chosen[kept], sample_weight=w)
        found = balanced_accuracy(scores[kept], targets[kept], sample_weight=w)
        assert found.item() == pytest.approx(expected, abs=1e-12)
    recalls = balanced_accuracy(scores, targets, average="none", sample_weight=weight)
    expected = recall_score(targets, chosen, average=None, labels=[0, 1, 2], sample_weight=weight)
    assert recalls[:3].tolist() == pytest.approx(expected.tolist())
    assert recalls[3].isnan()


def test_balanced_accuracy_of_labels_is_scikit_learns_for_each():
    scores, targets, weight = exclusive()
    yes = torch.stack([targets == 0, targets > 0, targets == 2, torch.zeros(90).bool()], 1)
    found = balanced_accuracy(scores, yes, threshold=0.3, average="none", sample_weight=weight)
    for c in range(3):
        expected = balanced_accuracy_score(yes[:, c], scores[:, c] > 0.3, sample_weight=weight)
        assert found[c].item() == pytest.approx(expected, abs=1e-12)
        alone = balanced_accuracy(scores[:, c], yes[:, c], threshold=0.3, sample_weight=weight)
        torch.testing.assert_close(alone, found[c])
    assert found[3].isnan()


def test_tail_accuracy_is_the_mean_recall_of_the_classes_rare_in_training():
    scores, targets, weight = exclusive()
    expected = recall_score(
        targets, scores.argmax(1), average="macro", labels=[0, 2], sample_weight=weight
    )
    counts = [19, 20, 3, 500]
    found = tail_accuracy(scores, targets, counts, sample_weight=weight)
    assert found.item() == pytest.approx(expected, abs=1e-12)
    per_class = tail_accuracy(scores, targets, counts, average="none")
    assert per_class.isnan().tolist() == [False, True, False, True]
    with pytest.raises(ValueError, match=r"below 3 rows.*smallest has 3"):
        tail_accuracy(scores, targets, counts, below=3)
    with pytest.raises(ValueError, match="counts must match the classes of the scores: 4"):
        tail_accuracy(scores, targets, [1, 2])


def test_decisions_leave_out_ignored_rows_also_with_nan_and_nothing_else():
    scores, targets, weight = exclusive()
    cut = torch.arange(90) % 3 == 0
    expected = balanced_accuracy(scores[~cut], targets[~cut], sample_weight=weight[~cut])
    broken = scores.masked_fill(cut[:, None], math.nan)
    found = balanced_accuracy(broken, targets.masked_fill(cut, -100), sample_weight=weight)
    torch.testing.assert_close(found, expected)
    found = balanced_accuracy(broken, targets, sample_weight=weight * ~cut)
    torch.testing.assert_close(found, expected)
    assert balanced_accuracy(broken, targets).isnan()
    assert balanced_accuracy(scores[:0], targets[:0]).isnan()


@pytest.mark.parametrize("call", [{}, {"sample_weight": torch.ones(4)}], ids=["plain", "weighted"])
def test_a_threshold_is_asked_for_where_probabilities_and_logits_look_alike(call):
    scores, targets = torch.zeros(4), torch.tensor([0, 1, 0, 1])
    with pytest.raises(ValueError, match="threshold must be given"):
        balanced_accuracy(scores, targets, **call)
    with pytest.raises(ValueError, match="threshold is for binary"):
        balanced_accuracy(scores[:, None].expand(4, 2), targets, threshold=0.0, **call)


EVERY = [*METRICS, balanced_accuracy]
every_one = pytest.mark.parametrize("metric", EVERY, ids=lambda metric: metric.__name__)


def options_of(metric, multi_hot):
    return {"threshold": 0.0} if metric is balanced_accuracy and multi_hot else {}


@every_one
@pytest.mark.parametrize("multi_hot", [False, True], ids=["indices", "multi-hot"])
def test_dense_inputs_are_one_row_per_position(metric, multi_hot):
    generator = torch.Generator().manual_seed(2)
    scores = torch.randn(5, 3, 4, 2, generator=generator)
    shape = scores.shape if multi_hot else (5, 4, 2)
    targets = torch.randint(2 if multi_hot else 3, shape, generator=generator)
    targets[torch.rand(shape, generator=generator) < 0.2] = -100
    options = {"average": "none"} | options_of(metric, multi_hot)

    def flat(t):
        return t.movedim(1, -1).reshape(-1, 3) if t.dim() == 4 else t.reshape(-1)

    forms = [(5,), (5, 4, 2)] + ([(5, 3, 4, 2)] if multi_hot else [])
    for form in forms:
        weight = torch.rand(form, generator=generator)
        by_row = weight.view(5, 1, 1).expand(5, 4, 2) if form == (5,) else weight
        expected = metric(flat(scores), flat(targets), sample_weight=flat(by_row), **options)
        found = metric(scores, targets, sample_weight=weight, **options)
        torch.testing.assert_close(found, expected)
        assert not found.isnan().any()
    with pytest.raises(ValueError, match=r"\[5, 4, 2\]"):
        metric(scores, targets[..., :1])


@every_one
def test_macro_is_the_mean_over_the_classes_where_the_quantity_is_defined(metric):
    scores, targets, _ = exclusive()
    per_class = metric(scores, targets, average="none")
    assert per_class.isnan().tolist() == [False, False, False, True]
    torch.testing.assert_close(metric(scores, targets, average="macro"), per_class[:3].mean())
    assert metric(scores, targets.fill_(-100), average="macro").isnan()
    with pytest.raises(ValueError, match="average must be one of"):
        metric(scores, targets, average="micro")


@every_one
def test_arrays_and_lists_are_taken_in_their_own_precision(metric):
    scores, targets, weight = exclusive()
    expected = metric(scores, targets, sample_weight=weight.double())
    lists = metric(scores.tolist(), targets.tolist(), sample_weight=weight.tolist())
    arrays = metric(
        scores.flip(0).numpy()[::-1], targets.numpy(), sample_weight=weight.double().numpy()
    )
    torch.testing.assert_close(lists, expected, equal_nan=True)
    torch.testing.assert_close(arrays, expected, equal_nan=True)
    assert metric(scores.float().numpy(), targets.numpy()).dtype == torch.float32
    with pytest.raises(TypeError, match="scores must be a tensor, an array or a list"):
        metric([[0.1, 0.2], [0.3]], [0, 1])
    with pytest.raises(TypeError, match="targets must be a tensor, an array or a list"):
        metric(scores, ["a"] * 90)
    with pytest.raises(TypeError, match="not predicted classes"):
        metric(scores.argmax(1), targets)


def rows_for_judging():
    scores = [[3.0, 0.0], [1.0, 4.0], [0.0, 5.0], [2.0, 6.0]] * 3
    return scores, [0, 1, 0, 0] * 3


JUDGES = {
    metric.__name__: lambda s, t, metric=metric: metric(s, t).tolist() for metric in EVERY
} | {
    "tail_accuracy": lambda s, t: tail_accuracy(s, t, [3, 90]).item(),
    "bootstrap": lambda s, t: [
        part.tolist() for part in bootstrap(average_precision, s, t, n=100, groups=[*range(6)] * 2)
    ],
    "bootstrap of a number": lambda s, t: bootstrap(lambda *_: 1 / 3, s, t, n=100).value.item(),
    "thresholds": lambda s, t: str(choose([row[1] for row in s], t, recall=0.5)),
    "reliability": lambda s, t: [
        part.tolist() for part in reliability([[p / 7 for p in row] for row in s], t, bins=3)
    ],
    "calibration error": lambda s, t: calibration_error(
        [row[1] / 7 for row in s], t, bins=2
    ).item(),
    "undo": lambda s, t: undo_resampling(undo_focal(s, alpha=[0.1, 0.3]), [1, 2], [9, 3]).tolist(),
}


@pytest.mark.parametrize("judge", JUDGES.values(), ids=JUDGES)
def test_torchs_default_dtype_and_device_change_nothing(judge):
    expected = judge(*rows_for_judging())
    torch.set_default_dtype(torch.bfloat16)
    torch.set_default_device("meta")
    try:
        found = judge(*rows_for_judging())
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert found == expected


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_third_is_a_third_to_the_last_bit_of_the_scores_dtype(dtype):
    scores, targets = torch.arange(6.0, dtype=dtype), torch.tensor([0, 1, 0, 1, 0, 1])
    for metric in (recall_at_quantile, recall_at_fpr):
        assert torch.equal(metric(scores, targets, 0.1), torch.tensor(1 / 3, dtype=dtype))


@every_one
def test_a_row_of_weight_zero_is_as_good_as_ignored_also_if_it_is_nan(metric):
    scores, targets, weight = exclusive()
    cut = torch.arange(90) % 4 == 1
    expected = metric(scores[~cut], targets[~cut], sample_weight=weight[~cut])
    broken = scores.masked_fill(cut[:, None], math.nan)
    found = metric(broken, targets, sample_weight=weight * ~cut)
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_recall_interpolations_move_the_threshold():
    scores, targets = torch.arange(4.0), torch.tensor([0, 0, 1, 1])
    # The 0.5 quantile of 0, 1, 2, 3 lies between rows 1 and 2, of which only row 2 is a positive.
    found = {
        how: recall_at_quantile(scores, 1 - targets, 0.5, interpolation=how).item()
        for how in ("higher", "linear", "lower")
    }
    assert found == {"higher": 0.0, "linear": 0.0, "lower": 0.5}


@every_metric
def test_classes_are_one_vs_rest_and_ignored_cells_do_not_count(metric):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(80, 4, generator=generator, dtype=torch.float64)
    targets = torch.randint(4, (80,), generator=generator)
    targets[::7] = -1
    kept = targets != -1
    expected = torch.stack([metric(scores[kept, c], targets[kept] == c) for c in range(4)])

    multi_hot = torch.nn.functional.one_hot(targets.clamp(min=0), 4).masked_fill(~kept[:, None], -1)
    for form in (targets, targets[:, None], targets.int(), multi_hot, multi_hot.float()):
        torch.testing.assert_close(metric(scores, form, ignore_index=-1), expected)

    multi_hot[3, 2] = multi_hot[5, 2] = -1
    cells = multi_hot[:, 2] != -1
    alone = metric(scores[cells, 2], multi_hot[cells, 2])
    torch.testing.assert_close(metric(scores, multi_hot, ignore_index=-1)[2], alone)


@every_metric
@pytest.mark.parametrize(
    "targets", [[0, 0, 0], [-100] * 3, []], ids=["no positive", "ignored", "empty"]
)
def test_undefined_classes_are_nan(metric, targets):
    targets = torch.tensor(targets, dtype=torch.long)
    scores = torch.arange(float(len(targets)))
    assert metric(scores, targets).isnan()
    assert metric(scores[:, None].expand(-1, 1), targets).isnan().tolist() == [True]


def test_no_negative_leaves_only_what_needs_false_alarms_undefined():
    scores, targets = torch.arange(3.0), torch.ones(3)
    assert partial_auc(scores, targets).isnan()
    assert recall_at_fpr(scores, targets).isnan()
    assert precision_at_1(scores, targets) == 1
    assert average_precision(scores, targets) == 1
    assert recall_at_quantile(scores, targets, 0.5) == pytest.approx(2 / 3)


@every_metric
@pytest.mark.parametrize(
    ("given", "returned"),
    [(torch.float64,) * 2, (torch.float32,) * 2, (torch.bfloat16, torch.float32)],
    ids=str,
)
def test_dtype_shape_and_no_gradient(metric, given, returned):
    scores = torch.randn(20, 2, requires_grad=True).to(given)
    result = metric(scores, torch.arange(20) % 2)
    assert (result.shape, result.dtype, result.requires_grad) == ((2,), returned, False)
    binary = metric(scores[:, 0], torch.arange(20) % 2)
    assert binary.shape == ()
    torch.testing.assert_close(metric(scores[:, :1], torch.arange(20) % 2), binary[None])
    assert metric(scores, torch.arange(20) % 2, average="macro").dtype == returned


@every_metric
def test_infinite_scores_are_ordinary_ranks(metric):
    scores, targets = torch.tensor([2.0, 1.0, 0.0, -1.0]), torch.tensor([1, 0, -100, 1])
    extreme = torch.tensor([math.inf, 1.0, 0.0, -math.inf])
    torch.testing.assert_close(metric(extreme, targets), metric(scores, targets))


@every_metric
def test_a_nan_score_makes_its_class_undefined_unless_ignored(metric):
    scores = torch.tensor([[2.0, 1.0], [math.nan, 0.0], [0.0, 3.0], [1.0, 2.0]])
    targets = torch.eye(2)[[0, 1, 0, 1]]
    assert metric(scores, targets).isnan().tolist() == [True, False]
    targets[1, 0] = -100
    kept = [0, 2, 3]
    torch.testing.assert_close(
        metric(scores, targets)[0], metric(scores[kept, 0], targets[kept, 0])
    )


WRONG = {
    "3-d scores": (
        average_precision,
        (torch.zeros(2, 2, 2), torch.zeros(2)),
        {},
        r"targets must .* \[2, 2, 2\]",
    ),
    "rows differ": (
        partial_auc,
        (torch.zeros(3, 2), torch.zeros(2)),
        {},
        "targets must have shape",
    ),
    "class id": (average_precision, (torch.zeros(2, 2), torch.tensor([0, 2])), {}, "got 2"),
    "negative id": (average_precision, (torch.zeros(2, 2), torch.tensor([0, -1])), {}, "got -1"),
    "soft target": (average_precision, (torch.zeros(2), torch.tensor([0.5, 1])), {}, "got 0.5"),
    "quantile": (recall_at_quantile, (torch.zeros(2), torch.ones(2), 1.5), {}, "quantile"),
    "interpolation": (
        recall_at_quantile,
        (torch.zeros(2), torch.ones(2)),
        {"interpolation": "cubic"},
        "interpolation",
    ),
    "interpolation of weighted rows": (
        recall_at_quantile,
        (torch.zeros(2), torch.ones(2)),
        {"interpolation": "linear", "sample_weight": torch.ones(2)},
        "interpolation must be",
    ),
    "fpr": (recall_at_fpr, (torch.zeros(2), torch.ones(2), 1.5), {}, "fpr"),
    "k": (precision_at_k, (torch.zeros(2), torch.ones(2), 0), {}, "k must be at least 1"),
    "negative weight": (
        average_precision,
        (torch.zeros(2), torch.ones(2)),
        {"sample_weight": -torch.ones(2)},
        "sample_weight must be finite and not negative",
    ),
    "weights that would broadcast": (
        average_precision,
        (torch.zeros(2, 3), torch.zeros(2, dtype=torch.long)),
        {"sample_weight": torch.ones(2, 1)},
        "sample_weight must have shape",
    ),
    "alpha": (partial_auc, (torch.zeros(2), torch.ones(2), -0.1), {}, "alpha"),
    "empty band": (partial_auc, (torch.zeros(2), torch.ones(2), 0.2, 0.2), {}, "beta"),
}


@pytest.mark.parametrize(("metric", "arguments", "options", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments(metric, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        metric(*arguments, **options)
