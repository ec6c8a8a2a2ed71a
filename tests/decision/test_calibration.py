"""Corrections against the numerical minimum of each loss's risk; reliability and its error."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.calibration import calibration_curve

from imbalanced_losses import functional
from imbalanced_losses.calibration import (
    calibration_error,
    reliability,
    undo_class_weights,
    undo_focal,
    undo_logit_adjustment,
    undo_resampling,
)

ROWS, CLASSES = 12, 3


def posteriors():
    """Class probabilities `[N, C]`, some of them as small as a rare class's."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(ROWS, CLASSES, generator=generator, dtype=torch.float64) * 2
    logits[:, 2] -= 3
    return logits.softmax(1)


def minimum(risk, shape):
    """Logits where a strictly decreasing risk of float64 logits is least."""
    logits = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [logits],
        max_iter=300,
        tolerance_grad=1e-8,
        tolerance_change=1e-16,
        history_size=50,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        loss = risk(logits)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert logits.grad.abs().max() < 1e-7
    return logits.detach()


def expected_over_classes(loss, truth):
    """The risk: losses of every class, by its true probability."""

    def risk(logits):
        cells = [loss(logits, torch.full((ROWS,), c)) for c in range(CLASSES)]
        return (torch.stack(cells, 1) * truth).sum()

    return risk


WEIGHTS = torch.tensor([0.5, 1.0, 12.0], dtype=torch.float64)
COUNTS = torch.tensor([800, 150, 50])

SOFTMAX = {
    "class weights": (
        lambda z, y: F.cross_entropy(z, y, weight=WEIGHTS, reduction="none"),
        lambda z: undo_class_weights(z, WEIGHTS),
    ),
    "logit adjustment": (
        lambda z, y: F.cross_entropy(z + 1.3 * (COUNTS / 1000).double().log(), y, reduction="none"),
        lambda z: undo_logit_adjustment(z, COUNTS, tau=1.3),
    ),
    "focal 2": (
        lambda z, y: functional.softmax_focal_loss(z, y, reduction="none"),
        undo_focal,
    ),
    "focal 0.5": (
        lambda z, y: functional.softmax_focal_loss(z, y, gamma=0.5, reduction="none"),
        lambda z: undo_focal(z, 0.5),
    ),
    "weighted focal 3": (
        lambda z, y: functional.softmax_focal_loss(
            z, y, alpha=WEIGHTS, gamma=3.0, reduction="none"
        ),
        lambda z: undo_focal(z, 3.0, alpha=[0.5, 1.0, 12.0]),
    ),
    "focal and class weights in two steps": (
        lambda z, y: functional.softmax_focal_loss(z, y, alpha=WEIGHTS, reduction="none"),
        lambda z: undo_class_weights(undo_focal(z), WEIGHTS.numpy()),
    ),
}


@pytest.mark.parametrize(("loss", "undo"), SOFTMAX.values(), ids=SOFTMAX)
def test_the_minimum_of_a_softmax_loss_comes_back_to_the_true_probabilities(loss, undo):
    truth = posteriors()
    trained = minimum(expected_over_classes(loss, truth), truth.shape)
    assert (trained.softmax(1) - truth).abs().max() > 0.05
    torch.testing.assert_close(undo(trained).softmax(1), truth, atol=1e-6, rtol=1e-4)
    dense = undo(trained.T[None].contiguous())
    torch.testing.assert_close(dense[0].T, undo(trained))


SIGMOID = {
    "pos_weight": (
        lambda z, y: F.binary_cross_entropy_with_logits(z, y, pos_weight=WEIGHTS, reduction="none"),
        lambda z: undo_class_weights(z, WEIGHTS, activation="sigmoid"),
    ),
    "focal": (
        lambda z, y: functional.sigmoid_focal_loss(z, y, reduction="none"),
        lambda z: undo_focal(z, alpha=0.25, activation="sigmoid"),
    ),
    "focal without alpha": (
        lambda z, y: functional.sigmoid_focal_loss(z, y, alpha=-1, gamma=5.0, reduction="none"),
        lambda z: undo_focal(z, 5.0, alpha=-1, activation="sigmoid"),
    ),
}


@pytest.mark.parametrize(("loss", "undo"), SIGMOID.values(), ids=SIGMOID)
def test_the_minimum_of_a_sigmoid_loss_comes_back_to_the_true_probabilities(loss, undo):
    truth = posteriors()

    def risk(logits):
        ones = torch.ones_like(logits)
        return (truth * loss(logits, ones) + (1 - truth) * loss(logits, 0 * ones)).sum()

    trained = minimum(risk, truth.shape)
    assert (trained.sigmoid() - truth).abs().max() > 0.05
    torch.testing.assert_close(undo(trained).sigmoid(), truth, atol=1e-6, rtol=1e-4)


