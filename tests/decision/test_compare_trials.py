"""Trials: which rows they see, that they can be repeated and go on, and what a comparison holds."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn.metrics import average_precision_score
from torch import nn
from torch.utils.data import Dataset, TensorDataset

import launch
from imbalanced_losses._goals import bounds_of
from imbalanced_losses._paired import corrected_interval
from imbalanced_losses._training.fit import FitSettings
from imbalanced_losses.compare import Comparison, _report, compare
from imbalanced_losses.compare import _boosting as boosting
from imbalanced_losses.compare import _trials as trials
from imbalanced_losses.compare._boosting import boost
from imbalanced_losses.compare._folds import split
from imbalanced_losses.compare._run import _how_long
from imbalanced_losses.compare._summary import outcome
from imbalanced_losses.recipes import GOALS, RECIPES

FEW = "imbalanced_losses.compare._compare.TREES"
SMALL = {
    "recipes": ["focal"],
    "hidden": (4,),
    "folds": 2,
    "repeats": 1,
    "max_epochs": 2,
    "batch_size": 8,
    "learning_rate": 0.03,
    "jobs": 1,
    "quiet": True,
}


@pytest.fixture(autouse=True)
def few_trees_and_no_page(monkeypatch):
    monkeypatch.setattr(FEW, 20)
    monkeypatch.setattr(_report, "write_report", lambda found, folder: folder / "report.html")


def binary(rows=120, every=8, gap=1.5, seed=0):
    rng = np.random.default_rng(seed)
    y = (np.arange(rows) % every == 0).astype(int)
    return rng.normal(size=(rows, 3)) + gap * y[:, None], y


def same(one, other):
    """Whether two comparisons hold the same; seconds differ from run to run."""

    def told(found):
        facts = found.to_dict()
        for row in facts["outcomes"]:
            del row["seconds"]
        return json.dumps(facts, sort_keys=True)

    assert told(one) == told(other)
    for name, scores in one.scores.calibrated.items():
        np.testing.assert_array_equal(scores, other.scores.calibrated[name])
    np.testing.assert_array_equal(one.scores.raw, other.scores.raw)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A comparison and its folder."""
    folder = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FEW, 20)
        return compare(binary(), out=folder, **SMALL), folder


# Folds


def parts_of(targets, groups=None, folds=5, repeats=2, seed=0):
    targets = np.asarray(targets)
    groups = np.arange(len(targets)) if groups is None else np.asarray(groups)
    return split(targets, groups, folds=folds, repeats=repeats, seed=seed)


def test_every_row_is_tested_once_in_a_repeat_and_never_trains_its_own_test():
    y = (np.arange(103) % 9 == 0).astype(int)
    parts = parts_of(y)
    assert [(part.repeat, part.number) for part in parts] == [
        (r, k) for r in (0, 1) for k in range(5)
    ]
    for repeat in (0, 1):
        tested = np.concatenate([part.test for part in parts if part.repeat == repeat])
        assert sorted(tested) == list(range(103))
    for part in parts:
        together = np.concatenate([part.train, part.validation, part.test])
        assert sorted(together) == list(range(103))
        # As even as 12 positives in 5 folds, and those left over in 5 parts, can be.
        assert y[part.test].sum() in (2, 3)
        assert y[part.validation].sum() in (2, 3)
        assert len(part.test) in (20, 21)


def test_repeats_are_split_anew_and_those_before_stay():
    y = (np.arange(60) % 6 == 0).astype(int)
    short, long = parts_of(y, repeats=1), parts_of(y, repeats=2)
    for one, other in zip(short, long[:5], strict=True):
        np.testing.assert_array_equal(one.test, other.test)
    assert not np.array_equal(long[0].test, long[5].test)
    assert not np.array_equal(parts_of(y, seed=1)[0].test, short[0].test)


def test_rows_of_one_group_are_never_apart():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 60, 400)
    y = (groups % 7 == 0).astype(int)
    for part in parts_of(y, groups):
        sets = [set(groups[rows]) for rows in part[2:]]
        assert len(set.union(*sets)) == sum(map(len, sets))
        assert set(y[part.train]) == {0, 1}
        assert set(y[part.test]) == {0, 1}


def test_a_class_with_fewer_rows_than_folds_stays_in_training():
    y = np.repeat([0, 1, 2], [60, 20, 3])
    for part in parts_of(y):
        assert (y[part.train] == 2).sum() == 3
        assert set(y[part.test]) == {0, 1}


