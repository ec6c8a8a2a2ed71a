"""Recipes: each trains on the problems it is for, and undoes what it did to probabilities."""

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from imbalanced_losses import MixedLoss, recipes
from imbalanced_losses.recipes import BASELINE, GOALS, RECIPES, Problem, for_problem, recommend

ROOT = Path(__file__).parents[2]
PROBLEMS = {
    "binary": Problem("binary", (57, 7)),
    "multiclass": Problem("multiclass", (40, 16, 8)),
    "multilabel": Problem("multilabel", (20, 5), rows=64),
}
SUITED = [(kind, recipe) for kind in PROBLEMS for recipe in for_problem(kind)]


def targets_of(problem: Problem) -> torch.Tensor:
    """Targets with exactly the problem's counts."""
    if problem.kind == "multiclass":
        counts = torch.tensor(problem.counts)
        return torch.arange(len(counts)).repeat_interleave(counts)
    order = torch.arange(int(problem.rows)).unsqueeze(1)
    return (order < torch.tensor(problem.positives)).float()


@pytest.mark.parametrize(
    ("kind", "recipe"), SUITED, ids=lambda value: getattr(value, "name", value)
)
def test_every_recipe_lowers_its_loss_from_its_own_start(kind, recipe) -> None:
    torch.manual_seed(0)
    problem = PROBLEMS[kind]
    targets = targets_of(problem)
    rows = torch.randn(len(targets), 4) + targets.view(len(targets), -1)[:, :1]
    layer = recipe.init_layer(nn.Linear(4, problem.outputs), problem)
    loss_fn = recipe.build_loss(problem, steps=40, budget=0.1)
    weight = torch.ones(len(targets))
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    terms = [loss_fn.pointwise, loss_fn.ranking] if recipe.ranking else [loss_fn]
    with torch.no_grad():
        before = [copy.deepcopy(term)(layer(rows), targets).item() for term in terms]
    for _ in range(40):
        optimizer.zero_grad()
        loss_fn(layer(rows), targets, sample_weight=weight).backward()
        optimizer.step()
    with torch.no_grad():
        after = [term.eval()(layer(rows), targets).item() for term in terms]
    assert all(late < early for late, early in zip(after, before, strict=True))
    assert recipe.ranking is None or loss_fn.k > 0


@pytest.mark.parametrize("kind", PROBLEMS)
def test_prior_bias_starts_at_the_class_frequencies(kind) -> None:
    problem = PROBLEMS[kind]
    layer = nn.Linear(4, problem.outputs)
    layer.weight.data.zero_()
    logits = RECIPES[BASELINE].init_layer(layer, problem)(torch.zeros(1, 4))
    shares = logits.softmax(1) if kind == "multiclass" else logits.sigmoid()
    assert shares[0].tolist() == pytest.approx(list(problem.rates), rel=1e-5)
    plain = nn.Linear(4, problem.outputs)
    before = plain.bias.detach().clone()
    assert torch.equal(RECIPES["cross_entropy"].init_layer(plain, problem).bias, before)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind, name)
        for kind, recipe in SUITED
        for name in [recipe.name]
        if name in {BASELINE, "class_weights", "sqrt_weights", "focal", "logit_adjusted"}
    ],
)
def test_undo_gives_back_the_probabilities_at_which_the_loss_is_least(kind, name) -> None:
    # One cell of features: the minimiser is a function of the shares alone.
    problem, recipe = PROBLEMS[kind], RECIPES[name]
    targets = targets_of(problem)
    logits = torch.zeros(1, problem.outputs, dtype=torch.float64, requires_grad=True)
    loss_fn = recipe.build_loss(problem, steps=1)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = loss_fn(logits.expand(len(targets), -1), targets)
        value.backward()
        return value

    for _ in range(5):
        optimizer.step(closure)
    undone = recipe.undo(logits.detach(), problem)
    shares = undone.softmax(1) if kind == "multiclass" else undone.sigmoid()
    assert shares[0].tolist() == pytest.approx(list(problem.rates), rel=1e-4)


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_undo_moves_balanced_sampling_back_to_the_rates(kind) -> None:
    problem = PROBLEMS[kind]
    logits = RECIPES["balanced_sampler"].undo(torch.zeros(1, problem.outputs), problem)
    shares = logits.softmax(1) if kind == "multiclass" else logits.sigmoid()
    assert shares[0].tolist() == pytest.approx(list(problem.rates), rel=1e-5)


