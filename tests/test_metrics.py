"""The exact metrics against scikit-learn and against their definitions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from imbalanced_losses.metrics import average_precision, partial_auc, recall_at_quantile

METRICS = [average_precision, partial_auc, recall_at_quantile]
every_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)


@st.composite
def problems(draw):
    """Scores and 0/1 targets, both present, with few distinct scores and so with ties."""
    rows = draw(st.integers(2, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = rng.normal(size=rows)
    if draw(st.booleans()):
        scores = np.round(scores * draw(st.integers(1, 4)))
    targets = rng.random(rows) < draw(st.sampled_from([0.05, 0.3, 0.8]))
    targets[:2] = [True, False]
    return torch.tensor(scores), torch.tensor(targets)


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


@given(problems())
def test_average_precision_is_scikit_learns(problem):
    scores, targets = problem
    expected = average_precision_score(targets.numpy(), scores.numpy())
    assert average_precision(scores, targets).item() == pytest.approx(expected, abs=1e-12)


@given(problems(), st.floats(0, 0.9), st.floats(0.01, 1))
def test_partial_auc_is_scikit_learns(problem, alpha, width):
    scores, targets = problem
    beta = min(alpha + width, 0.999)
    ends = [sklearn_partial_auc(targets.numpy(), scores.numpy(), f) for f in (alpha, beta)]
    expected = (ends[1] - ends[0]) / (beta - alpha)
    assert partial_auc(scores, targets, alpha, beta).item() == pytest.approx(expected, abs=1e-10)


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


def test_no_negative_leaves_only_the_partial_auc_undefined():
    scores, targets = torch.arange(3.0), torch.ones(3)
    assert partial_auc(scores, targets).isnan()
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
        r"scores must .* \[2, 2, 2\]",
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
    "alpha": (partial_auc, (torch.zeros(2), torch.ones(2), -0.1), {}, "alpha"),
    "empty band": (partial_auc, (torch.zeros(2), torch.ones(2), 0.2, 0.2), {}, "beta"),
}


@pytest.mark.parametrize(("metric", "arguments", "options", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments(metric, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        metric(*arguments, **options)
