"""The demo: its data, its comparison, and a short run from the command line to the files."""

import io
import json

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy import stats
from sklearn.metrics import average_precision_score

from demo import __main__ as command
from demo import data, strategies
from demo.comparison import Results, paired_difference
from demo.curves import phase_spans
from demo.report import mean_and_spread, plain_statement
from demo.runner import run_task
from demo.strategies import BASELINE, Plan
from demo.tasks import TASKS, Task, measure_long_tail, precision_at_each_positive
from demo.training import Network, Run, held_out_scores, train

# Long runs of what other tests cover.
pytestmark = pytest.mark.no_cover


@pytest.mark.parametrize(
    ("draw", "train_counts", "test_counts"),
    [
        (data.long_tailed_digits, [150, 103, 70, 48, 33, 23, 16, 11, 7, 5], [28] * 10),
        (data.rare_digit, [700, 10], [900, 100]),
    ],
)
def test_split_counts_and_disjointness(draw, train_counts, test_counts):
    split = draw(3)
    assert split.train_counts == train_counts
    assert split.test_counts == test_counts
    assert not set(split.train_rows) & set(split.test_rows)
    assert len(split.x_train) == len(set(split.train_rows))
    assert split.x_train.min() >= 0
    assert split.x_train.max() <= 1
    assert draw(3).test_rows == split.test_rows
    assert draw(4).test_rows != split.test_rows


@pytest.mark.parametrize("draw", [data.long_tailed_digits, data.rare_digit])
def test_validation_rows_come_out_of_training(draw):
    split, validation = draw(0), draw(0, "validation")
    used = set(validation.train_rows) | set(validation.test_rows)
    assert used == set(split.train_rows)
    assert not set(validation.train_rows) & set(validation.test_rows)
    assert min(validation.test_counts) >= 1


def test_long_tail_is_geometric():
    ratios = np.diff(np.log(data.long_tail_counts()))
    # Rounding to whole rows moves a ratio most where only a few rows are left.
    np.testing.assert_allclose(ratios, np.log(5 / 150) / 9, atol=0.08)


def test_precision_steps_average_to_the_average_precision():
    generator = np.random.default_rng(0)
    labels = generator.random(80) < 0.2
    scores = generator.normal(size=80)
    steps = precision_at_each_positive(labels, scores)
    assert len(steps) == labels.sum()
    assert steps.mean() == pytest.approx(average_precision_score(labels, scores))


def test_held_out_scores_are_log_odds_of_the_softmax():
    torch.manual_seed(0)
    network, x = Network(64, 10), torch.rand(7, 64)
    probabilities = network(x).detach().double().softmax(1)
    expected = torch.log(probabilities / (1 - probabilities))
    np.testing.assert_allclose(held_out_scores(network, x), expected.numpy(), atol=1e-5)


def test_measures_of_known_scores():
    labels = np.arange(10).repeat(4)
    perfect = np.eye(10)[labels]
    assert set(measure_long_tail(labels, perfect).values()) == {1.0}
    no_nines = perfect.copy()
    no_nines[labels == 9] = np.eye(10)[0]
    measured = measure_long_tail(labels, no_nines)
    assert measured["tail recall"] == pytest.approx(2 / 3)
    assert measured["middle AP"] == 1.0
    assert measured["tail AP"] < measured["head AP"] < 1


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.keys())
def test_every_loss_starts_alike(task):
    """During the warm-up a scheduled loss is plain cross-entropy: equal epochs, bit for bit."""
    split = task.draw(0, "test")
    baseline, *rest = (train(s, split, 0, 5, task.lead) for s in task.strategies)
    scheduled = [run for run in rest if "warm-up" in run.phases]
    assert len(scheduled) == 2
    for run in scheduled:
        assert run.phases == ["warm-up", "warm-up", "blend", "main", "main"]
        assert run.losses[:2] == baseline.losses[:2]
        assert run.losses[2] != baseline.losses[2]
    # The prior bias is where the first epoch may differ most; it must help there.
    assert rest[0].losses[0] < baseline.losses[0]


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS.keys())
def test_weighted_losses_weigh_the_rare_class_more(task):
    split = task.draw(0, "test")
    losses = {s.short: s.build(Plan(split.y_train, 10, 8)) for s in task.strategies}
    weighted = losses["weighted"]
    if task.per_class:
        assert weighted.weight.argmax() == 9
    else:
        assert weighted.pos_weight.item() == pytest.approx(70)


@pytest.mark.parametrize(
    ("values", "baseline", "verdict", "ahead", "behind"),
    [
        ([0.9, 0.8, 0.7], [0.8, 0.69, 0.61], "better", 3, 0),
        ([0.8, 0.69, 0.61], [0.9, 0.8, 0.7], "worse", 0, 3),
        ([0.9, 0.5, 0.7], [0.8, 0.8, 0.7], "unclear", 1, 1),
        ([0.9], [0.1], "unclear", 1, 0),
        ([0.5, 0.5], [0.5, 0.5], "unclear", 0, 0),
    ],
)
def test_paired_difference(values, baseline, verdict, ahead, behind):
    values, baseline = np.array(values), np.array(baseline)
    difference = paired_difference(values, baseline)
    assert (difference.verdict, difference.ahead, difference.behind) == (verdict, ahead, behind)
    assert difference.mean == pytest.approx((values - baseline).mean())
    if len(values) > 2:
        interval = stats.ttest_rel(values, baseline).confidence_interval(0.95)
        assert difference.mean - difference.half_width == pytest.approx(interval.low)
        assert difference.mean + difference.half_width == pytest.approx(interval.high)


