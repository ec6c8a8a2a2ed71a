"""The study is read right: differences, what they say over sets, and the rule that chooses."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.evidence import choice
from benchmarks.evidence.statistics import (
    ADJUSTED,
    REFERENCE,
    beside_boosting,
    critical_difference,
    family_interval,
    fold_gains,
    friedman,
    over_sets,
    ranks,
    read,
    set_gains,
    wilcoxon,
)
from benchmarks.evidence.study import Study
from evidence_rows import made_up
from imbalanced_losses._paired import corrected_interval, holm

pytestmark = pytest.mark.no_cover


def test_a_gain_is_the_mean_difference_to_the_reference_on_the_same_fold():
    frame = made_up({"good": 0.02}, models=("mlp32", "mlp128"))
    by_set = set_gains(frame, fold_gains(frame, "average_precision", ("mlp32", "mlp128")))
    own = frame[frame["set"] == "car-1"].pivot(
        index=["model", "fold"], columns="arm", values="average_precision"
    )
    by_fold = (own["good"] - own[REFERENCE]).groupby("fold").mean()
    found = by_set[by_set["set"] == "car-1"].iloc[0]
    expected = corrected_interval(by_fold, test_share=1 / 5)
    np.testing.assert_allclose(found[["mean", "low", "high", "p"]].astype(float), expected)
    assert (found["family"], found["half"], found["folds"]) == ("car", "report", 5)


def test_lower_is_better_for_losses():
    frame = made_up({"good": 0.02})
    by_set = set_gains(frame, fold_gains(frame, "log_loss", ("linear",)))
    assert (by_set["mean"] > 0).all()


def test_a_fold_without_the_reference_says_nothing():
    frame = made_up({"good": 0.02})
    is_gone = (frame["set"] == "car-1") & (frame["fold"] == 2) & (frame["arm"] == REFERENCE)
    gains = fold_gains(frame[~is_gone], "average_precision", ("linear",))
    assert ("car-1", 0, 2) not in gains.index
    assert ("car-1", 0, 3) in gains.index


def test_over_sets_counts_and_tests_what_the_sets_show():
    frame = made_up({"good": 0.03, "bad": -0.03, "nothing": 0.0})
    by_set = Study(frame).counted("average_precision", ("linear",))
    table = over_sets(by_set)
    assert set(table.index) == {"good", "bad", "nothing"}
    gains = by_set[by_set["arm"] == "nothing"]["mean"]
    row = table.loc["nothing"]
    assert (row["won"], row["lost"], row["tied"]) == ((gains > 0).sum(), (gains < 0).sum(), 0)
    assert row["mean"] == pytest.approx(gains.mean())
    assert row["p"] == pytest.approx(stats.wilcoxon(gains).pvalue)
    np.testing.assert_allclose(table["p_holm"], holm(table["p"]))
    assert (table.loc["bad", "worse"], table.loc["good", "better"]) == (24, 24)
    assert (table.loc["bad", "lost"], table.loc["good", "worse"]) == (24, 0)
    assert table["rank"].to_dict() == {
        arm: pytest.approx(rank) for arm, rank in ranks(by_set).mean().drop(REFERENCE).items()
    }
    assert table.loc["good", "rank"] == 1
    assert (table["families"] == 8).all()


def test_sets_that_do_not_count_are_left_out_of_the_tests():
    study = Study(made_up({"good": 0.02}))
    assert set(study.counted("log_loss", ("linear",))["set"].str[-1]) == {"0", "1", "2"}
    halves = [len(study.counted("log_loss", ("linear",), half)) for half in ("choose", "report")]
    assert halves == [12, 12]


def test_equal_results_are_ties_and_no_evidence():
    frame = made_up({"same": 0.0}, spread=0)
    row = over_sets(Study(frame).counted("average_precision", ("linear",))).loc["same"]
    assert (row["won"], row["lost"], row["tied"], row["p"]) == (0, 0, 24, 1)
    assert (row["mean"], row["better"], row["worse"]) == (0, 0, 0)


def test_the_signed_rank_test_is_scipys_where_scipy_is_exact():
    generator = np.random.default_rng(0)
    for rows in (1, 5, 20, 53):
        gains = generator.normal(0.3, 1, rows)
        expected = stats.wilcoxon(gains, method="exact").pvalue
        assert wilcoxon(gains) == pytest.approx(expected, rel=1e-9)


def test_the_signed_rank_test_counts_all_signs_where_gains_are_equal_or_zero():
    gains = np.array([0.1, 0.1, 0.2, -0.1, 0.3, 0, 0.2, 1e-12])
    signs = np.array(list(product([-1, 1], repeat=6)))
    size = np.abs(np.where(np.abs(gains) < 1e-9, 0, gains))
    ranks_of = stats.rankdata(size)[size > 0]
    sums = (signs > 0) @ ranks_of
    own = ranks_of[gains[size > 0] > 0].sum()
    expected = 2 * min((sums <= own).mean(), (sums >= own).mean())
    assert wilcoxon(gains) == pytest.approx(min(1, expected))
    assert wilcoxon(np.zeros(4)) == 1


def test_the_interval_draws_whole_families():
    families = pd.Series(list("aaaabc"))
    gains = pd.Series([0.1, 0.1, 0.1, 0.1, 0.4, -0.2])
    low, high = family_interval(gains, families, draws=200_000)
    sums, sizes = {"a": 0.4, "b": 0.4, "c": -0.2}, {"a": 4, "b": 1, "c": 1}
    means = sorted(
        sum(sums[name] for name in drawn) / sum(sizes[name] for name in drawn)
        for drawn in product("abc", repeat=3)
    )
    # The 27 draws are alike likely: the ends are the first and the last of them.
    assert (low, high) == (pytest.approx(means[0]), pytest.approx(means[-1]))
    assert np.isnan(family_interval(gains[:4], families[:4])).all()


def test_ranks_give_the_best_arm_the_first_and_the_reference_its_place():
    frame = made_up({"good": 0.05, "bad": -0.05})
    mean = ranks(Study(frame).counted("average_precision", ("linear",))).mean()
    assert mean.to_dict() == {"good": 1, REFERENCE: 2, "bad": 3}


def test_the_critical_difference_is_that_of_demsars_example():
    # Demsar, JMLR 7, 2006, section 3.2.2: 4 classifiers on 14 sets.
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)


def test_friedman_sees_arms_that_differ():
    frame = made_up({"good": 0.05, "bad": -0.05})
    ranked = ranks(Study(frame).counted("average_precision", ("linear",)))
    assert friedman(ranked) < 1e-6
    assert np.isnan(friedman(ranked[["good"]]))


def test_the_adjusted_decision_of_the_reference_stands_among_the_arms():
    frame = made_up({"weights": 0.01})
    frame["balanced_accuracy_adjusted"] = frame["balanced_accuracy"] + 0.1
    gains = fold_gains(frame, "balanced_accuracy", ("linear",))
    np.testing.assert_allclose(gains[ADJUSTED], 0.1)
    assert ADJUSTED not in fold_gains(frame, "average_precision", ("linear",))


def test_boosting_is_compared_on_the_same_folds():
    frame = made_up({})
    boosted = frame.assign(model="boosting", arm="boosting")
    boosted["average_precision"] -= 0.03
    both = pd.concat([frame, boosted[boosted["fold"] < 3]])
    by_set = beside_boosting(both, "average_precision", "linear", REFERENCE)
    np.testing.assert_allclose(by_set["mean"], 0.03)
    assert (by_set["folds"] == 3).all()


def test_other_libraries_stand_apart():
    frame = made_up({"good": 0.01, "libauc_ap": 0.05})
    study = Study(frame)
    assert set(study.frame["arm"]) == {REFERENCE, "good"}
    assert set(study.peers["arm"]) == {REFERENCE, "libauc_ap"}


def test_a_file_without_a_column_or_with_a_row_twice_is_refused(tmp_path):
    path = tmp_path / "results.csv"
    frame = made_up({})
    frame.drop(columns="fold").to_csv(path)
    with pytest.raises(ValueError, match=r"results\.csv has no column fold"):
        read(path)
    pd.concat([frame, frame[:1]]).to_csv(path)
    with pytest.raises(ValueError, match=r"1 rows stand twice, the first of them.*'abalone-0'"):
        read(path)


def a_table(**arms):
    """Rows of `over_sets`: mean, lower end, sets that are worse, adjusted p."""
    columns = ["low", "worse", "p_holm", "sets"]
    return pd.DataFrame.from_dict(arms, orient="index", columns=columns)


def test_the_recipe_has_the_highest_lower_end_among_those_that_the_test_finds_better():
    table = a_table(sure=(0.01, 0, 0.001, 20), surer=(0.005, 0, 1e-6, 20), lucky=(0.02, 0, 0.2, 20))
    assert choice.choose_recipe(table) == "sure"
    assert choice.choose_recipe(table.drop(index=["sure", "surer"])) == "lucky"


def test_an_arm_that_harms_a_set_or_may_be_worse_is_not_chosen():
    table = a_table(harmful=(0.02, 1, 1e-6, 20), doubtful=(-0.001, 0, 0.001, 20))
    assert choice.choose_recipe(table) == REFERENCE
    few = a_table(few=(0.02, 0, 1e-6, 9), none=(-0.01, 0, 1.0, 20))
    assert choice.choose_recipe(few) == REFERENCE
    assert choice.choose_recipe(pd.DataFrame()) == REFERENCE


def test_the_advice_is_what_holds_on_the_other_half():
    frame = made_up({"good": 0.02, "fair": 0.01, "bad": -0.02})
    entry = choice.advice(Study(frame))["average_precision"]["linear"]
    assert (entry["recipe"], entry["clears"], entry["use"]) == ("good", True, "good")
    assert (entry["report"]["won"], entry["report"]["lost"]) == (12, 0)
    assert entry["choose"]["sets"] == entry["report"]["sets"] == 12
    assert entry["report"]["p_holm"] >= entry["report"]["p"]


def test_a_recipe_that_gained_only_where_it_was_chosen_does_not_clear_the_bar():
    frame = made_up({"lucky": (0.02, 0.0), "fair": 0.002})
    entry = choice.advice(Study(frame))["average_precision"]["linear"]
    assert (entry["recipe"], entry["clears"], entry["use"]) == ("lucky", False, REFERENCE)


def test_a_recipe_that_harms_one_set_of_the_other_half_does_not_clear_the_bar():
    frame = made_up({"good": 0.02})
    is_harmed = (frame["set"] == "car-1") & (frame["arm"] == "good")
    frame.loc[is_harmed, "average_precision"] -= 0.06
    entry = choice.advice(Study(frame))["average_precision"]["linear"]
    assert (entry["recipe"], entry["report"]["worse"], entry["use"]) == ("good", 1, REFERENCE)


def test_recipes_of_all_goals_and_models_are_adjusted_together():
    frame = made_up({"good": 0.02}, models=("linear", "mlp4"))
    advised = choice.advice(Study(frame))
    reports = [e["report"] for by_class in advised.values() for e in by_class.values()]
    assert len(reports) == 8
    np.testing.assert_allclose([r["p_holm"] for r in reports], holm([r["p"] for r in reports]))
    assert {name for by_class in advised.values() for name in by_class} == {"linear", "small"}


def test_nothing_that_helps_leaves_the_reference():
    frame = made_up({"nothing": -0.001, "bad": -0.02})
    entry = choice.advice(Study(frame))["average_precision"]["linear"]
    assert entry == {"recipe": REFERENCE, "clears": False, "use": REFERENCE}


def test_no_recipe_is_chosen_for_what_calling_every_row_rare_makes_perfect():
    frame = made_up({"always": 0.1})
    frame["tail_accuracy"] = frame["balanced_accuracy"]
    study = Study(frame)
    assert "tail_accuracy" in study.goals
    advised = choice.advice(study)
    assert advised["balanced_accuracy"]["linear"]["recipe"] == "always"
    assert "tail_accuracy" not in advised
