"""Every script of `examples/` at reduced size, and the calls of the tutorials they stand for."""

import importlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from sklearn.metrics import average_precision_score
from torch import nn

import launch
from imbalanced_losses import (
    LossWarmupWrapper,
    PAUCAtBudgetLoss,
    RecallAtQuantileLoss,
    SmoothAPLoss,
    SoftmaxFocalLoss,
)

# Long runs of what other tests cover.
pytestmark = pytest.mark.no_cover

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name, **sizes):
    torch.manual_seed(0)
    return importlib.import_module(f"examples.{name}").main(**sizes)


def test_every_example_has_a_test():
    tested = {
        "binary_rare_positives",
        "multiclass_long_tail",
        "class_weights_with_focal",
        "per_class_logging",
        "coverage_at_budget_demo",
        "contested_top",
        "own_network",
    }
    tested |= {"accelerate_training", "torchrun_ddp"}  # in test_integrations_examples.py
    assert {path.stem for path in EXAMPLES.glob("*.py")} == tested


def test_binary_rare_positives(capsys):
    result = run("binary_rare_positives", rows=3000, epochs=8, seeds=2)
    assert list(result) == ["linear", "64 hidden units"]
    # 5 % positives: a random ranking has an average precision near 0.05.
    assert all(0.12 < ap <= 1 for values in result.values() for ap in values.values())
    printed = capsys.readouterr().out
    assert all(name in printed for values in result.values() for name in values)


def test_multiclass_long_tail(capsys):
    result = run("multiclass_long_tail", rows=2500, epochs=8, seeds=1)
    assert list(result)[:3] == ["CE + prior bias", "... decision adjusted", "cross-entropy"]
    for ap in result.values():
        assert len(ap) == 5
        assert all(0 <= value <= 1 for value in ap)
        assert np.mean(ap) > 0.5
    printed = capsys.readouterr().out
    assert all(phase in printed for phase in ("warm-up", "blend", "main"))


def test_class_weights_with_focal(capsys):
    result = run("class_weights_with_focal", rows=2000, epochs=80)
    assert list(result) == [
        "cross-entropy",
        "CE + prior bias",
        "weighted CE",
        "focal",
        "weighted focal",
    ]
    assert all(row["rare AP"] > 0.2 for row in result.values())
    assert result["weighted CE"]["rare recall"] > result["cross-entropy"]["rare recall"]
    assert "effective_number" in capsys.readouterr().out


def test_per_class_logging(capsys):
    log = run("per_class_logging", rows=1500, epochs=5)
    assert len(log) == 4
    assert all(len(line) == 4 and all(0 <= ap <= 1 for ap in line) for line in log)
    assert min(log[-1]) > 0.05
    assert capsys.readouterr().out.count("warm-up") == 1


def test_own_network(tmp_path, capsys):
    found = run("own_network", eights=40, epochs=1, folds=2, jobs=1, out=tmp_path)
    names = {"prior_bias", "class_weights", "focal", "recall_mix", "boosting"}
    assert {one.recipe for one in found.outcomes} == names
    assert all(0 <= one.mean <= 1 for one in found.outcomes)
    assert found.decisions[0].wish == "budget=0.03"
    assert (tmp_path / "report.html").stat().st_size > 20_000
    assert "report.html" in capsys.readouterr().out


def test_coverage_at_budget_demo():
    result = run("coverage_at_budget_demo", rows=12_000, epochs=6, seeds=1)
    assert len(result) == 9
    assert {f"pAUC {s}, {n}" for s in ("trapezoid", "pairwise") for n in ("pool", "live")} < set(
        result
    )
    # Random alerts would cover the budget itself, 0.005 of the positives.
    assert all(0.05 < row["coverage"] <= 1 for row in result.values())
    assert all(math.isfinite(row["AP"]) for row in result.values())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*next to no gradient")