def test_pairing_sees_what_the_spread_over_seeds_hides():
    baseline = np.array([0.1, 0.5, 0.9])
    assert paired_difference(baseline - [0.02, 0.021, 0.019], baseline).verdict == "worse"


def test_paired_difference_rejects_unpaired_values():
    with pytest.raises(ValueError, match=r"one number per seed.*\(2,\) and \(3,\)"):
        paired_difference(np.zeros(2), np.zeros(3))


def _made_up(per_strategy: dict[str, list[float]]) -> Results:
    """Results whose only measure is the number given for each seed."""
    seeds = len(next(iter(per_strategy.values())))
    task = Task(
        key="made-up",
        title="Made up",
        draw=data.rare_digit,
        strategies=(),
        measure=lambda labels, scores: {"AP": float(scores[0])},
        epochs=1,
        per_class=False,
    )
    runs = {
        name: [Run(scores=np.array([value])) for value in values]
        for name, values in per_strategy.items()
    }
    splits = tuple(data.rare_digit(seed) for seed in range(seeds))
    return Results(task, tuple(range(seeds)), splits, runs, "test")


def test_plain_statement_says_who_lost():
    results = _made_up(
        {
            BASELINE: [0.80, 0.70, 0.75],
            "loser": [0.70, 0.61, 0.64],
            "winner": [0.90, 0.81, 0.84],
            "noisy": [0.90, 0.50, 0.75],
        }
    )
    lost, won, noisy = plain_statement(results)
    assert lost == "loser: LOST on AP (-0.100, lower in 3 of 3 seeds)."
    assert won == "winner: won on AP (+0.100, higher in 3 of 3 seeds)."
    assert noisy == "noisy: behind, within the noise, on AP (-0.033, lower in 1 of 3 seeds)."


def test_plain_statement_says_so_when_nobody_lost():
    *_, last = plain_statement(_made_up({BASELINE: [0.5, 0.6], "same": [0.5, 0.6]}))
    assert last.startswith("No loss was clearly below")
    assert "two" in plain_statement(_made_up({BASELINE: [0.5], "worse": [0.1]}))[0]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.5], "0.500"),
        ([0.4, 0.6], "0.500 ±.141"),
        ([0.0, 14.54], "7.270 ±10.281"),
    ],
)
def test_mean_and_spread(values, text):
    assert mean_and_spread(np.array(values)) == text


def test_phase_spans():
    phases = ["warm-up", "warm-up", "blend", "main", "main"]
    assert phase_spans(phases) == [(0, 2, "warm-up"), (2, 3, "blend"), (3, 5, "main")]


def test_same_colour_for_the_same_kind_of_loss():
    colours = {}
    for strategy in (*strategies.LONG_TAIL, *strategies.RARE_DIGIT):
        assert colours.setdefault(strategy.name, strategy.color) == strategy.color
    for group in (strategies.LONG_TAIL, strategies.RARE_DIGIT):
        assert len({strategy.color for strategy in group}) == len(group)


def test_quick_run_end_to_end(tmp_path, capsys):
    folder = tmp_path / "pictures"
    assert command.main(["--quick", "--epochs", "4", "--output", str(folder)]) == 0
    output = capsys.readouterr().out

    pictures = {path.name for path in folder.glob("*.png")}
    assert pictures == {
        f"{key}-{name}.png"
        for key in TASKS
        for name in ("classes", "precision-recall", "ap-per-class", "differences", "training")
        if TASKS[key].per_class or name != "ap-per-class"
    }
    assert all(path.stat().st_size > 10_000 for path in folder.glob("*.png"))
    assert all(name in output for name in (*pictures, "results.json"))

    saved = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    for key, task in TASKS.items():
        assert list(saved[key]["measures"]) == [strategy.name for strategy in task.strategies]
        for strategy in task.strategies:
            assert strategy.name in output
            for values in saved[key]["measures"][strategy.name].values():
                assert len(values) == 2
                assert all(0 <= value <= 1 for value in values)
    # Not a terminal: one line per task while it trains, no bar.
    before_tables = output.split("test set")[0].strip().splitlines()
    assert len([line for line in before_tables if "losses x" in line]) == 2
    assert len(before_tables) <= 5
    assert "\r" not in output


def test_progress_bar_on_a_terminal():
    console = Console(force_terminal=True, width=100, record=True, file=io.StringIO())
    results = run_task(TASKS["rare-digit"], seeds=1, epochs=1, held_out="test", console=console)
    assert len(results.runs) == len(strategies.RARE_DIGIT)
    assert "epochs" in console.export_text()


@pytest.mark.parametrize("missing", ["matplotlib", "rich", "sklearn"])
def test_missing_extra_is_one_sentence(missing, monkeypatch, capsys):
    find_spec = command.importlib.util.find_spec
    monkeypatch.setattr(
        command.importlib.util,
        "find_spec",
        lambda name: None if name == missing else find_spec(name),
    )
    assert command.main(["--quick"]) == 1
    error = capsys.readouterr().err
    assert missing in error
    assert 'in its clone, pip install ".[demo]"' in error


@pytest.mark.parametrize("wrong", [["--seeds", "0"], ["--epochs", "-1"], ["--tasks", "faces"]])
def test_wrong_arguments(wrong, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.arguments(wrong)
    assert wrong[0] in capsys.readouterr().err
