"""The benchmarks run, go on where they stopped, report, and measure what they claim to."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import accuracy, contenders, measure, page, report, run, worker
from benchmarks.cases import CASES, QUICK, Case, recall, smooth_ap, softmax_focal
from benchmarks.contenders import CONTENDERS, OURS, offering
from benchmarks.measure import Effort, TrainingStep
from benchmarks.run import Plan, Results, Row

# Long runs of what other tests cover.
pytestmark = pytest.mark.no_cover

EAGER = [case for case in QUICK if case.mode == "eager" and not case.network]
RELEASE = "release 0.6.0"
FIGURES = {
    **dict.fromkeys(("p20", "p50", "p80", "forward", "backward", "mib", "value_error"), 3.0),
    **dict.fromkeys(("baseline_p20", "baseline_p50", "baseline_p80", "baseline_mib"), 2.0),
}


def ours(case):
    return TrainingStep(case, CONTENDERS[OURS].make)


def a_row(case, contender=OURS, **values):
    names = ("version", "torch", "python", "machine", "date")
    source = "digest" if contender == OURS else ""
    fields = {"threads": 1, "memory": "warm", "source": source, **dict.fromkeys(names, "x")}
    return Row(case=case.key, contender=contender, **{**fields, **values})


def test_a_quick_run_measures_reports_and_survives_a_contender_that_fails(
    tmp_path, monkeypatch, capsys
):
    case = QUICK[0]
    monkeypatch.setattr(contenders, "PEERS_FOLDER", tmp_path)
    broken = tmp_path / "imbalanced-losses-0.6.0" / "imbalanced_losses.py"
    broken.parent.mkdir()
    broken.write_text("raise ImportError('broken | on purpose')")
    names = [RELEASE, OURS, "kornia"]
    argv = ["--quick", "--only", case.key, "--contenders", *names, "--output", str(tmp_path)]
    assert command.main(argv) == 0
    assert "not installed: kornia (python -m benchmarks --install-peers)" in capsys.readouterr().out

    rows = {row.contender: row for row in Results(tmp_path / run.FILE)}
    assert list(rows) == [RELEASE, OURS]
    assert rows[RELEASE].error == "ImportError: broken | on purpose"
    assert rows[RELEASE].p50 is None
    mine = rows[OURS]
    assert (mine.case, mine.error, mine.threads, mine.memory) == (case.key, "", 1, "warm")
    assert mine.source == run.source_digest()
    assert 0 < mine.p20 <= mine.p50 <= mine.p80
    assert 0 < mine.baseline_p20 <= mine.baseline_p50 <= mine.baseline_p80
    assert 0 <= mine.gradient_error < 1e-5

    text = (tmp_path / report.FILE).read_text()
    assert re.search(rf"^\| {re.escape(case.key)} \| [\d.]+ \([\d.]+ to [\d.]+\) \|", text, re.M)
    assert rf"| {case.key} | {RELEASE} | ImportError: broken \| on purpose |" in text

    monkeypatch.setattr(worker, "ask", None)
    assert command.main(argv) == 0
    assert "2 of 2 were measured before" in capsys.readouterr().out


def test_an_interrupted_run_goes_on_and_changed_code_is_measured_again(tmp_path, monkeypatch):
    asked = []

    def ask(case, contender, *_, **options):
        if len(asked) == stop:
            raise KeyboardInterrupt
        asked.append((case.key, options["fresh"]))
        return FIGURES

    monkeypatch.setattr(worker, "ask", ask)
    path = tmp_path / run.FILE
    plan = Plan(QUICK[:3], [OURS], Effort())
    stop = 2
    with pytest.raises(KeyboardInterrupt):
        run.run(plan, Results(path))
    assert len(list(Results(path))) == 2
    stop = 99
    run.run(plan, Results(path))
    assert asked == [(case.key, False) for case in QUICK[:3]]

    run.run(replace(plan, fresh=True), Results(path))
    assert asked[3:] == [(case.key, True) for case in QUICK[:3]]
    monkeypatch.setattr(run, "source_digest", lambda: "another")
    run.run(plan, Results(path))
    assert len(asked) == 9
    rows = list(Results(path))
    assert len(rows) == 6, "a newer row takes the place of the older one"
    assert {row.source for row in rows if row.memory == "warm"} == {"another"}
    run.run(replace(plan, again=True), Results(path))
    assert len(asked) == 12


def test_rows_survive_the_file(tmp_path):
    path = tmp_path / run.FILE
    row = a_row(QUICK[0], p50=1 / 3, steps=7, load=None, error="a, b")
    results = Results(path)
    results.put(row)
    results.put(replace(row, case="a case that is no more"))
    assert list(Results(path)) == [replace(row, p50=0.333333)]
    path.write_text("case,other\n")
    with pytest.raises(ValueError, match="other columns"):
        Results(path)


def test_what_is_missing_or_unknown_is_named(tmp_path, monkeypatch, capsys):
    assert command.main(["--contenders", "nobody", "--output", str(tmp_path)]) == 2
    assert "has nobody; there are 'ours', 'release 0.6.0'" in capsys.readouterr().err
    monkeypatch.setattr(command, "NEEDED", ("matplotlib", "no_such_package"))
    assert command.main([]) == 1
    said = capsys.readouterr().err
    assert "need no_such_package" in said
    assert 'in its clone, pip install ".[bench]"' in said


@pytest.mark.parametrize(
    ("program", "limit", "words"),
    [
        ("/bin/false", 20, "its process ended: status 1"),
        (sys.executable, 0.01, "no answer in 0.01 s"),
    ],
)
def test_a_process_that_fails_says_why(monkeypatch, program, limit, words):
    monkeypatch.setattr(worker.sys, "executable", program)
    with pytest.raises(worker.MeasurementError, match=words):
        worker.ask(QUICK[0], CONTENDERS[OURS], Effort(), limit=limit)


def test_contender_and_baseline_take_turns_on_the_same_batches_once_warm():
    calls = []
    batches = list(QUICK[0].batches())

    def step(name):
        def loss(logits, targets):
            calls.append((name, targets.data_ptr()))
            return logits.sum()

        return TrainingStep(QUICK[0], lambda case: loss, batches)

    times = measure.in_turns([step("a"), step("b")], Effort(seconds=0, least=3, warmups=2))
    assert [name for name, _ in calls] == [*"aabb", *"ababab"]
    at = [[where for name, where in calls if name == who] for who in "ab"]
    assert at[0] == at[1]
    for found in times:
        assert len(found.both) == 3
        for forward, backward, both in zip(*found, strict=True):
            assert 0 < forward < both == forward + backward


def test_quantiles_are_the_20th_50th_and_80th():
    assert measure.quantiles([1.0]) == (1.0, 1.0, 1.0)
    assert measure.quantiles([*range(11)]) == (2, 5, 8)


@pytest.mark.skipif(sys.platform != "linux", reason="page faults as Linux counts them")
def test_warm_memory_is_reused_and_fresh_memory_is_mapped_anew():
    script = (
        "import resource as r\n"
        "def faults(): return r.getrusage(r.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(3): bytearray(b'x') * (40 << 20)\n"
        "before = faults()\n"
        "for _ in range(10): bytearray(b'x') * (40 << 20)\n"
        "print(faults() - before)\n"
    )
    found = {}
    for fresh in (False, True):
        environment = dict(measure.memory_settings(fresh=fresh))
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        found[fresh] = int(done.stdout)
    assert found[False] < 100
    assert found[True] > 10 * found[False] + 100


def test_peak_memory_sees_what_a_step_holds_and_its_gradient():
    mib = measure.peak_mib(lambda: bytearray(64 << 20).count(1) and None)
    if mib is None:
        pytest.skip("only Linux tells the peak of the resident memory")
    assert 60 < mib < 80
    step = TrainingStep(softmax_focal((4096, 2048)), lambda case: lambda logits, _: logits.sum())
    step()
    step.release()
    assert 31 < measure.peak_mib(step) < 40


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
def test_our_losses_agree_with_the_formulas(case):
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
    assert found.plain_gradient_error < 1e-5


def test_errors_are_those_of_a_case_done_by_hand():
    # Two rows of two equal logits: p = 1/2, the loss log(2) / 4, and halfway between formula and
    # nothing a gradient is wrong by half.
    logits, targets = torch.zeros(2, 2, requires_grad=True), torch.tensor([0, 1])
    step = TrainingStep(
        softmax_focal((2, 2)),
        lambda case: lambda z, y: 0.5 * accuracy.FOCAL["SoftmaxFocalLoss"](z, y),
        [(logits, targets)],
    )
    found = accuracy.of(step)
    assert found.value_error == pytest.approx(0.5 * torch.tensor(2.0).log().item() / 4, abs=1e-7)
    assert found.gradient_error == pytest.approx(0.5, abs=1e-6)
    assert found.reference == accuracy.FORMULA


def test_where_pairs_are_too_many_the_engine_at_float64_stands_in(monkeypatch):
    step = ours(smooth_ap((256, 2), 256))
    exact, own = accuracy.by_formula(step), accuracy.by_own_engine(step)
    assert own.value == pytest.approx(exact.value, abs=1e-12)
    torch.testing.assert_close(own.gradient, exact.gradient, rtol=1e-9, atol=1e-12)
    monkeypatch.setattr(accuracy, "MOST_PAIRS", 0)
    found = accuracy.of(step)
    assert (found.reference, found.plain_gradient_error) == (accuracy.OWN_ENGINE, None)


def test_of_a_vanished_gradient_no_error_is_told():
    dense = accuracy.of(ours(softmax_focal((2, 4, 32, 32))))
    assert dense.gradient_error < 1e-5, "a mean over many positions has small cells, not none"
    # Its positives lie more than twenty temperatures from the threshold.
    found = accuracy.of(ours(recall((4096, 1), 0)))
    assert (found.gradient_error, found.plain_gradient_error) == (None, None)
    assert found.value_error < 1e-6


def test_every_case_is_one_of_its_kind_and_has_ours_measured():
    everything = [*CASES, *QUICK]
    assert len({case.key for case in everything}) == len(everything)
    for case in everything:
        names = offering(case, list(CONTENDERS))
        assert names[0] == OURS
        assert names == [OURS] or (case.mode == "eager" and not case.network)


def test_a_page_of_every_row_opens_with_ten_lines_and_names_every_case(tmp_path):
    rows = [a_row(case, **FIGURES) for case in CASES]
    rows += [a_row(case, threads=2, **FIGURES) for case in CASES[:2]]
    rows += [a_row(case, memory="fresh", **FIGURES) for case in CASES[:2]]
    rows += [
        a_row(case, name, **FIGURES)
        for case in CASES
        for name in offering(case, list(CONTENDERS))
        if name != OURS
    ]
    text = report.write(tmp_path, CASES, rows).read_text()
    opening = text.split("\n## ")[0]
    assert len(re.findall(r"^- ", opening, re.M)) == 10
    for case in CASES:
        assert f"| {case.key.removesuffix(' compiled')} |" in text
    for picture in re.findall(r"\]\((plots/.*?)\)", text):
        assert (tmp_path / picture).exists()
    assert "1.50x" in text


def test_a_page_is_of_one_source_of_ours(tmp_path):
    old, new = QUICK[:2]
    rows = [
        a_row(old, source="old", date="1", **FIGURES),
        a_row(new, source="new", date="2", **FIGURES),
    ]
    text = report.write(tmp_path, QUICK, rows).read_text()
    assert "our source new" in text
    assert "Left out, measured with an earlier source of ours: 1 cases." in text
    assert f"| {new.key} |" in text
    assert f"| {old.key} |" not in text


def test_an_exponent_is_that_of_the_largest_sizes_and_of_enough_of_them():
    curve = [(1, 9.0), *((m, 3e-5 * m**1.25) for m in (64, 128, 512, 1024))]
    assert page.exponent_of(curve) == pytest.approx(1.25, abs=1e-9)
    assert page.exponent_of(curve[1:]) is None
