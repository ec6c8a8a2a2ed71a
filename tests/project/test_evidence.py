"""The study: stacked networks learn as they would alone, and goals are what scikit-learn says."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    log_loss,
    recall_score,
    roc_auc_score,
    roc_curve,
)
from torch import nn

from benchmarks.evidence import __main__ as command
from benchmarks.evidence import arms, goals, run, sets, stack
from benchmarks.evidence.arms import Recipe
from benchmarks.evidence.gradients import QUEUE, Gradients, Mix
from benchmarks.evidence.sets import Task
from benchmarks.evidence.stack import Shape, Stack
from imbalanced_losses import MixedLoss, SmoothAPLoss

pytestmark = pytest.mark.no_cover


def task(rows=400, share=0.1, features=3, seed=0, kind="binary"):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features)).astype("f4")
    if kind == "binary":
        y = (x[:, 0] + rng.normal(size=rows) > np.quantile(x[:, 0], 1 - share) + 0.7).astype("i8")
    else:
        y = rng.choice(3, rows, p=[0.8, 0.13, 0.07])
        x[:, 1] += y
    return Task(f"made{seed}", "data", kind, x, y, np.arange(rows))


def plain_net(many, place, hidden):
    """The network at `place` (rate, fold, recipe) of a stack, as torch's own modules."""
    rate, fold, recipe = place
    recipes, widths = many.axes[2], [many.shape.inputs, *hidden, many.shape.outputs]
    layers = []
    for number, (matrix, offset) in enumerate(
        zip(many.weights[::2], many.weights[1::2], strict=True)
    ):
        matrix, offset = matrix.detach()[rate, fold], offset.detach()[rate, fold]
        if number == 0:
            matrix = matrix.unflatten(-1, (recipes, -1))[:, recipe]
            offset = offset.unflatten(-1, (recipes, -1))[0, recipe]
        else:
            matrix, offset = matrix[recipe], offset[recipe, 0]
        layer = nn.Linear(widths[number], widths[number + 1])
        with torch.no_grad():
            layer.weight.copy_(matrix.t())
            layer.bias.copy_(offset)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("hidden", [(), (4,), (5, 6)])
@pytest.mark.parametrize("classes", [1, 3])
def test_a_stacked_network_learns_as_it_would_alone_with_mixed_loss_and_adamw(hidden, classes):
    torch.manual_seed(0)
    steps, size, folds, rates = 12, 32, 2, (0.01, 0.05)
    recipes = [
        Recipe(),
        Recipe(weight_power=0.5, prior_bias=False),
        Recipe(ranking="smooth_ap", ratio=1.0),
        Recipe(ranking="smooth_ap", ratio=3.0, seed=1),
    ]
    counts = torch.tensor([[200.0, 40.0, 20.0]] * folds)[:, : max(2, classes)]
    biases = run._biases(recipes, counts, classes)
    seeds = [recipe.seed for recipe in recipes]
    many = Stack(Shape(3, hidden, classes), rates, biases, seeds, steps, 0)
    place = (1, 0, 2)
    alone, weighted = plain_net(many, place, hidden), plain_net(many, (0, 1, 1), hidden)
    gradients = Gradients(recipes, counts, steps)
    assert gradients.warmup == 1
    x = torch.randn(steps, folds, size, 3)
    y = torch.randint(0, max(2, classes), (steps, folds, size))

    mixed = MixedLoss(
        nn.BCEWithLogitsLoss() if classes == 1 else nn.CrossEntropyLoss(),
        SmoothAPLoss(
            classes,
            QUEUE,
            temperature=0.2,
            tau_scale="std",
            scores="logits" if classes == 1 else "log_odds",
        ),
        ratio=1.0,
        warmup_steps=1,
    )
    weights = gradients.weights[1, 1]
    optimizers = [
        torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.01)
        for net, rate in ((alone, rates[1]), (weighted, rates[0]))
    ]
    for step in range(steps):
        outputs = many.forward(x[step])
        many.step(outputs, gradients(outputs, y[step], step))
        for optimizer, rate in zip(optimizers, (rates[1], rates[0]), strict=True):
            optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
            optimizer.zero_grad()
        z = alone(x[step, 0])
        mixed(z.squeeze(1) if classes == 1 else z, y[step, 0]).backward()
        z, own = weighted(x[step, 1]), y[step, 1]
        if classes == 1:
            cells = F.binary_cross_entropy_with_logits(z[:, 0], own.float(), reduction="none")
        else:
            cells = F.cross_entropy(z, own, reduction="none")
        (cells * weights[own]).mean().backward()
        for optimizer in optimizers:
            optimizer.step()
    fresh = torch.randn(50, 3)
    for net, (rate, fold, recipe) in ((alone, place), (weighted, (0, 1, 1))):
        found = many.predict(fresh, fold)[rate, recipe]
        torch.testing.assert_close(found, net(fresh).detach(), rtol=2e-3, atol=2e-4)
    mix = gradients.mixes[0]
    assert mix.k[1, 0, 0].item() == pytest.approx(mixed.k, rel=1e-3)