def test_alpha_of_a_sigmoid_focal_loss_may_differ_by_label():
    z = torch.randn(5, 3, 2, dtype=torch.float64)
    found = undo_focal(z, 1.5, alpha=[0.2, 0.5, 0.9], activation="sigmoid")
    for c, alpha in enumerate((0.2, 0.5, 0.9)):
        expected = undo_focal(z[:, c], 1.5, alpha=alpha, activation="sigmoid")
        torch.testing.assert_close(found[:, c], expected)
    # Two classes of a softmax are a sigmoid of their difference.
    pair = undo_focal(torch.stack((0 * z[:, 0, 0], z[:, 0, 0]), 1), 1.5, alpha=[0.8, 0.2])
    torch.testing.assert_close(pair[:, 1] - pair[:, 0], found[:, 0, 0])


def test_posteriors_of_rebalanced_rows_come_back_by_bayes():
    x = torch.linspace(-3, 5, 40, dtype=torch.float64)[:, None]
    likelihood = torch.exp(-((x - torch.tensor([0.0, 1.0, 3.0])) ** 2) / 2)
    population = torch.tensor([0.9, 0.09, 0.01], dtype=torch.float64)
    truth = likelihood * population / (likelihood * population).sum(1, keepdim=True)
    balanced = likelihood / likelihood.sum(1, keepdim=True)
    found = undo_resampling(balanced.log(), [100, 100, 100], population).softmax(1)
    torch.testing.assert_close(found, truth)
    rare = truth[:, 2]
    odds = likelihood[:, 2] / (likelihood[:, :2] @ population[:2] / 0.99)
    trained = 0.25 * odds / (0.25 * odds + 0.75)
    found = undo_resampling(trained.logit(), 0.25, 0.01, activation="sigmoid").sigmoid()
    torch.testing.assert_close(found, rare)


@pytest.mark.parametrize("gamma", [0, 0.5, 1.0, 2.0, 5.0])
def test_focal_corrections_of_extreme_logits_are_finite_ordered_and_right(gamma):
    z = torch.cat((torch.linspace(-60, 60, 241), torch.tensor([-1e4, -800, 800, 1e4]))).double()
    z = z.sort().values
    found = undo_focal(z, gamma, activation="sigmoid")
    assert found.isfinite().all()
    assert (found.diff() > 0).all()
    torch.testing.assert_close(found, -undo_focal(-z, gamma, activation="sigmoid"))
    if gamma == 0:
        torch.testing.assert_close(found, z)
    # From the other side of 1: log(1 - q) = -z, and r tends to 1.
    right = z[z > 40] * (1 + gamma) - math.log1p(gamma)
    torch.testing.assert_close(found[z > 40], right, rtol=1e-9, atol=1e-9)
    wide = torch.stack((z, -z / 3, torch.zeros_like(z)), 1)
    assert undo_focal(wide, gamma).softmax(1).isfinite().all()
    certain = undo_focal(torch.tensor([[1.0, 0.0, 0.0]]).log(), gamma).softmax(1)
    assert certain.tolist() == [[1, 0, 0]]


@pytest.mark.parametrize(
    ("given", "returned"),
    [(torch.float64,) * 2, (torch.float32,) * 2, (torch.bfloat16, torch.float32)],
    ids=str,
)
def test_corrections_keep_shape_and_dtype_and_take_arrays(given, returned):
    z = torch.randn(4, 3, 2, requires_grad=True).to(given)
    for found in (
        undo_focal(z, alpha=[1.0, 2.0, 3.0]),
        undo_class_weights(z, np.ones(3)),
        undo_resampling(z, [1, 1, 1], [1, 2, 3]),
        undo_logit_adjustment(z, [1, 2, 3]),
    ):
        assert (found.shape, found.dtype, found.requires_grad) == (z.shape, returned, False)
    listed = undo_class_weights([[0.5, 1.5]], [1.0, 1.0])
    assert torch.equal(listed, torch.tensor([[0.5, 1.5]], dtype=torch.float64))


def rare_rows(rows=3000, seed=0):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(rows, generator=generator, dtype=torch.float64).sub(3).sigmoid()
    return truth, (torch.rand(rows, generator=generator) < truth).long()


def test_equally_wide_bins_are_scikit_learns():
    truth, targets = rare_rows()
    found = reliability(truth, targets, bins=10, strategy="uniform")
    frequency, confidence = calibration_curve(targets, truth, n_bins=10)
    filled = found.rows > 0
    assert found.rows.sum() == 3000
    np.testing.assert_allclose(found.frequency[filled], frequency)
    np.testing.assert_allclose(found.confidence[filled], confidence)
    assert found.frequency[~filled].isnan().all()


def test_bins_of_equally_many_rows_are_scikit_learns_and_keep_ties_together():
    truth, targets = rare_rows()
    found = reliability(truth, targets, bins=12)
    frequency, confidence = calibration_curve(targets, truth, n_bins=12, strategy="quantile")
    assert set(found.rows.tolist()) == {250}
    np.testing.assert_allclose(found.frequency, frequency)
    np.testing.assert_allclose(found.confidence, confidence)
    tied = reliability(torch.tensor([0.1] * 6 + [0.2, 0.3]), [0] * 7 + [1], bins=4)
    assert tied.rows.tolist() == [6, 0, 0, 2]