def test_contested_top_sees_what_a_detached_threshold_does(capsys):
    found = run("contested_top", rows=8000, steps=150, seeds=1)["linear head"]
    assert found["recall, threshold moves"] > found["recall, threshold detached"] + 0.02
    printed = capsys.readouterr().out
    assert all(name in printed for name in found)


def test_an_example_runs_as_a_script():
    script = EXAMPLES / "per_class_logging.py"
    done = launch.python(script, "--rows=300", "--epochs=2")
    assert "class 3" in done.stdout
    assert done.stderr == ""


# The calls of the multiclass tutorial: names, arguments and hooks, on fewer rows.


@pytest.fixture(scope="module")
def five_classes():
    weights = np.array([16, 8, 4, 2, 1]) / 31
    x, y = make_classification(
        n_samples=2000,
        n_features=20,
        n_informative=15,
        n_redundant=2,
        n_classes=5,
        n_clusters_per_class=1,
        weights=list(weights),
        flip_y=0.01,
        random_state=42,
    )
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.long)


def _macro_ap(model, x, y):
    with torch.no_grad():
        probabilities = torch.softmax(model(x), dim=1).numpy()
    return average_precision_score(np.eye(5)[y.numpy()], probabilities, average="macro")


def _model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))


def test_tutorial_focal_with_a_list_of_weights(five_classes):
    x, y = five_classes
    counts = [(y == c).sum().item() for c in range(5)]
    raw = [len(y) / (5 * max(count, 1)) for count in counts]
    loss_fn = SoftmaxFocalLoss(alpha=[weight / max(raw) for weight in raw], gamma=2.0)
    model = _model()
    before = _macro_ap(model, x, y)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        optimizer.step()
    assert _macro_ap(model, x, y) > before + 0.3


def test_tutorial_smooth_ap_with_warm_up(five_classes):
    x, y = five_classes
    model = _model()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    steps_per_epoch = len(y) // 250
    loss_fn = LossWarmupWrapper(
        warmup_loss=nn.CrossEntropyLoss(),
        main_loss=SmoothAPLoss(num_classes=5, queue_size=1024),
        warmup_epochs=5,
        blend_epochs=2,
        temp_start=0.05,
        temp_end=0.005,
        temp_decay_steps=10 * steps_per_epoch,
    )
    phases, temperatures, global_step = [], [], 0
    for epoch in range(10):
        loss_fn.on_train_epoch_start(epoch)
        for rows in torch.split(torch.randperm(len(y)), 250):
            loss_fn.on_train_batch_start(global_step)
            loss = loss_fn(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            global_step += 1
        phases.append("warmup" if loss_fn.in_warmup else "blend" if loss_fn.in_blend else "AP")
        temperatures.append(loss_fn.current_temperature)
    assert phases == ["warmup"] * 5 + ["blend"] * 2 + ["AP"] * 3
    assert temperatures[:5] == [0.01] * 5  # of the main loss, which is not in use yet
    steps = [steps_per_epoch * (epoch + 1) - 1 for epoch in range(5)]
    expected = [0.05 * 0.1 ** (step / (10 * steps_per_epoch)) for step in steps]
    assert temperatures[5:] == pytest.approx(expected)
    assert _macro_ap(model, x, y) > 0.8


# The calls of the softmax focal reference page.


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((32, 10), {"gamma": 2.0, "reduction": "mean"}),
        (
            (32, 10),
            {
                "gamma": 2.0,
                "alpha": [0.25] * 10,
                "reduction": "mean_positive",
                "background_class": 0,
                "ignore_index": -100,
            },
        ),
        ((4, 10, 64, 64), {"gamma": 2.0, "alpha": [0.25] * 10, "reduction": "mean_positive"}),
    ],
)
def test_reference_page_focal_calls(shape, settings):
    logits = torch.randn(shape, requires_grad=True)
    targets = torch.randint(0, 10, (shape[0], *shape[2:]))
    loss = SoftmaxFocalLoss(**settings)(logits, targets)
    loss.backward()
    assert loss.ndim == 0
    assert loss > 0
    assert logits.grad.abs().sum() > 0


# The calls of the how-to about the ranking losses.


