"""The demo: its data and where they come from, and a short run from the command to the reports."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from demo import __main__ as command
from demo import data
from imbalanced_losses.compare import Comparison
from imbalanced_losses.compare._report import _panels

# Long runs of what other tests cover.
pytestmark = pytest.mark.no_cover


def rows_of(path):
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_trees_are_those_that_their_licence_is_given_for():
    rows = rows_of(data.WILT)
    assert Counter(row["land_cover"] for row in rows) == {
        "other land cover": 4562,
        "diseased tree": 257,
    }
    assert list(rows[0]) == [
        "GLCM_pan",
        "mean_green",
        "mean_red",
        "mean_NIR",
        "SD_pan",
        "land_cover",
    ]
    source = data.WILT.with_name("WILT.md").read_text(encoding="utf-8")
    for said in ("Brian Johnson", "CC BY 4.0", "https://doi.org/10.24432/C5KS4M", "4,819"):
        assert said in source


def test_the_digits_are_scikit_learns_with_a_long_tail(tmp_path):
    data.write_digits(tmp_path / "digits.csv")
    rows = rows_of(tmp_path / "digits.csv")
    counts = Counter(int(row.pop("digit")) for row in rows)
    assert [counts[digit] for digit in range(10)] == data.digit_counts()
    # Rounding to whole rows moves a ratio most where only a few rows are left.
    ratios = np.diff(np.log(data.digit_counts()))
    np.testing.assert_allclose(ratios, np.log(10 / 150) / 9, atol=0.08)
    pixels = {tuple(row) for row in load_digits().data}
    assert {tuple(map(float, row.values())) for row in rows} <= pixels

    data.write_digits(tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "digits.csv").read_bytes()
    data.write_digits(tmp_path / "others.csv", seed=1)
    assert (tmp_path / "others.csv").read_bytes() != (tmp_path / "digits.csv").read_bytes()


def test_a_short_run_ends_with_both_verdicts_and_both_reports(tmp_path, capsys, monkeypatch):
    small = tmp_path / "wilt.csv"
    lines = data.WILT.read_text(encoding="utf-8").splitlines(keepends=True)
    small.write_text("".join(lines[:1] + lines[1::8]), encoding="utf-8")
    monkeypatch.setattr(data, "WILT", small)
    monkeypatch.setattr(data, "MOST", 30)
    monkeypatch.setattr(_panels, "MOST_PANELS", 1)
    monkeypatch.setattr(command, "TREES", ("focal",))
    monkeypatch.setattr(command, "DIGITS", ("adjusted",))
    monkeypatch.setattr(command, "FOLDS", 2)
    arguments = ["--output", str(tmp_path / "new"), "--jobs", "1", "--max-epochs", "1"]
    assert command.main(arguments) == 0
    output = capsys.readouterr().out
    for name, kind in (("wilt", "binary"), ("digits", "multiclass")):
        report = tmp_path / "new" / name / "report.html"
        assert report.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
        assert str(report) in output.splitlines()[-1 if name == "digits" else -2]
        found = Comparison.load(report.parent)
        assert found.data.kind == kind
        tried = {"binary": "focal", "multiclass": "adjusted"}[kind]
        assert {one.recipe for one in found.outcomes} == {"prior_bias", tried, "boosting"}
        assert " ".join(found.sentence.split()) in " ".join(output.split())


@pytest.mark.parametrize("missing", ["matplotlib", "rich", "skrub"])
def test_a_missing_extra_is_one_sentence(missing, monkeypatch, capsys):
    find_spec = command.importlib.util.find_spec
    monkeypatch.setattr(
        command.importlib.util,
        "find_spec",
        lambda name: None if name == missing else find_spec(name),
    )
    assert command.main([]) == 1
    error = capsys.readouterr().err
    assert missing in error
    assert 'in its clone, pip install ".[compare]"' in error
