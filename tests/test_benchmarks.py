"""The benchmarks run, go on where they stopped, report, and measure what they claim to."""

import csv
import re
import sys
from dataclasses import replace

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import (
    accuracy,
    ceilings,
    floors,
    goals,
    measure,
    processes,
    records,
    report,
    tradeoff,
)
from benchmarks.cases import CASES, QUICK, Case, recall, sigmoid_focal, smooth_ap, softmax_focal
from benchmarks.gaps import GAPS
from benchmarks.goals import Evidence, judge
from benchmarks.implementations import IMPLEMENTATIONS, offering
from benchmarks.peers import PEERS, Peer
from benchmarks.plots import fitted_exponent
from benchmarks.results import Results, Row
from benchmarks.runner import _quantiles
from benchmarks.steps import TrainingStep

EAGER = [case for case in QUICK if case.mode == "eager"]


def ours(case):
    return TrainingStep(case, IMPLEMENTATIONS["ours"].make)


def row(implementation="ours", **values):
    fields = ("case", "version", "torch", "python", "machine", "date", "dtype", "device", "mode")
    return Row(
        **{"implementation": implementation, "threads": 1, **dict.fromkeys(fields, "x"), **values}
    )


def test_a_quick_run_measures_skips_what_is_there_and_reports(tmp_path, monkeypatch, capsys):
    absent = {"imbalanced-losses": Peer("imbalanced-losses", "0.0")}
    monkeypatch.setattr(processes, "PEERS", absent)
    case = "SmoothAP 128x4 queue 128"
    who = ["ours", "torch", "imbalanced-losses"]
    argv = ["--quick", "--only", case, "--implementations", *who, "--output", str(tmp_path)]
    assert command.main(argv) == 0

    rows = {row["implementation"]: row for row in _csv(tmp_path)}
    assert list(rows) == who
    peer = rows.pop("imbalanced-losses")
    assert peer["error"] == "not installed: python -m benchmarks.install_peers"
    assert peer["both_p50"] == ""
    for row in rows.values():
        assert (row["case"], row["error"], row["threads"]) == (case, "", "1")
        assert all(row[name] for name in ("version", "torch", "python", "machine", "date", "top"))
        for part in ("forward", "backward", "both"):
            p20, p50, p80 = (float(row[f"{part}_p{percent}"]) for percent in (20, 50, 80))
            assert 0 < p20 <= p50 <= p80
        assert int(row["kernels"]) > 0
    assert 0 <= float(rows["ours"]["gradient_error"]) < 1e-5

    text = (tmp_path / report.FILE).read_text()
    for heading in ("Goals", "Times", "Where the time goes", "Accuracy", "two numbers", "peers"):
        assert re.search(rf"^## .*{heading}", text, re.MULTILINE)
    assert f"| {case} | ≤ 3x the time of torch |" in text
    assert "imbalanced-losses: not installed" in text
    assert (tmp_path / "plots" / "tradeoff.png").exists()

    capsys.readouterr()
    assert command.main(argv) == 0
    assert "1 cases were measured before" in capsys.readouterr().out
    assert len(_csv(tmp_path)) == 3
    monkeypatch.setattr(torch, "__version__", "another")
    assert command.main([*argv[:4], "torch", *argv[-2:]]) == 0
    assert [row["torch"] for row in _csv(tmp_path)][3:] == ["another"]


def _csv(folder):
    return list(csv.DictReader((folder / "results.csv").read_text().splitlines()))


def test_a_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.setattr(command, "NEEDED", ("rich", "no_such_package"))
    assert command.main([]) == 1
    said = capsys.readouterr().err
    assert "need no_such_package" in said
    assert 'pip install "imbalanced-losses[bench]"' in said


def test_unknown_implementations_are_named(tmp_path):
    with pytest.raises(SystemExit, match="has nobody; there are ours, torch"):
        command.main(["--quick", "--implementations", "nobody", "--output", str(tmp_path)])