def test_reliability_of_classes_weights_and_ignored_cells_is_that_of_each_alone():
    generator = torch.Generator().manual_seed(3)
    p = torch.rand(60, 3, 2, generator=generator).softmax(1)
    targets = torch.randint(3, (60, 2), generator=generator)
    targets[::5] = -100
    weight = torch.rand(60, generator=generator)
    whole = reliability(p, targets, bins=4, sample_weight=weight)
    kept = targets != -100
    for c in range(3):
        rows = p[:, c][kept], (targets == c)[kept]
        alone = reliability(*rows, bins=4, sample_weight=weight[:, None].expand(60, 2)[kept])
        torch.testing.assert_close(tuple(part[c] for part in whole), tuple(alone))
    errors = calibration_error(p, targets, bins=4)
    torch.testing.assert_close(
        errors[1], calibration_error(p[:, 1][kept], (targets == 1)[kept], bins=4)
    )
    torch.testing.assert_close(
        calibration_error(p, targets, bins=4, average="macro"), errors.mean()
    )
    assert calibration_error(p, targets.fill_(-100)).isnan().all()


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_the_plain_error_is_its_definition(norm):
    truth, targets = rare_rows()
    guess = (truth * 1.7).clamp(max=1)
    order = guess.argsort()
    total = 0.0
    for rows in order.chunk(10):
        gap = abs((targets[rows].double().mean() - guess[rows].mean()).item())
        total += gap ** (1 if norm == "l1" else 2) / 10
    expected = total if norm == "l1" else math.sqrt(total)
    found = calibration_error(guess, targets, norm=norm, debias=False, bins=10)
    assert found.item() == pytest.approx(expected)


def test_the_debiased_l1_error_is_twice_the_plain_one_less_its_mean_over_resampled_noise():
    truth, targets = rare_rows(400)
    rng = np.random.default_rng(0)
    found = reliability(truth, targets, bins=8)
    y, c, n = (part.numpy() for part in (found.frequency, found.confidence, found.rows))
    noisy = rng.normal(y, np.sqrt(y * (1 - y) / n), size=(200_000, 8))
    plain = np.average(np.abs(y - c), weights=n)
    expected = 2 * plain - np.average(np.abs(noisy - c).mean(0), weights=n)
    error = calibration_error(truth, targets, bins=8)
    assert error.item() == pytest.approx(max(expected, 0), abs=1e-4)


@pytest.mark.parametrize("scale", [1.0, 1.6])
def test_debiased_errors_are_nearer_the_truth_than_plain_ones(scale):
    runs, bins = 60, 10
    whole, _ = rare_rows(200_000, seed=99)
    guess = (whole * scale).clamp(max=1)
    means = [rows.mean().item() for rows in guess.sort().values.chunk(bins)]
    exact = [rows.mean().item() for rows in whole[guess.argsort()].chunk(bins)]
    gaps = np.abs(np.array(means) - np.array(exact))
    truth = {"l1": gaps.mean(), "l2": math.sqrt((gaps**2).mean())}
    for norm, right in truth.items():
        off = {}
        for debias in (True, False):
            found = []
            for seed in range(runs):
                p, targets = rare_rows(600, seed)
                error = calibration_error(
                    (p * scale).clamp(max=1), targets, norm=norm, debias=debias, bins=bins
                )
                found.append(error.item() ** (2 if norm == "l2" else 1))
            off[debias] = abs(np.mean(found) - right ** (2 if norm == "l2" else 1))
        assert off[True] < 0.6 * off[False], (norm, off)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: undo_class_weights(torch.zeros(2, 3), [1.0, 2.0]), ValueError, r"\[3\].*\[2\]"),
        (lambda: undo_class_weights(torch.zeros(2, 2), [1.0, 0.0]), ValueError, "above 0"),
        (lambda: undo_class_weights(torch.zeros(3), [1.0]), ValueError, r"\[N, C\]"),
        (lambda: undo_class_weights(torch.zeros(2, 2).long(), [1, 1]), TypeError, "floating"),
        (lambda: undo_focal(torch.zeros(2, 2), -1.0), ValueError, "gamma"),
        (
            lambda: undo_focal(torch.zeros(2), alpha=1.0, activation="sigmoid"),
            ValueError,
            "below 1",
        ),
        (lambda: undo_focal(torch.zeros(2), activation="tanh"), ValueError, "activation"),
        (lambda: undo_logit_adjustment(torch.zeros(2, 2), [1, 0]), ValueError, "class_counts"),
        (
            lambda: undo_resampling(torch.zeros(2), 1.5, 0.1, activation="sigmoid"),
            ValueError,
            "trained must be above 0 and below 1; got 1.5",
        ),
        (lambda: reliability(torch.tensor([1.2]), [1]), ValueError, "within .*got 1.2"),
        (lambda: reliability(torch.tensor([math.nan]), [1]), ValueError, "not be NaN"),
        (lambda: reliability(torch.tensor([0.5]), [1], bins=0), ValueError, "bins"),
        (lambda: reliability(torch.tensor([0.5]), [1], strategy="x"), ValueError, "strategy"),
        (lambda: reliability([1, 0], [1, 0]), TypeError, "floating"),
        (lambda: calibration_error([0.5], [1], norm="max"), ValueError, "norm"),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
