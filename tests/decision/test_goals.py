"""Goals: one number, higher being better, from the logits of any kind of problem."""

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from imbalanced_losses._goals import BUDGETED, Judge
from imbalanced_losses.recipes import GOALS, Problem

BINARY = Problem("binary", (180, 20))
CLASSES = Problem("multiclass", (120, 60, 20))
LABELS = Problem("multilabel", (60, 20), rows=200)


def rows_of(problem, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if problem.kind == "multiclass":
        targets = torch.arange(3).repeat_interleave(torch.tensor(problem.counts))
        hot = torch.nn.functional.one_hot(targets).float()
    else:
        order = torch.rand(200, problem.outputs, generator=generator).argsort(0)
        targets = hot = (order < torch.tensor(problem.positives)).float()
    # Rounded, so that some scores tie.
    logits = (hot + torch.randn(hot.shape, generator=generator)).mul(4).round() / 4
    return logits, targets, torch.rand(200, generator=generator) + 0.1


def sklearn_value(goal, logits, targets, weight):
    z, y, w = logits.numpy().astype(float), targets.numpy(), weight.numpy()
    exclusive = y.ndim == 1
    shares = torch.from_numpy(z).softmax(1) if exclusive else torch.from_numpy(z).sigmoid()
    if goal == "log_loss" and exclusive:
        return -sk.log_loss(y, shares.numpy(), sample_weight=w)
    if goal == "balanced_accuracy" and exclusive:
        return sk.balanced_accuracy_score(y, z.argmax(1), sample_weight=w)
    if goal == "tail_accuracy" and exclusive:
        return sk.recall_score(y, z.argmax(1), labels=[2], average="macro", sample_weight=w)
    hot = np.eye(3)[y] if exclusive else y
    values = []
    for column in range(hot.shape[1]):
        truth, score = hot[:, column], shares.numpy()[:, column]
        if goal == "average_precision":
            values.append(sk.average_precision_score(truth, score, sample_weight=w))
        elif goal == "balanced_accuracy":
            values.append(sk.balanced_accuracy_score(truth, score > 0.5, sample_weight=w))
        elif goal == "tail_accuracy":
            values.append(sk.recall_score(truth, score > 0.5, sample_weight=w))
        elif goal == "log_loss":
            values.append(-sk.log_loss(truth, score, sample_weight=w))
        elif goal == "recall_at_fpr":
            fpr, tpr, _ = sk.roc_curve(truth, score, sample_weight=w, drop_intermediate=False)
            values.append(tpr[fpr <= 0.1].max())
        else:
            # scikit-learn gives McClish's form of the area; this is the area itself.
            mcclish = sk.roc_auc_score(truth, score, max_fpr=0.1, sample_weight=w)
            least, most = 0.1**2 / 2, 0.1
            values.append(((2 * mcclish - 1) * (most - least) + least) / most)
    return np.mean(values)


@pytest.mark.parametrize("problem", [BINARY, CLASSES, LABELS], ids=lambda p: p.kind)
@pytest.mark.parametrize("goal", [g for g in GOALS if g != "recall_at_budget"])
def test_a_goal_is_what_scikit_learn_computes_from_the_probabilities(problem, goal) -> None:
    logits, targets, weight = rows_of(problem)
    if problem.kind == "multiclass":  # ties of sums of exponentials are broken by rounding
        logits = logits + torch.linspace(0, 1e-3, logits.numel()).view_as(logits)
    value = Judge(goal, problem, budget=0.1)(logits, targets, weight)
    assert value == pytest.approx(sklearn_value(goal, logits, targets, weight), abs=1e-9)


@pytest.mark.parametrize("problem", [BINARY, CLASSES, LABELS], ids=lambda p: p.kind)
def test_the_budget_of_alerts_is_a_share_of_all_rows(problem) -> None:
    logits, targets, _ = rows_of(problem)
    logits = logits + torch.linspace(0, 1e-3, logits.numel()).view_as(logits)
    scores = logits.log_softmax(1) if problem.kind == "multiclass" else logits
    hot = torch.nn.functional.one_hot(targets) if problem.kind == "multiclass" else targets
    top = scores.argsort(0, descending=True)[:20]
    expected = (hot.gather(0, top).sum(0) / hot.sum(0)).mean()
    value = Judge("recall_at_budget", problem, budget=0.1)(logits, targets)
    assert value == pytest.approx(expected.item(), abs=1e-6)


def test_tied_rows_find_no_more_than_the_budget_leaves_room_for() -> None:
    logits, targets, _ = rows_of(BINARY)
    judge = Judge("recall_at_budget", BINARY, budget=0.1)
    constant = judge(torch.zeros_like(logits), targets)
    assert constant == pytest.approx(0.1)
    # The mean over orders of the tied rows.
    coarse = (logits * 2).round()
    generator = torch.Generator().manual_seed(1)
    found = [
        judge(coarse + 1e-3 * torch.rand(coarse.shape, generator=generator), targets)
        for _ in range(400)
    ]
    assert judge(coarse, targets) == pytest.approx(np.mean(found), abs=0.02)


@pytest.mark.parametrize("problem", [BINARY, CLASSES, LABELS], ids=lambda p: p.kind)
def test_every_goal_has_a_title_and_equal_weights_change_nothing(problem) -> None:
    logits, targets, _ = rows_of(problem)
    for goal in GOALS:
        judge = Judge(goal, problem)
        assert judge.title
        assert ("0.01" in judge.title) == (goal in BUDGETED)
        same = judge(logits, targets, torch.full((200,), 3.0))
        assert judge(logits, targets) == pytest.approx(same, abs=1e-12)
        assert judge.per_class(logits, targets).dtype == torch.float64


def test_a_goal_without_positives_is_nan_and_a_wrong_setting_is_named() -> None:
    assert np.isnan(Judge("average_precision", BINARY)(torch.randn(9, 1), torch.zeros(9, 1)))
    with pytest.raises(ValueError, match="goal must be one of"):
        Judge("accuracy", BINARY)
    with pytest.raises(ValueError, match="budget must be above 0 and below 1"):
        Judge("partial_auc", BINARY, budget=0)