def test_a_mix_keeps_k_where_one_gradient_is_zero_and_leaves_pure_ranking_alone():
    recipes = [Recipe(ranking="pauc", ratio=2.0), Recipe(ranking="pauc")]
    mix = Mix("pauc", [0, 1], Gradients(recipes, torch.tensor([[90.0, 10.0]]), 10))
    pointwise, ranking = torch.full((1, 1, 2, 4, 1), 0.5), torch.full((1, 1, 2, 4, 1), 0.25)
    found = mix.mixed(pointwise, ranking)
    torch.testing.assert_close(found[0, 0, 0], torch.full((4, 1), 0.5 + 2 * 0.5))
    torch.testing.assert_close(found[0, 0, 1], torch.full((4, 1), 0.25))
    before = mix.k.clone()
    found = mix.mixed(pointwise, torch.zeros_like(ranking))
    assert mix.k.equal(before)
    torch.testing.assert_close(found[0, 0, 0], torch.full((4, 1), 0.5))


@pytest.mark.parametrize("recipe", [Recipe(pointwise="focal"), Recipe(smoothing=0.1)])
def test_pointwise_gradients_are_those_of_autograd(recipe):
    gradients = Gradients([recipe], torch.tensor([[30.0, 10.0]]), 10)
    z = torch.randn(2, 1, 1, 8, 1, dtype=torch.float64).float().requires_grad_()
    y = torch.randint(0, 2, (1, 8))
    target = y[0].float()
    p = z[0, 0, 0, :, 0].sigmoid()
    chance = torch.where(target == 1, p, 1 - p)
    if recipe.pointwise == "focal":
        loss = (-((1 - chance) ** 2) * chance.log()).mean()
    else:
        soft = target * 0.9 + 0.05
        loss = -(soft * p.log() + (1 - soft) * (1 - p).log()).mean()
    (expected,) = torch.autograd.grad(loss, z)
    found = gradients(z, y, 0)
    torch.testing.assert_close(found[0], expected[0])


def test_averaged_weights_follow_the_weights():
    many = Stack(Shape(2, (), 1), (0.1,), torch.zeros(1, 1, 1), [0], 4, 0)
    expected = many.weights[0].detach().clone()
    for step in range(4):
        outputs = many.forward(torch.ones(1, 3, 2))
        many.step(outputs, torch.ones_like(outputs))
        decay = min(0.99, (step + 1) / (step + 10))
        expected = decay * expected + (1 - decay) * many.weights[0].detach()
    torch.testing.assert_close(many.averages[0], expected)


