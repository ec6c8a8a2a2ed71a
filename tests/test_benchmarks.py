"""The benchmark script runs, says what it lacks, and measures what it claims to."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import cases
from benchmarks.__main__ import INSTALL_PEER, fitted_exponent, table_row
from benchmarks.cases import CASES, QUICK_CASES, Case
from benchmarks.worker import extra_memory


def test_quick_run_without_the_peer(tmp_path):
    output = tmp_path / "figures.csv"
    options = ["--quick", f"--peer={tmp_path / 'absent'}", f"--output={output}"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *options],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert INSTALL_PEER in done.stdout
    assert "time grows as M^" in done.stdout

    rows = list(csv.DictReader(output.read_text().splitlines()))
    assert {row["implementation"] for row in rows} == {"ours", "torch"}
    assert {row["loss"] for row in rows} >= {case.name for case in QUICK_CASES}
    assert all(0 < float(row["p20_ms"]) <= float(row["p80_ms"]) for row in rows)
    assert all(row["torch"] and row["machine"] and row["date"] for row in rows)


def test_a_row_of_the_table_holds_ratios_of_medians_and_judges_the_goals():
    rows = [
        {
            "implementation": name,
            "shape": "8x2",
            "p20_ms": median - 1,
            "p50_ms": median,
            "p80_ms": median + 1,
            "extra_mib": memory,
        }
        for name, median, memory in [("ours", 4.0, 2.0), ("torch", 2.0, None), ("peer", 100.0, 9.0)]
    ]
    case = Case("SmoothAPLoss", (8, 2), queue=16, peer_goal=20, torch_goal=1, memory_goal=2)
    name, shape, *cells = table_row(case, rows)
    assert (name, shape) == ("SmoothAP", "8x2 + 16")
    assert cells[3:6] == ["25.0x", "2.00x", "2 / 9 / -"]
    assert "20x met" in cells[6]
    assert "1x missed" in cells[6]
    assert "2 MiB met" in cells[6]


def test_the_exponent_of_a_power_law_is_recovered():
    rows = [{"shape": f"{m}x1", "p50_ms": 3e-5 * m**1.25} for m in (64, 128, 512)]
    assert fitted_exponent(rows) == pytest.approx(1.25, abs=1e-4)


def test_extra_memory_sees_what_a_step_holds_at_its_peak():
    mib = extra_memory(lambda: bytearray(64 << 20).count(1) and None)
    if mib is None:
        pytest.skip("only Linux tells the peak of the resident memory")
    assert 60 < mib < 80


def test_the_queue_is_full_of_distinct_rows_before_the_first_step(monkeypatch):
    seen = []

    def loss(logits, targets):
        seen.append(logits.detach().clone())
        return logits.sum()

    monkeypatch.setattr(cases, "_package_loss", lambda case: loss)
    step = cases.training_step(Case("SmoothAPLoss", (8, 2), queue=20), "ours")
    rows = torch.cat(seen)
    assert len(rows) >= 20
    assert len(rows.unique(dim=0)) == len(rows)
    step()
    assert len(seen) * 8 == len(rows) + 8


def test_every_case_has_a_name_of_its_own():
    assert len({(case.name, case.shape) for case in CASES}) == len(CASES)
