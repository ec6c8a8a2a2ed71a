"""What a table holds, before anything is trained."""

import dataclasses
import io
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy.stats import binomtest

from imbalanced_losses.compare import DataError, inspect
from imbalanced_losses.compare._inspect import positives_needed
from imbalanced_losses.compare._show import show_inspection
from imbalanced_losses.recipes import GOALS, recommend
from imbalanced_losses.recipes._advice import CAPACITIES

ROWS = 200


def frame_of(rows=ROWS, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "amount": rng.normal(size=rows),
            "shop": rng.choice(["north", "south", "east"], rows),
            "day": pd.date_range("2024-01-01", periods=rows),
            "fraud": (np.arange(rows) % 20 == 0).astype(int),
        }
    )


def shown(found, width=120):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    show_inspection(console, found)
    return console.file.getvalue()


def test_classes_are_counted_and_columns_told_apart():
    found = inspect(frame_of(), "fraud")
    assert found.kind == "binary"
    assert found.target == ("fraud",)
    assert [(one.name, one.rows, one.share) for one in found.classes] == [
        ("0", 190, 0.95),
        ("1", 10, 0.05),
    ]
    assert found.imbalance == 19
    assert found.columns == {"numbers": 1, "dates": 1, "categories and texts": 1}
    assert found.different_rows == ROWS
    assert found.test is None


def test_the_interval_of_a_recall_is_that_of_clopper_and_pearson():
    found = inspect(frame_of(), "fraud")
    here = found.precision[0]
    exact = binomtest(5, 10).proportion_ci(0.95, "exact")
    assert (here.positives, here.rows) == (10, ROWS)
    assert (here.low, here.high) == pytest.approx((exact.low, exact.high), abs=1e-9)
    for width, one in zip((0.1, 0.05, 0.02), found.precision[1:], strict=True):
        assert one.positives == positives_needed(width)
        assert one.rows == one.positives * 20


@pytest.mark.parametrize("width", [0.3, 0.1, 0.05])
def test_fewer_positives_than_needed_leave_the_interval_too_wide(width):
    def half(n):
        # Even numbers, of which one half is a whole number.
        return 0.5 - binomtest(n // 2, n).proportion_ci(0.95, "exact").low

    needed = positives_needed(width)
    assert half(needed + needed % 2) <= width
    assert half(needed - 2 + needed % 2 - 2 * (needed % 2)) > width


def test_enough_positives_are_not_said_to_be_too_few():
    rng = np.random.default_rng(0)
    found = inspect((rng.normal(size=(9000, 2)), np.arange(9000) % 2))
    assert [one.positives for one in found.precision] == [4500]


def test_the_advice_is_what_recipes_recommend_each_with_a_reason():
    found = inspect(frame_of(), "fraud", budget=0.05)
    assert [one.goal for one in found.advice] == list(GOALS)
    for one in found.advice:
        for capacity in CAPACITIES:
            name = recommend(one.goal, "binary", capacity).name
            assert one.recipes[capacity] == name
            assert found.reasons[name]
    assert any("0.05" in one.title for one in found.advice)


def test_several_classes_and_several_labels_are_inspected_alike():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3))
    classes = inspect((x, np.repeat(["a", "b", "c"], [200, 80, 20])))
    assert classes.kind == "multiclass"
    assert classes.imbalance == 10
    labels = inspect((x, np.stack([np.arange(300) % 10 == 0, np.arange(300) % 5 == 1], axis=1)))
    assert labels.kind == "multilabel"
    assert labels.imbalance == 10
    assert "label" in shown(labels)