def test_a_class_whose_groups_end_in_one_part_stays_in_training():
    # Label 1 holds in five groups, each of which also has a label of its own, rarer than it.
    marks = np.zeros((100, 2), dtype=np.uint8)
    marks[:2, 0] = marks[:2, 1] = 1
    for part in parts_of(marks, folds=2):
        assert marks[part.train].any(0).all()


@pytest.mark.parametrize("seed", range(5))
def test_each_class_and_label_is_in_each_training_part(seed):
    rng = np.random.default_rng(seed)
    marks = (rng.random((200, 4)) < [0.3, 0.1, 0.05, 0.02]).astype(np.uint8)
    marks[:2] = 1
    groups = rng.integers(0, 120, 200)
    for part in parts_of(marks, groups, seed=seed):
        assert marks[part.train].any(0).all()


# Boosting


def test_boosting_keeps_the_setting_and_the_trees_that_did_best():
    x, y = binary(200)
    asked = []

    def value(logits):
        asked.append(logits)
        return 1.0 if len(asked) == 4 else 0.0

    kept = boost(x, y, x, value, trees=20, seed=0)
    assert len(asked) == len(boosting.SETTINGS) * 2  # of 20 trees each
    assert (kept.trees, kept.value) == (20, 1.0)
    np.testing.assert_array_equal(kept.logits(x), asked[3])


@pytest.mark.parametrize("outputs", [3, 0])
def test_boosting_has_a_logit_for_each_class_or_label(outputs):
    x, _ = binary(90)
    y = (
        np.arange(90) % 3
        if outputs
        else np.stack([np.arange(90) % 2, np.ones(90), np.zeros(90)], 1)
    )
    logits = boost(x, y, x, lambda logits: 0.0, trees=20, seed=0).logits(x)
    assert logits.shape == (90, 3)
    if not outputs:
        # A label that all rows have, or none, has nothing to learn.
        assert set(logits[:, 1]) == {20.0}
        assert set(logits[:, 2]) == {-20.0}


# The whole


def test_a_comparison_holds_what_it_promises(found):
    comparison, folder = found
    assert {one.recipe for one in comparison.outcomes} == {"prior_bias", "focal", "boosting"}
    assert [one.mean for one in comparison.outcomes] == sorted(
        (one.mean for one in comparison.outcomes), reverse=True
    )
    for one in comparison.outcomes:
        assert len(one.values) == 2
        assert all(0 < value <= 1 for value in one.values)
        assert one.low <= one.mean <= one.high
        assert one.per_class == pytest.approx([one.mean])
        assert set(one.others) >= {"balanced_accuracy", "log_loss"}
        assert (one.difference is None) == (one.recipe == "prior_bias")
    assert comparison.data.classes[1].count == 15
    assert comparison.sentence.startswith("For average precision")
    (decision,) = comparison.decisions
    assert decision.wish == "as many alerts as positives"
    assert decision.alerts_per_1000.value == pytest.approx(1000 * 15 / 121)
    scores = comparison.scores.calibrated
    assert set(scores) == {"prior_bias", "boosting"}
    assert all(np.isfinite(one).all() and one.shape == (120, 1) for one in scores.values())
    assert any("know nothing have an average precision of 0.125" in it for it in comparison.notes)
    assert any("its own scores for rows that it has not seen" in it for it in comparison.notes)
    assert repr(Comparison.load(folder)) == repr(comparison)


def test_held_out_scores_lie_where_their_rows_do(found):
    comparison, _ = found
    y = comparison.scores.targets
    for name, scores in comparison.scores.calibrated.items():
        # Calibration keeps the order within a fold, and so its average precision.
        again = [average_precision_score(y[p.test], scores[p.test]) for p in parts_of(y, folds=2)]
        assert comparison.outcome(name).values == pytest.approx(again[:2], abs=1e-9)