@pytest.mark.parametrize(
    ("loss_class", "settings", "rows"),
    [
        (SmoothAPLoss, {"num_classes": 4, "queue_size": 1024, "temperature": 0.01}, 32),
        (SmoothAPLoss, {"num_classes": 1, "queue_size": 256}, 32),
        (SmoothAPLoss, {"num_classes": 4, "queue_size": 0}, 32),
        (RecallAtQuantileLoss, {"num_classes": 4, "quantile": 0.005, "queue_size": 1024}, 32),
        (RecallAtQuantileLoss, {"num_classes": 1, "quantile": 0.01, "queue_size": 512}, 32),
        (
            RecallAtQuantileLoss,
            {"num_classes": 4, "quantile": 0.01, "quantile_interpolation": "linear"},
            32,
        ),
        (
            PAUCAtBudgetLoss,
            {"num_classes": 4, "alpha": 0.0, "beta": 0.005, "queue_size": 1024},
            256,
        ),
        (
            PAUCAtBudgetLoss,
            {"num_classes": 1, "alpha": 0.0, "beta": 0.005, "queue_size": 1024},
            256,
        ),
        (
            PAUCAtBudgetLoss,
            {"num_classes": 4, "beta": 0.005, "surrogate": "trapezoid", "n_knots": 2},
            256,
        ),
        (PAUCAtBudgetLoss, {"num_classes": 4, "beta": 0.05, "surrogate": "pairwise"}, 256),
        (
            PAUCAtBudgetLoss,
            {
                "num_classes": 4,
                "beta": 0.005,
                "surrogate": "trapezoid",
                "pos_numerator": "live",
                "queue_size": 8192,
            },
            256,
        ),
    ],
)
def test_how_to_ranking_calls(loss_class, settings, rows):
    torch.manual_seed(0)
    classes = settings["num_classes"]
    loss_fn = loss_class(**settings)
    logits = torch.randn(rows, classes, requires_grad=True)
    targets = torch.randint(0, max(classes, 2), (rows,))
    loss = loss_fn(logits, targets)
    loss.backward()
    assert loss.ndim == 0
    assert 0 <= loss <= 1
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().sum() > 0
    loss_fn.reset_queue()


def test_how_to_tokens_with_a_capped_pool():
    loss_fn = SmoothAPLoss(num_classes=10, queue_size=1024, max_pool_size=256)
    logits = torch.randn(4, 128, 10).view(-1, 10)
    targets = torch.randint(0, 10, (4, 128)).view(-1)
    with pytest.warns(UserWarning, match="max_pool_size"):
        loss = loss_fn(logits, targets)
    assert 0 <= loss <= 1


def test_how_to_diagnostics():
    loss_fn = PAUCAtBudgetLoss(num_classes=4, alpha=0.0, beta=0.05, queue_size=1024)
    logits, targets = torch.randn(256, 4), torch.randint(0, 4, (256,))
    loss, stats = loss_fn(logits, targets, return_diagnostics=True)
    assert 0 <= loss <= 1
    keys = ("t_alpha", "t_beta", "tau_eff", "band_neg_count", "pauc_var", "grad_pos_count")
    assert all(stats[key].shape == (4,) for key in keys)
    assert stats["grad_pos_count"].tolist() == torch.bincount(targets, minlength=4).tolist()
    negatives = 256 - torch.bincount(targets, minlength=4)
    # About 5 % of each class's negatives lie in the band, its end points included.
    assert ((stats["band_neg_count"] - 0.05 * negatives).abs() <= 2).all()


def test_how_to_queue_frozen_in_eval():
    loss_fn = SmoothAPLoss(num_classes=4, queue_size=64)
    loss_fn(torch.randn(16, 4), torch.randint(0, 4, (16,)))
    before = {name: value.clone() for name, value in loss_fn.state_dict().items()}
    loss_fn.eval()
    loss_fn(torch.randn(16, 4), torch.randint(0, 4, (16,)))
    after = loss_fn.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