def test_rows_of_another_part_are_found_although_types_and_ids_differ(tmp_path):
    first = frame_of().assign(id=range(ROWS), count=np.arange(ROWS) // 2)
    second = pd.concat([first[:30], frame_of(70, seed=9).assign(id=0, count=5)])
    second["id"] = range(5000, 5100)
    second["count"] = second["count"].astype(float)
    paths = tmp_path / "train.csv", tmp_path / "test.csv"
    first.to_csv(paths[0], index=False)
    second.to_csv(paths[1], index=False, sep=";", decimal=",")
    part = inspect(paths[0], "fraud", test=paths[1]).test
    assert (part.name, part.rows, part.shared, part.share) == ("test.csv", 100, 30, 0.3)
    # The target is not needed there, a feature is.
    second.drop(columns="fraud").to_csv(paths[1], index=False)
    assert inspect(paths[0], "fraud", test=paths[1]).test.shared == 30
    with pytest.raises(DataError, match=r"lacks columns of 'train.csv': 'shop'"):
        inspect(paths[0], "fraud", test=second.drop(columns="shop"))


def test_rows_of_another_array_are_found():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 3)), np.arange(100) % 5 == 0
    x[:, 1] = 7
    part = inspect((x, y), test=(x[:10], y[:10])).test
    assert part.shared == part.rows == 10


def test_rows_of_another_part_are_found_although_their_dates_are_text():
    later = frame_of()
    later["day"] = later["day"].astype(str)
    assert inspect(frame_of(), "fraud", test=later).test.shared == ROWS
    assert inspect(frame_of(), "fraud", test=later.assign(day="unknown")).test.shared == 0


@pytest.mark.parametrize("form", ["%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M"])
def test_dates_of_another_part_are_read_in_the_order_of_the_first(form):
    days = pd.date_range("2026-01-01 07:30", periods=ROWS, freq="D")
    frame = frame_of().assign(day=days.strftime(form))
    early = frame[(days.day <= 12) & (days.day != days.month)].assign(shop=None)
    frame = frame.assign(shop=None)
    assert inspect(frame, "fraud", test=early).test.share == 1
    early.loc[early.index[0], "day"] = None
    assert inspect(frame, "fraud", test=early).test.shared == len(early) - 1


def test_sizes_of_models_are_told_apart_only_where_they_get_different_recipes():
    found = inspect(frame_of(), "fraud")
    alike = [
        dataclasses.replace(o, recipes=dict.fromkeys(CAPACITIES, "focal")) for o in found.advice
    ]
    assert "any model" in shown(dataclasses.replace(found, advice=tuple(alike)))
    alike[0].recipes["linear"] = "smooth_ap_mix"
    text = shown(dataclasses.replace(found, advice=tuple(alike)))
    assert "any model" not in text
    for size in CAPACITIES:
        assert f"{size} model" in text


def test_all_of_it_is_json():
    found = inspect(frame_of(), "fraud", test=frame_of())
    again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert again["version"] == 1
    assert again["test"]["shared"] == ROWS
    assert again["classes"][1] == {"name": "1", "rows": 10, "share": 0.05}
    assert again["findings"][0]["code"] == "positive"


def test_names_that_look_like_markup_or_steer_the_screen_are_shown_as_they_are():
    rng = np.random.default_rng(0)
    evil = "[bold red]x[/]\x1b[2J\n[link=file:///etc/passwd]"
    frame = frame_of().assign(**{evil: np.nan})
    frame["fraud"] = np.where(frame["fraud"], "[/oops]\x07", "fine")
    frame["amount"] = rng.normal(size=ROWS)
    text = shown(inspect(frame, "fraud"), width=400)
    assert "[bold red]x[/]" in text
    assert "[/oops]" in text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_a_terminal_of_any_width_shows_every_part():
    frame = pd.concat([frame_of(), frame_of()[:40]])
    frame["copy"] = frame["fraud"]
    found = inspect(frame, "fraud", test=frame_of())
    for width in (40, 100, 300):
        text = " ".join(shown(found, width).split())
        for words in ("228", "LEAK, left out", "80 rows", "average", "recall"):
            assert words in text, words
    assert "200 of 200 rows (100.0%) equal" in shown(found, 300)


def test_of_many_classes_the_rarest_are_shown():
    rng = np.random.default_rng(0)
    y = np.concatenate([np.full(6 + k, k) for k in range(30)])
    found = inspect((rng.normal(size=(len(y), 2)), y))
    assert "... and 10 more" in shown(found)


@pytest.mark.parametrize("budget", [0, 1, "a"])
def test_a_budget_out_of_range_is_an_error(budget):
    with pytest.raises((ValueError, TypeError), match="budget must be"):
        inspect(frame_of(), "fraud", budget=budget)