def test_stored_trials_are_not_trained_again(found, monkeypatch):
    comparison, folder = found

    def refuse(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr("imbalanced_losses.compare._run.run_trial", refuse)
    same(compare(binary(), out=folder, **SMALL), comparison)
    with pytest.raises(AssertionError, match="trained again"):
        compare(binary(), out=folder, resume=False, **SMALL)


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"max_epochs": 3}, {"goal": "partial_auc"}, {"hidden": (5,)}, {"data": 1}],
    ids=str,
)
def test_other_data_or_settings_are_other_trials(found, monkeypatch, change):
    _, folder = found

    def refuse(*_):
        raise AssertionError("trained anew")

    monkeypatch.setattr("imbalanced_losses.compare._run.run_trial", refuse)
    data = binary(seed=change.pop("data", 0))
    with pytest.raises(AssertionError, match="trained anew"):
        compare(data, out=folder, **SMALL | change)


def test_other_code_means_other_trials(found, monkeypatch):
    _, folder = found
    monkeypatch.setattr("imbalanced_losses.compare._key.code_version", lambda: "changed")
    monkeypatch.setattr("imbalanced_losses.compare._run.run_trial", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        compare(binary(), out=folder, **SMALL)


def test_broken_and_foreign_files_are_computed_again_and_it_is_said(found, tmp_path, capsys):
    comparison, folder = found
    stored = sorted((folder / "trials").iterdir())
    assert len(stored) == 6
    (tmp_path / "trials").mkdir()
    for number, path in enumerate(stored):
        content = path.read_bytes()
        if number == 0:
            content = b"not an archive"
        elif number == 1:
            content = content[: len(content) // 2]
        elif number == 2:
            content = stored[3].read_bytes()
        (tmp_path / "trials" / path.name).write_bytes(content)
    again = compare(binary(), out=tmp_path, **SMALL | {"quiet": False})
    assert any("computed again" in note and "and 2 more" in note for note in again.notes)
    assert "3 are stored" in capsys.readouterr().out
    same(dataclasses.replace(again, notes=comparison.notes), comparison)
    third = compare(binary(), out=tmp_path, **SMALL)
    assert not any("computed again" in note for note in third.notes)


def test_a_stored_trial_is_never_unpickled(found, tmp_path):
    _, folder = found
    path = next(iter((folder / "trials").iterdir()))
    (tmp_path / "trials").mkdir()
    bad = np.array([{"a": 1}], dtype=object)
    np.savez(tmp_path / "trials" / path.name, facts=bad, logits=bad)
    again = compare(binary(), out=tmp_path, **SMALL)
    assert any("allow_pickle" in note for note in again.notes)


@pytest.mark.slow
def test_the_result_does_not_depend_on_the_number_of_jobs(found):
    comparison, _ = found
    same(compare(binary(), **SMALL | {"jobs": 2}), comparison)


def test_a_backend_of_joblib_that_the_caller_chose_is_used(found):
    comparison, _ = found
    threads = torch.get_num_threads()
    with parallel_config(backend="threading"):
        same(compare(binary(), **SMALL), comparison)
    assert torch.get_num_threads() == threads


KILLED = """
import os
import signal
import imbalanced_losses.compare._compare as room
import imbalanced_losses.compare._run as running
from test_compare_trials import SMALL, binary

room.TREES = 20
run_trial, begun = running.run_trial, []


def until_the_third(*job):
    begun.append(job)
    if len(begun) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return run_trial(*job)


running.run_trial = until_the_third
room.compare(binary(), out={out!r}, **SMALL)
"""


def test_a_run_that_is_killed_goes_on_where_it_was(found, tmp_path, monkeypatch):
    comparison, _ = found
    script = KILLED.format(out=str(tmp_path))
    killed = subprocess.run([sys.executable, "-c", script], env=launch.environment())
    assert killed.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "trials").glob("[!.]*.npz"))) == 2
    assert not (tmp_path / "result.json").exists()
    ran = []
    original = trials.run_trial
    monkeypatch.setattr(
        "imbalanced_losses.compare._run.run_trial",
        lambda table, job, plan: ran.append(job) or original(table, job, plan),
    )
    same(compare(binary(), out=tmp_path, **SMALL), comparison)
    assert len(ran) == 6 - 2


def test_of_several_ranks_the_first_prints_and_writes(found, tmp_path, monkeypatch, capsys):
    comparison, folder = found
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    asked = SMALL | {"quiet": False, "jobs": -1}
    same(compare(binary(), out=tmp_path, **asked), comparison)
    assert not list(tmp_path.iterdir())
    assert not capsys.readouterr().out
    before = sorted(folder.rglob("*"))
    # What the first wrote, the others read.
    monkeypatch.setattr("imbalanced_losses.compare._run.run_trial", None)
    same(compare(binary(), out=folder, **asked), comparison)
    assert sorted(folder.rglob("*")) == before
    with pytest.raises(ValueError, match="jobs must be 1 where 2 ranks train each network"):
        compare(binary(), **asked | {"jobs": 2})