def test_stratified_batches_hold_the_share_of_every_class():
    labels = torch.tensor([0] * 90 + [1] * 10)
    stream = stack.batches(range(100), labels, 20, 0, stratified=True)
    assert {int(labels[next(stream)].sum()) for _ in range(12)} == {2}
    plain = stack.batches(range(100), labels, 30, 0, stratified=False)
    rows = torch.cat([next(plain) for _ in range(10)])
    assert rows.bincount().tolist() == [3] * 100, "every epoch has every row once"


def recall_with_alerts(scores, y, alerts):
    """The mean over the orders of tied rows: those at the last alert share what room there is."""
    last = np.sort(scores)[-alerts]
    above, tied = scores > last, scores == last
    share = (alerts - above.sum()) / tied.sum()
    return (y[above].sum() + share * y[tied].sum()) / y.sum()


@pytest.mark.parametrize("seed", range(3))
def test_binary_goals_are_those_of_scikit_learn_with_ties(seed):
    rng = np.random.default_rng(seed)
    y = (rng.random(300) < 0.15).astype(int)
    scores = np.round(rng.normal(size=(300, 4)) + y[:, None], 1)
    tensor, labels = torch.tensor(scores, dtype=torch.float32)[..., None], torch.tensor(y)
    found = {name: goal.of(tensor, labels).numpy() for name, goal in goals.GOALS.items()}
    for column in range(4):
        own = tensor[:, column, 0].numpy()
        decided = own > 0
        fpr, tpr, _ = roc_curve(y, own, drop_intermediate=False)
        area = 0.01 * (np.interp(0.01, fpr, tpr) if fpr[1] > 0.01 else np.nan)
        expected = {
            "average_precision": average_precision_score(y, own),
            "recall_at_fpr_0.005": tpr[fpr <= 0.005].max(),
            "recall_at_fpr_0.01": tpr[fpr <= 0.01].max(),
            "recall_at_alerts_0.01": recall_with_alerts(own, y, alerts=3),
            "balanced_accuracy": balanced_accuracy_score(y, decided),
            "tail_accuracy": recall_score(y, decided),
            "log_loss": log_loss(y, 1 / (1 + np.exp(-own.astype("f8")))),
        }
        for name, value in expected.items():
            assert found[name][column] == pytest.approx(value, abs=1e-5), name
        # McClish's form of scikit-learn, undone.
        area = (2 * roc_auc_score(y, own, max_fpr=0.01) - 1) * (0.01 - 0.01**2 / 2) + 0.01**2 / 2
        assert found["partial_auc_0.01"][column] == pytest.approx(area / 0.01, abs=1e-5)


def test_multiclass_goals_are_means_over_the_classes():
    rng = np.random.default_rng(0)
    y = rng.choice(3, 200, p=[0.7, 0.2, 0.1])
    logits = torch.tensor(rng.normal(size=(200, 2, 3)), dtype=torch.float32)
    chances = logits.softmax(2).numpy()
    labels = torch.tensor(y)
    found = {name: goal.of(logits, labels) for name, goal in goals.GOALS.items()}
    for column in range(2):
        own = chances[:, column]
        precision = np.mean([average_precision_score(y == c, own[:, c]) for c in range(3)])
        assert found["average_precision"][column].item() == pytest.approx(precision, abs=1e-5)
        expected = balanced_accuracy_score(y, own.argmax(1))
        assert found["balanced_accuracy"][column].item() == pytest.approx(expected, abs=1e-5)
        tail = recall_score(y, own.argmax(1), labels=[2], average="macro")
        assert found["tail_accuracy"][column].item() == pytest.approx(tail, abs=1e-5)
        assert found["log_loss"][column].item() == pytest.approx(log_loss(y, own), abs=1e-5)


def test_a_mean_prediction_has_the_mean_of_the_probabilities():
    logits = torch.randn(4, 5, 1)
    expected = logits.sigmoid().mean(0)
    torch.testing.assert_close(goals.mean_prediction(logits).sigmoid(), expected)
    logits = torch.randn(4, 5, 3)
    expected = logits.softmax(-1).mean(0)
    torch.testing.assert_close(goals.mean_prediction(logits).softmax(-1), expected)