@pytest.mark.parametrize(
    ("program", "limit", "words"),
    [
        ("/bin/false", 20, "its process ended: status 1"),
        (sys.executable, 0.01, "no answer in 0.01 s"),
    ],
)
def test_a_process_that_fails_says_why(monkeypatch, program, limit, words):
    monkeypatch.setattr(processes.sys, "executable", program)
    process = processes.Process("ours", 1, limit)
    with pytest.raises(processes.MeasurementError, match=words):
        process.ask("version")


def test_what_an_implementation_raises_is_an_answer():
    process = processes.Process("torch", 1, 60)
    try:
        with pytest.raises(processes.MeasurementError, match="RuntimeError: no case is prepared"):
            process.ask("times", count=1)
        assert process.ask("version") == torch.__version__
    finally:
        process.close()


def test_rows_survive_the_file_and_the_latest_group_stands_together(tmp_path):
    path = tmp_path / "results.csv"
    old = [row(name, date="1", both_p50=2.0) for name in ("ours", "torch")]
    new = [row(date="2", both_p50=1 / 3, kernels=7, top="a, b", error="")]
    results = Results(path)
    results.append(old)
    results.append(new)
    again = Results(path)
    assert [it.implementation for it in again.rows] == ["ours", "torch", "ours"]
    assert again.rows[:2] == old
    assert again.rows[2] == replace(new[0], both_p50=0.333333)
    assert list(again.latest()["x", 1]) == ["ours"]

    path.write_text("case,other\n")
    with pytest.raises(ValueError, match="other columns"):
        Results(path)


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [
        (goals.faster("peer", 25), 25.0, True),
        (goals.faster("peer", 26), 25.0, False),
        (goals.faster("absent", 1), None, None),
        (goals.at_most(2), 2.0, True),
        (goals.at_most(1.9), 2.0, False),
        (goals.no_more_memory(), 3.0, False),
        (goals.no_more_memory("peer"), -4.0, True),
        (goals.milliseconds(4), 4.0, True),
        (goals.megabytes(5), 5.24288, False),
        (goals.passes(8), 8.0, True),
    ],
    ids=lambda it: getattr(it, "wording", None),
)
def test_goals_are_judged_by_medians_and_peaks(goal, value, met):
    rows = {
        name: row(name, both_p50=median, extra_mib=memory)
        for name, median, memory in [("ours", 4.0, 5.0), ("torch", 2.0, 2.0), ("peer", 100.0, 9.0)]
    }
    verdict = judge(goal, Evidence(rows, ms_of_a_pass=0.5))
    assert verdict.value == (None if value is None else pytest.approx(value))
    assert verdict.met is met


def test_the_exponent_is_that_of_the_largest_sizes():
    curve = [(1, 9.0), (2, 9.0), *((m, 3e-5 * m**1.25) for m in (64, 128, 512, 1024))]
    assert fitted_exponent(curve) == pytest.approx(1.25, abs=1e-9)


def test_quantiles_are_those_of_each_part():
    found = _quantiles(([1.0], [2.0], [3.0]))
    assert (found["forward_p20"], found["both_p50"], found["steps"]) == (1.0, 3.0, 1)
    found = _quantiles((list(range(11)),) * 3)
    assert [found[f"backward_p{p}"] for p in (20, 50, 80)] == [2, 5, 8]


def test_extra_memory_sees_what_a_step_holds_at_its_peak():
    mib = measure.extra_memory(lambda: bytearray(64 << 20).count(1) and None)
    if mib is None:
        pytest.skip("only Linux tells the peak of the resident memory")
    assert 60 < mib < 80


def test_the_memory_of_a_step_holds_its_gradient():
    step = TrainingStep(softmax_focal((4096, 2048)), lambda case: lambda logits, _: logits.sum())
    step()
    mib = measure.memory(step)
    if mib is None:
        pytest.skip("only Linux tells the peak of the resident memory")
    assert 31 < mib < 40


def test_launches_count_the_operators_of_a_step():
    step = TrainingStep(softmax_focal((8, 3)), lambda case: lambda logits, _: logits.exp().sum())
    few = measure.launches(step).kernels
    step = TrainingStep(
        softmax_focal((8, 3)), lambda case: lambda logits, _: logits.exp().exp().exp().sum()
    )
    # Two more exponentials, and a product for each in the backward pass.
    assert measure.launches(step).kernels == few + 4