RANKED = """
import sys
import torch
import imbalanced_losses.compare._compare as room
from test_compare_trials import SMALL, binary

if __name__ == "__main__":
    torch.set_num_threads(1)
    room.TREES = 20
    room.compare(binary(), out=sys.argv[1], strategy="ddp", **SMALL | {"quiet": False})
    assert torch.distributed.get_world_size() == 2
"""


@pytest.mark.slow
def test_two_ranks_compare_as_one_does(found, tmp_path):
    comparison, _ = found
    script = tmp_path / "ranked.py"
    script.write_text(RANKED)
    printed = launch.torchrun(script, tmp_path / "out")
    assert printed.count(comparison.sentence[:40]) == 1
    together = Comparison.load(tmp_path / "out")
    for one, other in zip(together.outcomes, comparison.outcomes, strict=True):
        assert one.recipe == other.recipe
        assert one.values == pytest.approx(other.values, abs=1e-4)


def test_an_interrupt_leaves_the_finished_trials_and_says_so(found, tmp_path, monkeypatch):
    comparison, _ = found
    original, ran = trials.run_trial, []

    def interrupted(table, job, plan):
        if len(ran) == 3:
            raise KeyboardInterrupt
        ran.append(job)
        return original(table, job, plan)

    with monkeypatch.context() as patch:
        patch.setattr("imbalanced_losses.compare._run.run_trial", interrupted)
        with pytest.raises(KeyboardInterrupt) as stopped:
            compare(binary(), out=tmp_path, **SMALL)
        assert str(stopped.value) == (
            f"Stopped: 3 of 6 trainings are done and kept in {str(tmp_path)!r}: the same call goes "
            "on from there."
        )
        ran.clear()
        with pytest.raises(KeyboardInterrupt, match="nothing of them is kept, since out is None"):
            compare(binary(), **SMALL)
    assert len(list((tmp_path / "trials").iterdir())) == 3
    same(compare(binary(), out=tmp_path, **SMALL), comparison)


@pytest.mark.filterwarnings("ignore:A worker stopped while some jobs")
def test_a_worker_that_is_killed_ends_in_a_sentence_and_the_same_call_goes_on(tmp_path):
    victims = tmp_path / "victims"

    def network(inputs, outputs):
        if victims.exists() and victims.read_text() != str(os.getpid()):
            os.kill(os.getpid(), signal.SIGKILL)
        return nn.Linear(inputs, outputs)

    victims.write_text(str(os.getpid()))  # all but this process
    out = tmp_path / "out"
    asked = SMALL | {"model": network, "jobs": 2}
    with pytest.raises(RuntimeError) as killed:
        compare(binary(), out=out, **asked)
    kept = len(list((out / "trials").iterdir()))
    assert str(killed.value) == (
        "A worker process was killed, most often because memory ran out: "
        f"{kept} of 6 trainings are done and kept in {str(out)!r}: the same call goes on from "
        "there. Fewer jobs need less memory: jobs=1, or --jobs 1."
    )
    assert 1 <= kept < 6
    victims.unlink()
    compare(binary(), out=out, **asked)
    assert len(list((out / "trials").iterdir())) == 6


def test_it_says_beforehand_what_it_will_train_and_how_long_that_will_take(capsys):
    compare(binary(), **SMALL | {"quiet": False})
    told = capsys.readouterr().out
    assert told.index("Training in 3 ways on 2 folds: 6 trainings.") < told.index("The first took")
    assert "for the other 5" in told
    for words in (
        "baseline",
        "focal loss",
        "gradient boosting",
        "For average precision",
        "raise an",
    ):
        assert words in told
    compare(binary(), **SMALL)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("outputs", "seconds"), [(1, 20), (9, 60)])
def test_a_ranking_loss_is_known_to_take_longer_the_more_outputs_there_are(outputs, seconds):
    fold = parts_of([0, 1] * 4, folds=2, repeats=1)[0]
    jobs = [trials.Job(RECIPES["smooth_ap_mix"], fold)]
    plan = trials.Plan("average_precision", None, FitSettings())
    first = trials.Trial({}, (), seconds=10.0)
    assert f"about {seconds} s for" in _how_long(first, jobs, plan, outputs, workers=1)