def test_choices_take_the_best_candidate_and_tau_of_each_goal_on_validation_rows():
    y = torch.tensor([0, 0, 0, 0, 1, 1])
    prior = torch.tensor([0.9, 0.1])
    good = torch.tensor([-6.0, -5.0, -4.0, -3.0, -1.5, -1.0])  # ranks right, decides wrong
    bad = torch.tensor([2.0, -2.0, -2.0, -2.0, 1.0, 1.0])
    scores = torch.stack([bad, good], 1)[:, None, :, None]
    chosen = goals.choices(scores, y, prior)
    assert chosen["average_precision"][0].tolist() == [1]
    assert chosen["balanced_accuracy"][0].tolist() == [0]
    best, tau = chosen[goals.ADJUSTED]
    assert best.tolist() == [1]
    # Between -3 and -1.5 the decision is right: tau in (.68, 1.37), the middle of .7 ... 1.3.
    assert tau.item() == pytest.approx(1.0)
    found = goals.results(scores, y, prior, chosen)
    assert found[goals.ADJUSTED].item() == 1


def test_folds_keep_groups_whole_and_classes_in_equal_shares():
    made = task(600, 0.1)
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 200, 600)
    made = Task("made", "data", "binary", made.X, made.y, groups)
    parts = sets.folds(made, 0)
    tests = np.concatenate([part.test for part in parts])
    assert sorted(tests) == list(range(600))
    share = made.y.mean()
    for part in parts:
        assert len(set(groups)) == sum(len(set(groups[rows])) for rows in part)
        assert abs(made.y[part.test].mean() - share) < 0.03
        assert abs(len(part.fit) / 600 - 0.6) < 0.02
    again = sets.folds(made, 0)
    assert all((a.test == b.test).all() for a, b in zip(parts, again, strict=True))
    assert any(
        (a.test[:9] != b.test[:9]).any() for a, b in zip(parts, sets.folds(made, 1), strict=True)
    )


def test_keel_files_are_read_with_categories_and_identical_rows_in_one_group(tmp_path):
    rows = ["a, 1.5,negative", "b,2.5, negative", "a, 1.5,positive", "c,0.5,negative"]
    (tmp_path / "toy-1_vs_2.dat").write_text("\n".join(rows))
    made, digits = sets.tasks(tmp_path, None)
    assert (made.name, made.source, made.positives, made.rows) == ("toy-1_vs_2", "keel", 1, 4)
    assert made.X.shape == (4, 4)
    assert made.groups[0] == made.groups[2] != made.groups[1]
    assert not made.counts
    assert digits.kind == "multiclass"
    assert digits.counts


def test_sets_of_one_family_lie_in_one_half():
    names = ["yeast4", "yeast-2_vs_8", "wilt@.01", "wilt", "wine_bad", "winequality-red-4"]
    made = [Task(name, "keel", "binary", *[np.ones((1, 1))] * 3).half for name in names]
    assert made[0] == made[1]
    assert made[2] == made[3]
    assert made[4] == made[5]


def test_a_thinned_set_has_its_share_of_positives():
    thinned = sets._thinned(task(5000, 0.2), 0.01)
    assert thinned.name.endswith("@.01")
    assert thinned.positives / thinned.rows == pytest.approx(0.01, abs=5e-4)


@pytest.fixture
def made_sets(monkeypatch):
    models = {
        "linear": run.Model((), (0.01, 0.05), (4, 4)),
        "mlp3": run.Model((3,), (0.02,), (4, 4)),
    }
    monkeypatch.setattr(run, "MODELS", models)
    found = [task(200, seed=0), task(200, seed=1, kind="multiclass")]
    monkeypatch.setattr(run, "tasks", lambda *_: found)
    monkeypatch.setattr(
        run.joblib, "Parallel", lambda **_: lambda calls: (f(*a) for f, a, _ in calls)
    )
    return found