def test_the_queue_is_full_of_distinct_rows_before_the_first_step():
    seen = []

    class Loss(torch.nn.Module):
        def forward(self, logits, targets):
            seen.append(logits.detach().clone())
            return logits.sum()

    step = TrainingStep(Case("SmoothAPLoss", (8, 2), 20), lambda case: Loss())
    rows = torch.cat(seen)
    assert len(rows) >= 20
    assert len(rows.unique(dim=0)) == len(rows)
    step()
    assert len(seen) * 8 == len(rows) + 8


@pytest.mark.parametrize("case", EAGER, ids=lambda case: case.key)
def test_our_losses_agree_with_the_references(case):
    found = accuracy.of(ours(case))
    assert found.value_error < 1e-6
    assert found.gradient_error < (1e-2 if case.dtype == "bfloat16" else 1e-5)


@pytest.mark.parametrize("case", [smooth_ap((64, 2), 32), recall((64, 2), 32)])
def test_errors_are_seen(case):
    step = ours(case)
    step.loss.temperature = 0.02
    found = accuracy.of(step)
    assert found.value_error > 1e-4
    assert found.gradient_error > 1e-2


def test_where_pairs_are_too_many_the_engine_at_float64_stands_in(monkeypatch):
    case = smooth_ap((256, 2), 256)
    exact = accuracy.reference(ours(case))
    monkeypatch.setattr(accuracy, "MOST_PAIRS", 0)
    own = accuracy.reference(ours(case))
    assert (exact.words, own.words) == (accuracy.ALL_PAIRS, accuracy.OWN_ENGINE)
    assert own.value == pytest.approx(exact.value, abs=1e-12)
    torch.testing.assert_close(own.gradient, exact.gradient, rtol=1e-9, atol=1e-12)


def test_floors_grow_with_the_work(tmp_path):
    at_best = ceilings.measure(0.0005, largest=2**16)
    path = tmp_path / "ceilings.csv"
    records.write(path, at_best)
    known = ceilings.read(path)["cpu"]
    assert all(it.nanoseconds > 0 for it in known.measured)
    for case in CASES:
        larger = replace(case, shape=(case.shape[0] * 1000, *case.shape[1:]))
        low, high = (floors.floor_of(it, known) for it in (case, larger))
        assert 0 < low < high


def test_more_terms_lower_the_error_of_the_engine():
    # Spread far enough that most pairs lie between blocks, where the terms count.
    points = tradeoff.study(tradeoff.QUICK_POOL, (3, 9), (16,), 1)
    coarse, fine = ([it for it in points if it.terms == terms] for terms in (3, 9))
    assert coarse[0].gradient_error > 10 * fine[0].gradient_error
    assert sum(it.chosen for it in points) == 1


def test_every_case_is_one_of_its_kind_and_has_its_own_measured():
    everything = [*CASES, *QUICK]
    assert len({case.key for case in everything}) == len(everything)
    assert set(PEERS) | {"ours", "torch"} == set(IMPLEMENTATIONS)
    for case in everything:
        names = offering(case, list(IMPLEMENTATIONS))
        assert {"ours", "torch"} <= set(names)
        for goal in case.goals:
            named = [name for name in PEERS if goal.wording.endswith(f" {name}")]
            assert set(named) <= set(names), f"{case.key}: nobody to hold {goal.wording} against"


def test_every_headline_has_its_sentence():
    assert set(GAPS) == {case.key for case in CASES if case.is_headline}


@pytest.mark.parametrize("case", [softmax_focal((8, 3)), sigmoid_focal((8, 3))])
def test_a_pass_is_one_reading_of_the_logits(case):
    copies = ceilings.Ceilings([ceilings.Ceiling("copy", 96, 2.0, "cpu", "m", "t")])
    assert floors.pass_of(case, copies) == pytest.approx(8 * 3 * 4 * 2.0 / 1e6)