def test_a_recipe_that_fails_is_told_of_and_the_others_are_compared(monkeypatch):
    original = trials.fit

    def fit(*args, recipe, **options):
        if recipe.name == "focal":
            raise ValueError("learning_rate must lead to finite logits.")
        return original(*args, recipe=recipe, **options)

    monkeypatch.setattr(trials, "fit", fit)
    found = compare(binary(), **SMALL)
    assert math.isnan(found.outcome("focal").mean)
    assert found.outcome("focal").difference is None
    assert found.outcomes[-1].recipe == "focal"
    assert "focal failed on 2 of 2 folds: learning_rate must lead to finite logits." in found.notes


@pytest.mark.parametrize(
    ("goal", "values", "ends"),
    [
        ("average_precision", (0.90, 0.98, 1.0), (True, False)),
        ("average_precision", (0.0, 0.02, 0.10), (False, True)),
        ("log_loss", (-0.01, -0.2, -0.5), (True, False)),
    ],
)
def test_the_interval_of_a_mean_ends_where_its_goal_does(goal, values, ends):
    fold = parts_of([0, 1] * 4, folds=2, repeats=1)[0]
    jobs = [trials.Job(RECIPES["focal"], fold._replace(number=number)) for number in range(3)]
    made = {
        job.place: trials.Trial(dict.fromkeys(GOALS, value), (value,), 1.0)
        for job, value in zip(jobs, values, strict=True)
    }
    told = outcome(RECIPES["focal"], jobs, made, goal, 0.2, 0.95)
    free = corrected_interval(values, 0.2)
    low, high = bounds_of(goal)
    assert (free.low >= low, free.high <= high) == ends
    assert (told.low, told.high) == (max(free.low, low), min(free.high, high))


def test_a_baseline_that_fails_ends_the_comparison(monkeypatch):
    monkeypatch.setattr(
        trials, "fit", lambda *_, **__: (_ for _ in ()).throw(ValueError("not today"))
    )
    with pytest.raises(ValueError, match="not today"):
        compare(binary(), **SMALL)


def test_a_tail_class_with_fewer_rows_than_folds_is_said_and_has_no_result():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [80, 30, 2])
    x = rng.normal(size=(112, 2)) + y[:, None]
    found = compare((x, y), **SMALL | {"folds": 3})
    assert any("has 2 different rows, fewer than the 3 folds" in note for note in found.notes)
    for one in found.outcomes:
        assert [math.isnan(value) for value in one.per_class] == [False, False, True]
        assert math.isfinite(one.mean)
    assert [one.threshold is None for one in found.decisions] == [False, False, True]
    assert "0 of 110 rows that were held out are positive" in found.decisions[2].sentence


def test_multilabel_rows_are_compared_by_label():
    rng = np.random.default_rng(0)
    y = (rng.random((150, 3)) < [0.4, 0.2, 0.1]).astype(np.uint8)
    x = rng.normal(size=(150, 3)) + 2 * y
    found = compare((x, y), **SMALL | {"recipes": ["asymmetric"]}, wish={"recall": 0.5})
    assert all(len(one.per_class) == 3 for one in found.outcomes)
    assert [one.wish for one in found.decisions] == ["recall=0.5"] * 3
    assert found.scores.raw.shape == (150, 3)


@pytest.mark.parametrize("goal", ["balanced_accuracy", "log_loss"])
def test_other_goals_judge_what_the_user_would_get(goal):
    found = compare(binary(), **SMALL | {"goal": goal, "recipes": ["class_weights"]})
    values = {one.recipe: one.mean for one in found.outcomes}
    assert not any("know nothing" in note for note in found.notes)
    if goal == "log_loss":
        # Undone, class weights cost little likelihood; as they stand they would cost most of it.
        assert values["class_weights"] > 1.5 * values["prior_bias"]
        assert "log-likelihood" in found.sentence
    else:
        # With 15 positives no probability of the short training passes a half, but the adjusted.
        assert values["boosting"] > 0.6


class Pictures(Dataset):
    """Pairs of a picture `[1, 4, 4]` and its class."""

    def __init__(self, rows=90):
        generator = torch.Generator().manual_seed(0)
        self.y = (torch.arange(rows) % 6 == 0).long()
        self.x = torch.randn(rows, 1, 4, 4, generator=generator) + self.y[:, None, None, None]

    def __len__(self):
        return len(self.y)

    def __getitem__(self, row):
        return self.x[row], int(self.y[row])