def test_a_ranking_loss_joins_after_a_tenth_with_the_budget_and_room_for_positives() -> None:
    rare = Problem("binary", (99_900, 100))
    loss = RECIPES["pauc_mix_3"].build_loss(rare, steps=95, budget=0.005)
    assert isinstance(loss, MixedLoss)
    assert (loss.warmup_steps, loss.ratio) == (10, 3.0)
    assert (loss.ranking.beta, loss.ranking.surrogate) == (0.005, "pairwise")
    assert loss.ranking.queue_size == 8000
    multiclass = RECIPES["smooth_ap_mix"].build_loss(PROBLEMS["multiclass"], steps=10)
    assert (multiclass.ranking.scores, multiclass.ranking.queue_size) == ("log_odds", 1024)


def test_the_advice_names_a_recipe_for_every_goal_kind_and_capacity() -> None:
    for goal in GOALS:
        for kind in PROBLEMS:
            for capacity in ("linear", "small", "flexible"):
                recipe = recommend(goal, kind, capacity)
                assert kind in recipe.kinds
                assert recipe in for_problem(kind, goal)
    assert recommend("log_loss").name == BASELINE


def test_the_advice_is_what_cleared_the_bar_of_the_study_or_gained_as_much_for_less() -> None:
    advice = json.loads((ROOT / "benchmarks/evidence/advice.json").read_text())
    names = {
        "prior_bias": BASELINE,
        "class_weights": "adjusted",  # which spoils neither ranking nor probabilities
        "ensemble_4_weight_average": "ensemble",
        "ensemble_4_smooth_ap_mix_1": "smooth_ap_ensemble",
        "ensemble_4_weight_average_smooth_ap_mix_1": "ensemble",  # without the ranking loss
    }
    measured = {
        "average_precision": "average_precision",
        "partial_auc_0.01": "partial_auc",
        "recall_at_fpr_0.01": "recall_at_fpr",
        "recall_at_alerts_0.01": "recall_at_budget",
        "balanced_accuracy": "balanced_accuracy",
        "log_loss": "log_loss",
    }
    for name, goal in measured.items():
        for capacity, entry in advice[name].items():
            assert recommend(goal, "binary", capacity).name == names[entry["use"]], (goal, capacity)
    for kind in ("multiclass", "multilabel"):
        assert recommend("average_precision", kind, "flexible").name == BASELINE


def test_the_recipes_of_a_problem_begin_with_the_baseline_and_skip_what_changes_nothing() -> None:
    assert for_problem("binary")[0].name == BASELINE
    names = {recipe.name for recipe in for_problem("multiclass", "average_precision")}
    assert "adjusted" not in names
    assert "logit_adjusted" in names
    assert "adjusted" in {recipe.name for recipe in for_problem("multiclass", "balanced_accuracy")}
    assert all(name == recipe.name for name, recipe in RECIPES.items())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Problem("unary", (1, 2)), "kind must be one of 'binary'"),
        (lambda: Problem("binary", (1, 2, 3)), r"\(negatives, positives\)"),
        (lambda: Problem("multiclass", (5,)), "at least two classes"),
        (lambda: Problem("multiclass", (5, 0)), "counts must be above 0"),
        (lambda: Problem("multiclass", (5, 5), rows=11), "sum of the counts, 10"),
        (lambda: Problem("multilabel", (5, 5)), "rows must be the number of rows"),
        (lambda: Problem("multilabel", (5, 9), rows=9), "each below rows=9"),
        (lambda: RECIPES["ldam"].build_loss(PROBLEMS["binary"], steps=1), "for multiclass problem"),
        (lambda: RECIPES["focal"].build_loss(PROBLEMS["binary"], steps=0), "steps must be at"),
        (
            lambda: RECIPES["pauc_mix"].build_loss(PROBLEMS["binary"], steps=1, budget=1.0),
            "budget must be above 0 and below 1",
        ),
        (lambda: recommend("accuracy"), "goal must be one of"),
        (lambda: recommend("log_loss", capacity="huge"), "capacity must be one of"),
        (lambda: for_problem("ternary"), "kind must be one of"),
        (lambda: for_problem("binary", "accuracy"), "goal must be one of"),
    ],
)
def test_a_wrong_setting_is_named(call, words) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def test_a_rate_is_a_share_of_all_rows() -> None:
    assert PROBLEMS["binary"].rates == (7 / 64,)
    assert PROBLEMS["multilabel"].rates == (20 / 64, 5 / 64)
    assert math.isclose(sum(PROBLEMS["multiclass"].rates), 1)
    assert recipes.BASELINE in RECIPES
