"""What a comparison found goes to disk and comes back."""

import dataclasses
import json
import math

import numpy as np
import pytest

from imbalanced_losses.compare import (
    ClassCount,
    Comparison,
    Data,
    Decision,
    Difference,
    Estimate,
    Finding,
    Outcome,
    Scores,
)


def comparison(**changed):
    difference = Difference(0.02, -0.01, 0.05, 0.03, 0.06, 4, 1, "unclear")
    found = Comparison(
        data=Data(
            name="wilt.csv",
            rows=3,
            features=2,
            kind="binary",
            target="class",
            classes=(ClassCount("no", 2), ClassCount("yes", 1)),
            findings=(Finding("leak", "b equals the target.", ("b",)),),
        ),
        goal="average_precision",
        goal_title="average precision",
        budget=None,
        repeats=1,
        folds=2,
        seed=0,
        level=0.95,
        outcomes=(
            Outcome(
                "focal",
                "focal loss",
                (0.5, math.nan),
                0.5,
                math.nan,
                math.nan,
                (0.5,),
                1.5,
                {"log_loss": math.nan},
                (0.01, 0.001),
                difference,
            ),
            Outcome(
                "prior_bias", "cross-entropy, prior bias", (0.4, 0.6), 0.5, 0.1, 0.9, (0.5,), 1.0
            ),
        ),
        sentence="no clear difference: keep cross-entropy with prior bias",
        choice="prior_bias",
        decisions=(
            Decision(
                "yes",
                "budget=0.1",
                0.4,
                Estimate(math.nan, 0.1, 1.0),
                *[Estimate(1, 0, 1)] * 3,
                "Alert from 0.4 on.",
            ),
            Decision("yes", "budget=0.0001", None, None, None, None, None, "Cannot be met."),
        ),
        notes=("a note",),
        scores=Scores(
            {"prior_bias": np.array([[0.1], [0.2], [np.nan]])},
            np.array([[0.1], [0.3], [np.nan]]),
            np.array([0, 1, 0]),
        ),
    )
    return dataclasses.replace(found, **changed)


def test_a_comparison_survives_the_way_to_disk_and_back(tmp_path):
    found = comparison()
    path = found.save(tmp_path / "new")
    assert path == tmp_path / "new" / "result.json"
    assert sorted(one.name for one in path.parent.iterdir()) == ["result.json", "scores.npz"]
    back = Comparison.load(path.parent)
    # NaN does not equal itself; as text it does.
    assert repr(back) == repr(found)
    assert back.scores is not None
    np.testing.assert_equal(back.scores.raw, found.scores.raw)
    np.testing.assert_equal(back.scores.targets, found.scores.targets)
    np.testing.assert_equal(back.scores.calibrated, found.scores.calibrated)


def test_the_file_is_plain_json_without_nan(tmp_path):
    text = comparison().save(tmp_path).read_text()

    def refuse(word):
        raise AssertionError(word)

    found = json.loads(text, parse_constant=refuse)
    assert found["version"] == 1
    assert found["outcomes"][0]["values"] == [0.5, None]
    assert "scores" not in found


def test_without_scores_the_comparison_still_comes_back(tmp_path):
    comparison(scores=None).save(tmp_path)
    assert Comparison.load(tmp_path).scores is None


@pytest.mark.parametrize("found", [{}, {"version": 2}, [], {"version": 1}, {"version": 1, "a": 2}])
def test_what_is_no_result_is_refused(found):
    with pytest.raises(ValueError, match="result must"):
        Comparison.from_dict(found)


def test_a_row_is_found_by_its_name_and_a_missing_one_names_the_others():
    assert comparison().baseline.recipe == "prior_bias"
    with pytest.raises(KeyError, match="there are focal, prior_bias"):
        comparison().outcome("boosting")


def test_the_label_of_a_binary_problem_is_its_positive_class():
    data = comparison().data
    assert data.labels == ("yes",)
    assert dataclasses.replace(data, kind="multiclass").labels == ("no", "yes")


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    comparison().save(tmp_path)
    before = (tmp_path / "result.json").read_text()
    with pytest.raises(ValueError, match="JSON"):
        comparison(level=math.inf).save(tmp_path)
    assert (tmp_path / "result.json").read_text() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["result.json", "scores.npz"]