def convolutional(channels, outputs):
    return nn.Sequential(nn.Conv2d(channels, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, outputs))


@pytest.mark.parametrize("model", [convolutional, f"{__name__}:convolutional"], ids=["it", "name"])
def test_a_data_set_and_a_network_of_ones_own_are_compared(model):
    found = compare(Pictures(), model=model, loader={"batch_size": 7}, **SMALL)
    assert found.data.name == "Pictures"
    assert found.data.features == 16
    assert found.outcome("focal").mean > 0


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (TensorDataset(torch.zeros(4, 2)), r"must be pairs \(x, y\)"),
        (TensorDataset(torch.zeros(4, 2), torch.zeros(4)), "must be 0, 1 and so on"),
        (TensorDataset(torch.zeros(4, 2), torch.tensor([0, 2, 0, 2])), "must be 0, 1 and so on"),
        (TensorDataset(torch.zeros(4, 2), torch.tensor([0.5] * 4)), "must be class indices"),
        (TensorDataset(torch.zeros(4, 2), torch.full((4, 2), 2)), "must be zeros and ones"),
        (TensorDataset(torch.zeros(4), torch.tensor([0, 1, 0, 1])), "tensor of features"),
        (TensorDataset(torch.full((4, 2), math.nan), torch.tensor([0, 1, 0, 1])), "not finite"),
        (TensorDataset(torch.zeros(0, 2), torch.zeros(0)), "is empty"),
    ],
)
def test_a_data_set_that_cannot_be_compared_says_why(data, error):
    with pytest.raises(ValueError, match=error):
        compare(data, **SMALL)


def test_equal_items_of_a_data_set_are_in_one_fold():
    x, y = (torch.as_tensor(part) for part in binary(60))
    doubled = TensorDataset(torch.cat([x, x[:30]]).float(), torch.cat([y, y[:30]]))
    found = compare(doubled, **SMALL)
    assert any("90 rows lie in 60 groups" in note for note in found.notes)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"goal": "accuracy"}, "goal must be one of"),
        ({"level": 1.0}, "level must be"),
        ({"budget": 0.0}, "budget must be"),
        ({"seed": -1}, "seed must be"),
        ({"folds": 1}, "folds must be at least 2"),
        ({"repeats": 0}, "repeats must be at least 1"),
        ({"folds": 20}, "has 15 different rows, too few for 20 folds. Use folds=15"),
        ({"wish": {"recall": 2}}, "recall"),
        ({"wish": {"best": 0.5}}, "exactly one of budget, precision"),
        ({"recipes": ["nothing"]}, "recipes must be 'all' or some of"),
        ({"recipes": ["ldam"]}, "'ldam' is for multiclass"),
        (
            {"recipes": [dataclasses.replace(RECIPES["focal"], name="prior_bias")]},
            "'prior_bias' is taken",
        ),
        ({"model": "nothing"}, "must be of the form package:factory"),
        ({"model": "torch:nothing"}, "has no 'nothing'"),
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_met_says_why(change, error):
    with pytest.raises(ValueError, match=error):
        compare(binary(), **SMALL | change)


def test_what_is_no_network_is_refused_at_once():
    with pytest.raises(TypeError, match="model must be"):
        compare(binary(), model=3, **SMALL)
    with pytest.raises(ValueError, match=r"must return a torch\.nn\.Module"):
        compare(binary(), model=lambda inputs, outputs: None, **SMALL)


def test_all_recipes_that_suit_can_be_asked_for():
    from imbalanced_losses.compare._plan import chosen_recipes

    every = chosen_recipes("all", "binary", "average_precision")
    usual = chosen_recipes(None, "binary", "average_precision")
    assert every[0].name == usual[0].name == "prior_bias"
    assert {one.name for one in usual} < {one.name for one in every}
    assert "smooth_ap_mix" in {one.name for one in usual}
    assert "adjusted" in {o.name for o in chosen_recipes(None, "multiclass", "balanced_accuracy")}


def test_an_output_folder_that_cannot_be_made_is_said_before_anything_is_trained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="out must be a folder that can be written to"):
        compare(binary(), out=tmp_path / "file", **SMALL)