def test_a_run_fits_every_arm_and_goes_on_where_it_stopped(
    made_sets, tmp_path, monkeypatch, capsys
):
    results = tmp_path / "results.csv"
    plan = run.Plan(None, None, tmp_path / "chunks", results, ("linear", "mlp3"), k=2)
    rows = run.run(plan)
    for name, kind in (("made0", "binary"), ("made1", "multiclass")):
        for model in ("linear", "mlp3"):
            own = rows[(rows["set"] == name) & (rows["model"] == model)]
            assert set(own["arm"]) == set(arms.arms_of(kind, model))
            assert (own.groupby("arm").size() == 2).all()
    values = rows[list(goals.GOALS)]
    assert ((values >= 0) | values.isna()).all().all()
    assert values["average_precision"].notna().all()
    capsys.readouterr()
    pd.testing.assert_frame_equal(run.run(plan), rows)
    assert not capsys.readouterr().out, "nothing is fitted twice"
    rows.to_csv(results, index=False)
    elsewhere = replace(plan, folder=tmp_path / "other")
    pd.testing.assert_frame_equal(run.run(elsewhere), rows)
    assert not capsys.readouterr().out, "nor what only the results have"
    more = {**arms.BINARY, "smoother": arms._alone(smoothing=0.1)}
    monkeypatch.setattr(arms, "BINARY", more)
    longer = run.run(plan)
    assert len(longer) == len(rows) + 4
    kept = longer[longer["arm"] != "smoother"].sort_values(["set", "model", "arm", "fold"])
    before = rows.sort_values(["set", "model", "arm", "fold"])
    pd.testing.assert_frame_equal(kept.reset_index(drop=True), before.reset_index(drop=True))


def test_two_runs_that_fit_one_chunk_leave_its_rows_once(made_sets, tmp_path, monkeypatch):
    chosen = {"only": "made0", "arms": ("prior_bias",)}
    plan = run.Plan(None, None, tmp_path, tmp_path / "none", ("linear",), k=2, **chosen)
    fit, chunk = run.fit, run.Chunk("made0", "linear", 0)

    def overtaken(*arguments):
        rows = fit(*arguments)
        rows.to_csv(chunk.path(tmp_path), index=False)
        return rows

    monkeypatch.setattr(run, "fit", overtaken)
    assert len(run.run(plan)) == 2


def test_networks_with_hidden_units_train_longer_where_cross_entropy_needs_it():
    slow = Task("shuttle_rare", "data", "binary", *[np.ones((10_000, 1))] * 3)
    assert run.steps_of(slow, run.MODELS["mlp32"]) == 4 * run.MODELS["mlp32"].steps[1]
    assert run.steps_of(slow, run.MODELS["linear"]) == run.MODELS["linear"].steps[1]
    assert run.steps_of(task(), run.MODELS["mlp32"]) == run.MODELS["mlp32"].steps[0]


def test_arms_of_one_seed_share_everything_but_the_loss():
    """So that another arm can be added later: the reference comes out the same beside others."""
    made = task(300)
    chunk = run.Chunk("made0", "linear", 0)
    alone = run.fit(made, chunk, {"prior_bias": arms.BINARY["prior_bias"]}, 2, 10)
    beside = run.fit(made, chunk, {k: arms.BINARY[k] for k in ("focal", "prior_bias")}, 2, 10)
    beside = beside[beside["arm"] == "prior_bias"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, beside)


def test_the_command_names_an_unknown_model_and_a_missing_extra(capsys, monkeypatch, tmp_path):
    assert command.main(["fit", "--models", "forest", "--output", str(tmp_path)]) == 2
    assert "forest; there are linear" in capsys.readouterr().err
    monkeypatch.setattr(command, "NEEDED", ("no_such_package",))
    assert command.main(["fit"]) == 1
    assert 'pip install ".[bench]"' in capsys.readouterr().err
