"""The post-hoc shift of a decision, and the choice of its strength."""

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from imbalanced_losses import LogitAdjustedLoss, adjust_logits, choose_tau

COUNTS = [70, 20, 3, 1]


def balanced_accuracy(logits, targets):
    return balanced_accuracy_score(targets.flatten(), logits.argmax(1).flatten())


def rows(seed, classes=4, number=60):
    generator = torch.Generator().manual_seed(seed)
    prior = torch.tensor([0.7, 0.2, 0.07, 0.03])[:classes]
    targets = torch.multinomial(prior, number, True, generator=generator)
    logits = torch.randn(number, classes, generator=generator, dtype=torch.float64) + prior.log()
    logits[torch.arange(number), targets] += 1
    return logits, targets


def test_adjusted_logits_are_the_logits_minus_tau_log_prior():
    logits = torch.randn(3, 4, 2).half()
    log_prior = (torch.tensor(COUNTS) / sum(COUNTS)).log()[None, :, None]
    for tau in (0, 1.0, 2.5, -1):
        found = adjust_logits(logits, COUNTS, tau)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, logits.float() - tau * log_prior)
    leaf = torch.randn(3, 4, requires_grad=True)
    adjust_logits(leaf, COUNTS).sum().backward()
    assert (leaf.grad == 1).all()


def test_a_negative_tau_gives_back_the_probabilities_of_a_model_trained_adjusted():
    logits, targets = rows(0)
    wanted = torch.nn.functional.cross_entropy(adjust_logits(logits, COUNTS, -1), targets)
    torch.testing.assert_close(LogitAdjustedLoss(COUNTS)(logits, targets), wanted)


def brute_force(logits, targets, counts):
    """Balanced accuracy between, and beyond, all crossings of two classes in one row."""
    log_prior = torch.tensor(counts, dtype=torch.float64).log()
    crossings = {0.0}
    for z in logits:
        for a in range(len(counts)):
            for b in range(a):
                if log_prior[a] != log_prior[b]:
                    crossings.add(float((z[a] - z[b]) / (log_prior[a] - log_prior[b])))
    edges = sorted(c for c in crossings if c >= 0)
    middles = [(a + b) / 2 for a, b in zip(edges, [*edges[1:], edges[-1] + 1], strict=True)]
    return {t: balanced_accuracy(adjust_logits(logits, counts, t), targets) for t in middles}


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("counts", [COUNTS, [5, 5, 1, 1], [1, 2, 20, 90], [3, 3, 3, 3]], ids=str)
def test_balanced_accuracy_is_maximised_exactly(counts):
    for seed in range(3):
        logits, targets = rows(seed, number=25)
        tau = choose_tau(logits, targets, counts)
        assert tau >= 0
        tried = brute_force(logits, targets, counts)
        reached = balanced_accuracy(adjust_logits(logits, counts, tau), targets)
        assert reached == pytest.approx(max(tried.values()), abs=1e-12)


def test_of_equally_good_values_the_one_nearest_to_1_is_taken():
    log_ratio = torch.tensor(9.0).log()
    logits = torch.stack((log_ratio * torch.tensor([3.0, 0.5]), torch.zeros(2)), 1)
    # Right from tau = 0.5 on for the second row, until 3 for the first: 1 lies inside.
    assert choose_tau(logits, torch.tensor([0, 1]), [9, 1]) == 1.0
    # Right between 2 and 3 alone: the middle.
    logits = torch.stack((log_ratio * torch.tensor([3.0, 2.0]), torch.zeros(2)), 1)
    assert choose_tau(logits, torch.tensor([0, 1]), [9, 1]) == pytest.approx(2.5)
    # The same everywhere.
    assert choose_tau(torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]), [9, 1]) == 1.0
    assert choose_tau(torch.zeros(4, 2), torch.zeros(4, dtype=int), [1, 1]) == 1.0


def test_a_callable_is_tried_on_a_grid_that_holds_0_and_1():
    logits, targets = rows(0)
    seen = []

    def metric(adjusted, given):
        seen.append(adjusted)
        assert given is targets
        return 0.0

    assert choose_tau(logits, targets, COUNTS, metric) == 1.0
    assert len(seen) == 41
    torch.testing.assert_close(seen[0], logits)
    torch.testing.assert_close(seen[20], adjust_logits(logits, COUNTS))
    plain = choose_tau(logits, targets, COUNTS, lambda z, t: -float((z - logits).abs().sum()))
    assert plain == 0.0
    grid = choose_tau(logits, targets, COUNTS, balanced_accuracy)
    exact = choose_tau(logits, targets, COUNTS)
    scores = [balanced_accuracy(adjust_logits(logits, COUNTS, t), targets) for t in (grid, exact)]
    assert scores[0] <= scores[1]
    ties = iter([0, 0, *[0] * 17, 1, 0, 1, *[0] * 19])  # 0.95 and 1.05 are as near to 1
    assert choose_tau(logits, targets, COUNTS, lambda z, t: next(ties)) == 0.95


def test_dense_rows_and_ignored_ones_are_told_apart():
    logits, targets = rows(1)
    wanted = choose_tau(logits, targets, COUNTS)
    dense = logits.view(30, 2, 4).movedim(-1, 1)
    assert choose_tau(dense.float(), targets.view(30, 2), COUNTS) == pytest.approx(wanted, abs=1e-4)
    padded = torch.cat((logits, 100 * torch.eye(4, dtype=torch.float64)))
    labels = torch.cat((targets, torch.full((4,), -100)))
    assert choose_tau(padded, labels, COUNTS) == wanted


BAD = [
    ({"logits": torch.zeros(3, 4).long()}, TypeError, "logits must be of a floating"),
    ({"logits": torch.zeros(4)}, ValueError, "logits must have shape"),
    ({"logits": torch.full((3, 4), torch.nan)}, ValueError, "logits must be finite.*got nan"),
    ({"targets": torch.tensor([0, 1])}, ValueError, "targets must be class indices of shape"),
    ({"targets": torch.tensor([0, 1, 4])}, ValueError, "got 4"),
    ({"targets": torch.full((3,), -100)}, ValueError, "at least one row that is not ignored"),
    ({"targets": torch.zeros(3, 4)}, ValueError, "targets must be class indices"),
    ({"class_counts": [1, 2, 3]}, ValueError, "it has 3.*have 4"),
    ({"class_counts": [1, 2, 3, 0]}, ValueError, "class 3 has 0"),
    ({"metric": "auc"}, ValueError, "metric must be one of 'balanced_accuracy'; got 'auc'"),
    ({"metric": lambda z, t: float("nan")}, ValueError, "metric must return a number"),
]


@pytest.mark.parametrize(("change", "error", "words"), BAD)
def test_bad_calls_say_what_is_wrong(change, error, words):
    good = {"logits": torch.zeros(3, 4), "targets": torch.arange(3), "class_counts": COUNTS}
    with pytest.raises(error, match=words):
        choose_tau(**{**good, **change})
