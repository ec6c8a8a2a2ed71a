"""Reading data of every form: what is found, what is left out, what is refused and how."""

import csv
import io
import os
import tempfile
import zipfile
from pathlib import Path

import hypothesis
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import strategies as st

from imbalanced_losses._errors import DataError
from imbalanced_losses.compare._features import ToNumbers
from imbalanced_losses.compare._reading import csv as _csv
from imbalanced_losses.compare._reading import sources as _sources
from imbalanced_losses.compare._reading.read import read_table

ROWS = 200


def frame_of(rows=ROWS, positives=20, seed=0):
    rng = np.random.default_rng(seed)
    target = np.zeros(rows, np.int64)
    target[rng.permutation(rows)[:positives]] = 1
    return pd.DataFrame(
        {
            "amount": rng.normal(size=rows).round(6),
            "age": rng.integers(18, 90, rows),
            "shop": rng.choice(["north", "south", "east"], rows),
            "fraud": target,
        }
    )


def written(folder, frame, name="data.csv", **options):
    path = folder / name
    frame.to_csv(path, index=False, **options)
    return path


def codes_of(table):
    return {finding.code for finding in table.findings}


def finding_of(table, code):
    (found,) = (finding for finding in table.findings if finding.code == code)
    return found


def refusal(*args, **kwargs):
    with pytest.raises(DataError) as caught:
        read_table(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


# Files.


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_csv_of_any_delimiter_and_byte_order_mark_reads_alike(tmp_path, delimiter, encoding):
    frame = frame_of()
    path = written(tmp_path, frame, sep=delimiter, encoding=encoding)
    table = read_table(path, "fraud")
    assert table.name == "data.csv"
    assert table.kind == "binary"
    assert table.classes == ("0", "1")
    assert table.counts == (180, 20)
    assert table.problem.counts == (180, 20)
    assert list(table.features.columns) == ["amount", "age", "shop"]
    np.testing.assert_array_equal(table.targets, frame["fraud"])
    np.testing.assert_allclose(table.features["amount"], frame["amount"])


def test_a_hint_of_excel_at_the_top_names_the_delimiter(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("sep=;\n" + frame_of().to_csv(index=False, sep=";"))
    assert read_table(path, "fraud").counts == (180, 20)


def test_decimal_commas_behind_semicolons_are_numbers(tmp_path):
    frame = frame_of()
    path = written(tmp_path, frame, sep=";", decimal=",")
    table = read_table(path, "fraud")
    np.testing.assert_allclose(table.features["amount"], frame["amount"])
    assert finding_of(table, "numbers").columns == ("amount",)


def test_names_with_newlines_and_quotes_stay_names_and_messages_stay_on_one_line(tmp_path):
    name = 'say "hi",\nthen <b>go</b>\x1b[31m'
    frame = frame_of().rename(columns={"amount": name}).assign(**{"empty\n": np.nan})
    table = read_table(written(tmp_path, frame), "fraud")
    assert name in table.features.columns
    assert all(finding.message.isprintable() for finding in table.findings)
    assert "'empty\\n'" in finding_of(table, "empty").message
    assert "\x1b" not in refusal(written(tmp_path, frame), "\x1b[2J\n")


def test_text_that_is_not_utf_8_is_read_and_said(tmp_path):
    frame = frame_of().assign(shop=np.where(np.arange(ROWS) % 2, "Köln", "Ulm"))
    path = written(tmp_path, frame, encoding="cp1252")
    table = read_table(path, "fraud")
    assert set(table.features["shop"]) == {"Köln", "Ulm"}
    assert "Windows-1252" in finding_of(table, "encoding").message


@pytest.mark.parametrize("rows", [ROWS, 30_000], ids=["short", "beyond the sample"])
def test_a_column_of_text_with_delimiters_and_newlines_does_not_mislead(tmp_path, rows):
    frame = frame_of(rows).assign(note='a; b; "c"\nd; e')
    frame.loc[::2, "note"] = "x;y"
    table = read_table(written(tmp_path, frame), "fraud", folds=2)
    assert list(table.features.columns) == ["amount", "age", "shop", "note"]
    assert len(table) == rows


def test_parquet_and_a_frame_read_as_csv_does(tmp_path):
    frame = frame_of()
    frame["day"] = pd.date_range("2024-01-01", periods=ROWS, freq="D")
    path = tmp_path / "data.parquet"
    frame.to_parquet(path)
    for table in (read_table(path, "fraud"), read_table(frame, "fraud")):
        np.testing.assert_array_equal(table.targets, frame["fraud"])
        assert list(table.features.columns) == ["amount", "age", "shop", "day"]
    assert read_table(table, "ignored") is table


def test_npz_and_arrays_stay_arrays(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(ROWS, 3)).astype(np.float32), np.arange(ROWS) % 10 == 0
    path = tmp_path / "data.npz"
    np.savez(path, X=x, y=y)
    forms = (path, (x, y), {"X": x, "y": y}, [torch.tensor(x), torch.tensor(y)])
    for data in forms:
        table = read_table(data)
        assert table.features.dtype == np.float32
        np.testing.assert_array_equal(table.features, x)
        assert table.counts == (180, 20)
        assert table.classes == ("False", "True")
    np.savez(path, X=x, label=y, feature_names=["a", "b", "c"])
    assert list(read_table(path, "label").features.columns) == ["a", "b", "c"]


def test_groups_of_an_npz_file_are_an_array_or_a_column(tmp_path):
    rng = np.random.default_rng(0)
    x, y, user = rng.normal(size=(ROWS, 3)), np.arange(ROWS) % 10 == 0, np.arange(ROWS) // 5
    path = tmp_path / "data.npz"
    np.savez(path, X=x, y=y, user=user.astype(str))
    table = read_table(path, group="user")
    np.testing.assert_array_equal(table.groups, user)
    assert table.features.shape == (ROWS, 3)
    np.savez(path, X=np.column_stack([x, user]), y=y)
    table = read_table(path, group="x3")
    np.testing.assert_array_equal(table.groups, user)
    assert table.features.shape == (ROWS, 3)
    assert "no column 'user'" in refusal(path, group="user")
    np.savez(path, X=x, y=y, user=user[:-1])
    assert "'user' must hold the group of each row, [200]; got shape [199]" in refusal(
        path, group="user"
    )


def test_arrays_of_strings_and_lists_become_columns():
    x = [[k + 0.5, "ab"[k % 2]] for k in range(40)]
    table = read_table((x, ["no", "yes", "no", "no"] * 10))
    assert pd.api.types.is_numeric_dtype(table.features.iloc[:, 0])
    assert table.classes == ("no", "yes")
    table = read_table((pd.DataFrame(x), pd.Series(["no", "no", "yes", "no"] * 10, name="t")))
    assert list(table.features.columns) == ["0", "1"]


def test_labels_in_columns_make_a_multi_label_table(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(ROWS, 3)), (rng.random((ROWS, 2)) < 0.2).astype(int)
    by_array = read_table((x, y))
    assert by_array.kind == "multilabel"
    assert by_array.classes == ("label 0", "label 1")
    frame = pd.DataFrame(x, columns=list("abc")).assign(
        hot=np.where(y[:, 0], "Yes", "no"), cold=y[:, 1].astype(bool)
    )
    by_frame = read_table(written(tmp_path, frame), ["hot", "cold"])
    for table in (by_array, by_frame):
        np.testing.assert_array_equal(table.targets, y)
        assert table.targets.dtype == np.uint8
        assert table.counts == tuple(y.sum(0))
    assert "one label of several" in refusal(frame.assign(hot=range(ROWS)), ["hot", "cold"])
    assert "positive is for one target" in refusal(frame, ["hot", "cold"], positive="Yes")


# Files that are no table.


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n\n\n", "no line with names"),
        (b"a,b,fraud\n", "has no rows"),
        (b"a,a,fraud\n1,2,0\n", "more than one column of the name 'a'"),
        (b"\x00\x01\x02binary", "binary data"),
        (b"<html><body>404</body></html>", "looks like HTML"),
        (b'{"a": 1}', "looks like HTML, XML or JSON"),
        (b"\x1f\x8b\x08rest", "is compressed"),
        (b"PAR1 but no more", "broken Parquet"),
        (b"PK\x03\x04 but no more", "no NPZ file"),
        (b'a,fraud\n1,0\n"2,1\n3,0\n', "never closed"),
        (b"a,fraud\n1,0\n1,2,3\n4,1\n", "3 fields in line 3"),
        (b"a,fraud\n1,0,7\n1,2,3\n4,1,5\n", "more fields than the 2 columns"),
        (b"just a text\nof a few lines\n", "no column 'fraud'"),
    ],
)
def test_what_is_no_table_is_refused_in_a_sentence(tmp_path, content, words):
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    assert words in refusal(path, "fraud")


def test_a_delimiter_at_the_end_of_each_row_is_no_column(tmp_path):
    path = tmp_path / "data.csv"
    lines = frame_of().to_csv(index=False).splitlines()
    path.write_text("\n".join([lines[0], *(f"{line}," for line in lines[1:])]))
    table = read_table(path, "fraud")
    assert list(table.features.columns) == ["amount", "age", "shop"]
    assert table.counts == (180, 20)
    path.write_text(path.read_text() + "\n1,30,north,0,more\n")
    assert "more fields" in refusal(path, "fraud")


def test_a_csv_of_two_gigabytes_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "large.csv"
    start = frame_of(1000).to_csv(index=False).encode()
    with path.open("wb") as file:
        file.write(start)
        file.truncate(2_000_000_000)
    message = refusal(path, "fraud")
    assert "2.0 GB" in message
    assert "1 GB" in message
    assert "Draw a sample" in message
    assert "Parquet" in message


def test_the_rows_of_a_file_that_is_too_large_are_estimated(tmp_path, monkeypatch):
    monkeypatch.setattr(_csv, "MOST_BYTES", 10_000)
    assert "about 2,000 rows" in refusal(written(tmp_path, frame_of(2000)), "fraud")


def test_parquet_and_npz_are_refused_by_what_they_would_take_in_memory(tmp_path, monkeypatch):
    frame = frame_of()
    frame.to_parquet(tmp_path / "data.parquet")
    np.savez(tmp_path / "data.npz", X=np.zeros((ROWS, 30)), y=frame["fraud"])
    monkeypatch.setattr(_sources, "MOST_BYTES", 5_000)
    for name in ("data.parquet", "data.npz"):
        message = refusal(tmp_path / name, None)
        assert "too large: 200 rows" in message
        assert "sample" in message


def test_npz_with_a_pickle_is_refused_without_running_it(tmp_path):
    path = tmp_path / "data.npz"

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    np.savez(path, X=np.array([Trap()], dtype=object), y=np.zeros(1))
    assert "Python objects" in refusal(path)
    assert not (tmp_path / "sprung").exists()


def test_npz_without_the_arrays_says_which_it_has(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, features=np.zeros((3, 2)), y=np.zeros(3))
    assert "no array 'X'; it has 'features', 'y'" in refusal(path)
    np.savez(path, X=np.zeros((3, 2)), y=np.zeros(3))
    assert "no array 'label'" in refusal(path, "label")
    np.savez(path, X=np.zeros((3, 2)), y=np.zeros(3), feature_names=["a"])
    assert "one name for each of the 2 columns" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "")
    assert "Excel workbook" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X.npy", b"\x93NUMPY\x09\x00 rubbish")
    assert "cannot be read" in refusal(path)


def test_a_path_that_is_no_file_is_refused(tmp_path):
    assert "not there" in refusal(tmp_path / "none.csv", "fraud")
    assert "a folder" in refusal(tmp_path, "fraud")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (7, "got int"),
        ((np.zeros((3, 2, 2)), np.zeros(3)), "[rows, columns]"),
        ((np.zeros((3, 2)), np.zeros(4)), "3 and 4"),
        ((np.zeros((3, 2)), np.zeros((3, 1, 1))), "[3, 1, 1]"),
        ((np.zeros((3, 2), complex), np.zeros(3)), "complex"),
        ((np.zeros((0, 2)), np.zeros(0)), "no rows"),
        ((np.zeros((3, 0)), np.array([0, 1, 1])), "no feature left"),
        (([[1, 2], [3]], None), "y must be"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(data, words):
    assert words in refusal(data)


def test_a_sparse_matrix_is_refused_with_the_fix():
    from scipy.sparse import eye

    assert "toarray" in refusal((eye(3), np.zeros(3)))


# Targets.


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([0, 1], ("0", "1")),
        ([0.0, 1.0], ("0", "1")),
        ([False, True], ("False", "True")),
        (["no", "yes"], ("no", "yes")),
        (["0.0", "1.0"], ("0", "1")),
        ([2, 7], ("2", "7")),
        ([-1, 1], ("-1", "1")),
        (["None", "Fraud"], ("None", "Fraud")),
        ([0.25, 0.75], ("0.25", "0.75")),
    ],
)
@pytest.mark.parametrize("by_file", [True, False])
def test_two_classes_of_any_type_become_zeros_and_ones(tmp_path, values, classes, by_file):
    frame = frame_of()
    frame["fraud"] = pd.Series(values)[frame["fraud"]].to_numpy()
    table = read_table(written(tmp_path, frame) if by_file else frame, "fraud")
    assert table.classes == classes
    np.testing.assert_array_equal(table.targets, frame_of()["fraud"])
    assert table.targets.dtype == np.int64


def test_the_rarer_class_is_positive_unless_another_is_named():
    frame = frame_of(positives=180)
    table = read_table(frame, "fraud")
    assert table.classes == ("1", "0")
    assert table.counts == (180, 20)
    assert "'0' (20 of 200 rows)" in finding_of(table, "positive").message
    for spelling in (1, "1", 1.0, "1.0"):
        table = read_table(frame, "fraud", positive=spelling)
        assert table.classes == ("0", "1")
        assert table.counts == (20, 180)
        assert "positive" not in codes_of(table)
    assert "Did you mean 'yes'" in refusal(
        frame.assign(fraud=np.where(frame["fraud"], "yes", "no")), "fraud", positive="yess"
    )


def test_a_class_of_several_that_is_named_positive_stands_against_all_others():
    table = read_table(frame_of(), "shop", positive="North")
    assert table.kind == "binary"
    assert table.classes == ("not north", "north")


def test_classes_of_several_are_in_order_of_value():
    frame = frame_of().assign(fraud=[10, 9, 2, 2] * 50)
    table = read_table(frame, "fraud")
    assert table.kind == "multiclass"
    assert table.classes == ("2", "9", "10")
    assert table.counts == (100, 50, 50)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (np.where(np.arange(ROWS) < 3, np.nan, np.arange(ROWS) % 2), "missing in 3 of 200 rows"),
        (np.where(np.arange(ROWS) == 7, None, "a"), "missing in 1 of 200 rows, first in row 8"),
        (np.where(np.arange(ROWS) == 7, "", "a"), "missing in 1 of 200 rows"),
        (np.where(np.arange(ROWS) == 7, np.inf, 1.0), "infinite in 1 row"),
        (np.zeros(ROWS), "is '0' in all of 200 rows"),
        (np.linspace(0, 1, ROWS), "200 different values"),
        (np.arange(ROWS), "200 different values"),
        ([f"text {k}" for k in range(ROWS)], "which are 200 of all 200 rows"),
        ([[0, 1]] * ROWS, "neither numbers nor text"),
        (np.zeros(ROWS, complex), "complex numbers"),
        ((np.arange(ROWS) == 3).astype(int), "'1' has 1 row. Collect more"),
        ((np.arange(ROWS) < 3).astype(int), "'1' has 3 rows. Use at most 3 folds"),
    ],
)
def test_a_target_that_cannot_be_learnt_is_refused_in_a_sentence(target, words):
    assert words in refusal(frame_of().assign(fraud=target), "fraud")


def test_a_missing_target_in_a_file_is_refused(tmp_path):
    frame = frame_of()
    frame["fraud"] = frame["fraud"].astype(object).where(frame.index != 5, None)
    for filler in ("", "NaN", "NA"):
        path = written(tmp_path, frame, na_rep=filler)
        assert "missing in 1 of 200 rows, first in row 6" in refusal(path, "fraud")


def test_one_positive_in_twenty_thousand_rows_is_refused():
    frame = frame_of(20_000, positives=1)
    assert "'1' has 1 row." in refusal(frame, "fraud")


def test_a_tail_of_tiny_classes_is_left_out_and_said():
    frame = frame_of()
    target = np.array(["a", "b", "c", "d"])[np.arange(ROWS) % 4].astype(object)
    target[:3] = ["lone", "twin", "twin"]
    table = read_table(frame.assign(fraud=target), "fraud")
    assert table.classes == ("a", "b", "c", "d")
    assert len(table) == len(table.features) == len(table.groups) == ROWS - 3
    message = finding_of(table, "rare_classes").message
    assert "3 rows of classes" in message
    assert "'lone', 'twin'" in message
    np.testing.assert_array_equal(np.array(table.classes)[table.targets], target[3:])
    np.testing.assert_array_equal(table.features["amount"], frame["amount"][3:])


def test_two_classes_that_remain_are_a_binary_problem():
    target = np.where(np.arange(ROWS) < 150, "a", "b").astype(object)
    target[0] = "lone"
    table = read_table(frame_of().assign(fraud=target), "fraud")
    assert table.kind == "binary"
    assert table.classes == ("a", "b")
    table = read_table(frame_of().assign(fraud=np.where(target == "a", "c", target)), "fraud")
    assert table.classes == ("c", "b")


def test_labels_without_enough_rows_are_left_out():
    frame = frame_of().assign(lone=np.arange(ROWS) == 0, all=1, half=np.arange(ROWS) % 2)
    table = read_table(frame, ["fraud", "half", "lone", "all"])
    assert table.classes == ("fraud", "half")
    assert finding_of(table, "rare_classes").columns == ("lone", "all")
    table = read_table(frame, ["fraud", "lone"])
    assert table.kind == "binary"
    assert table.classes == ("not fraud", "fraud")
    assert "No label has 5" in refusal(frame, ["lone", "all"])


def test_rows_that_are_equal_do_not_make_a_class_large_enough():
    frame = frame_of()
    frame.loc[frame["fraud"] == 1, ["amount", "age", "shop"]] = (1.0, 40, "north")
    assert "'1' has 20 rows in 1 group. Collect more" in refusal(frame, "fraud")


# Columns.


def test_a_name_that_is_not_there_is_answered_with_those_near_it():
    frame = frame_of()
    assert "Did you mean 'fraud'" in refusal(frame, "Frawd")
    assert "Did you mean 'amount'" in refusal(frame, "fraud", drop=["amuont"])
    assert "no column 'user'" in refusal(frame, "fraud", group="user")
    assert "must be named" in refusal(frame)
    assert "There are 'amount', 'age', 'shop'" in refusal(frame, "fraud", keep="zzz")


def test_two_columns_of_one_name_are_refused():
    frame = frame_of()
    frame.columns = ["a", "a", "b", "fraud"]
    assert "more than one column of the name 'a'" in refusal(frame, "fraud")
    assert "more than one" in refusal(frame.set_axis([1, "1", "b", "fraud"], axis=1), "fraud")


def test_columns_that_are_dropped_or_group_rows_are_no_features():
    frame = frame_of().assign(user=np.arange(ROWS) % 50)
    table = read_table(frame, "fraud", drop="age", group="user")
    assert list(table.features.columns) == ["amount", "shop"]
    assert len(set(table.groups)) == 50
    for user in range(50):
        assert len(set(table.groups[frame["user"] == user])) == 1
    assert "kept together in 50 groups" in finding_of(table, "groups").message


def test_groups_and_equal_rows_are_joined_and_rows_without_a_group_stand_alone():
    frame = frame_of().assign(user=np.arange(ROWS, dtype=float))
    frame.loc[:1, "user"] = np.nan
    frame.loc[2:3, "user"] = 2.0
    frame.loc[4, ["amount", "age", "shop"]] = frame.loc[3, ["amount", "age", "shop"]].to_numpy()
    table = read_table(frame, "fraud", group="user")
    assert table.groups[0] != table.groups[1]
    assert table.groups[2] == table.groups[3] == table.groups[4]
    assert len(set(table.groups)) == ROWS - 2
    assert "2 rows without a group" in finding_of(table, "groups").message


def test_what_says_nothing_is_left_out_and_said():
    frame = frame_of().assign(
        empty=np.nan, nothing=None, same="x", row=range(1000, 1000 + ROWS), lists=[[1]] * ROWS
    )
    frame["uuid"] = [f"{k:08x}-{k * 7919 % 65536:04x}" for k in range(ROWS)]
    table = read_table(frame, "fraud")
    assert list(table.features.columns) == ["amount", "age", "shop"]
    assert finding_of(table, "empty").columns == ("empty", "nothing")
    assert finding_of(table, "constant").columns == ("same",)
    assert finding_of(table, "id").columns == ("row", "uuid")
    assert finding_of(table, "unusable").columns == ("lists",)
    table = read_table(frame, "fraud", keep=["row", "same"])
    assert {"row", "same"} <= set(table.features.columns)
    assert "no feature left" in refusal(frame[["empty", "same", "fraud"]], "fraud")


@pytest.mark.parametrize(
    ("name", "values", "is_id"),
    [
        ("transaction_id", np.arange(ROWS) * 7919 % 10**5, True),
        ("customerId", np.arange(ROWS) * 7919 % 10**5, True),
        # Pandas alone would read them as dates.
        ("transaction", [f"T{101_000 + k}" for k in range(ROWS)], True),
        ("paid", np.arange(ROWS) * 7919 % 10**5, False),
        ("amount", np.arange(ROWS) + 0.5, False),
        ("name", [f"John the {k}th" for k in range(ROWS)], False),
        ("day", pd.date_range("2020", periods=ROWS).astype(str), False),
        ("day", pd.date_range("2020", periods=ROWS), False),
        ("id", np.arange(ROWS) // 2 * 2, False),
    ],
)
def test_ids_are_told_from_measurements_texts_and_dates(name, values, is_id):
    frame = frame_of().drop(columns="amount").assign(**{name: values})
    table = read_table(frame, "fraud")
    assert (name not in table.features.columns) == is_id


def test_many_different_whole_numbers_are_an_id_but_no_times():
    frame = frame_of(2000).assign(
        ref=np.arange(2000) * 1009 % 10**6 * 977, at=1_700_000_000 + 3571 * np.arange(2000)
    )
    table = read_table(frame, "fraud")
    assert finding_of(table, "id").columns == ("ref",)


def test_an_id_that_rows_share_is_kept_and_the_group_is_proposed():
    frame = frame_of().assign(customer_id=np.arange(ROWS) // 4 * 37)
    table = read_table(frame, "fraud")
    assert "customer_id" in table.features.columns
    assert "group" in finding_of(table, "id_like").message


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["$12.30", "$1,234.50", "-$3"], [12.3, 1234.5, -3]),
        (["1,234", "12,345", "1"], [1234, 12345, 1]),
        (["1.234,50", "2,5", "3"], [1234.5, 2.5, 3]),
        (["0,125", "1,250", "7"], [0.125, 1.25, 7]),
        (["12 %", "7.5%", "(3.5)"], [12, 7.5, -3.5]),
        (["1 234 EUR", "12 EUR", "€5"], [1234, 12, 5]),
        (["1'234.5", "2", "\u22123"], [1234.5, 2, -3]),
        (["1e-3$", "2E5", "+4"], [1e-3, 2e5, 4]),
        (["1.234.567", "12", "1"], [1234567, 12, 1]),
        (["1234,567", "2", "3"], [1234.567, 2, 3]),
        (["1,234", "5678", "9"], [1.234, 5678, 9]),
    ],
)
def test_numbers_written_as_text_are_read(texts, numbers):
    frame = frame_of().assign(price=[texts[k % 3] for k in range(ROWS)])
    table = read_table(frame, "fraud")
    wanted = [numbers[k % 3] for k in range(ROWS)]
    np.testing.assert_allclose(table.features["price"], wanted)
    assert "price" in finding_of(table, "numbers").columns


@pytest.mark.parametrize(
    "texts",
    [["01", "02", "13"], ["1", "2", "A"], ["10.0.0.1", "10.0.0.2", "1.2.3.4"], ["1-2", "3-4", "5"]],
)
def test_codes_are_no_numbers(texts):
    frame = frame_of().assign(code=[texts[k % 3] for k in range(ROWS)])
    table = read_table(frame, "fraud")
    assert set(table.features["code"]) == set(texts)


@pytest.mark.parametrize(
    ("texts", "dates"),
    [
        (["2024-01-02 10:30:00", None], ["2024-01-02 10:30", None]),
        (["01.02.2024", "13.02.2024"], ["2024-02-01", "2024-02-13"]),
        (["2024-01-01T01:00:00+02:00", "2024-01-02T00:00:00Z"], ["2023-12-31 23:00", "2024-01-02"]),
    ],
)
def test_dates_written_as_text_are_read_and_what_folds_do_with_time_is_said(texts, dates):
    frame = frame_of().assign(at=texts * (ROWS // 2))
    table = read_table(frame, "fraud")
    wanted = pd.to_datetime(pd.Series(dates * (ROWS // 2)), format="mixed")
    assert (table.features["at"].eq(wanted) | wanted.isna()).all()
    finding = finding_of(table, "dates")
    assert finding.columns == ("at",)
    assert "mixes earlier and later rows" in finding.message


@pytest.mark.parametrize("texts", [["10:30", "11:45"], ["2024-01-02", "soon"], ["A-1", "B-2"]])
def test_texts_that_are_no_dates_stay_texts(texts):
    frame = frame_of().assign(at=texts * (ROWS // 2))
    table = read_table(frame, "fraud")
    assert set(table.features["at"]) == set(texts)
    assert not [one for one in table.findings if one.code == "dates"]


def test_a_few_broken_cells_in_a_column_of_numbers_are_missing_and_said(tmp_path):
    frame = frame_of()
    frame["amount"] = frame["amount"].astype(str)
    frame.loc[3, "amount"] = "12a"
    frame.loc[5:6, "amount"] = "?"
    table = read_table(written(tmp_path, frame), "fraud")
    assert table.features["amount"].isna().to_numpy().nonzero()[0].tolist() == [3, 5, 6]
    message = finding_of(table, "broken_numbers").message
    assert "3 cells" in message
    assert "'12a'" in message


def test_infinite_numbers_are_taken_as_missing_and_said():
    frame = frame_of()
    frame.loc[[1, 4], "amount"] = [np.inf, 1e300]
    table = read_table(frame, "fraud")
    assert table.features["amount"].isna().sum() == 2
    assert "2 numbers" in finding_of(table, "infinite").message
    x = frame[["amount", "age"]].to_numpy()
    table = read_table((x, frame["fraud"].to_numpy()))
    assert np.isnan(table.features).sum() == 2
    assert np.isinf(x).sum() == 1, "the caller's array stays as it is"


def test_columns_of_odd_types_become_plain_ones():
    from decimal import Decimal

    days = pd.date_range("2024", periods=ROWS)
    odd = {
        "nullable": pd.array([1, None] * 100, dtype="Int64"),
        "decimal": [Decimal("1.5"), None] * 100,
        "flag": [True, None] * 100,
        "date": days.date,
        "wait": days - days[0],
        "month": days.to_period("M"),
        "span": pd.cut(np.arange(ROWS), 5),
        "mixed": ["a", 1] * 100,
        "level": pd.Categorical([1.0, 2.0] * 100),
        "waits": (days - days[0]).to_pytimedelta().astype(object),
    }
    frame = frame_of().assign(**odd)
    table = read_table(frame, "fraud")
    for name in ("nullable", "decimal", "flag", "wait", "level", "waits"):
        assert pd.api.types.is_numeric_dtype(table.features[name]), name
    for name in ("date", "month"):
        assert pd.api.types.is_datetime64_any_dtype(table.features[name]), name
    assert set(table.features["mixed"]) == {"a", "1"}
    frame = frame_of().assign(odd=np.arange(ROWS) * 1j, raw=[b"x"] * ROWS)
    assert finding_of(read_table(frame, "fraud"), "unusable").columns == ("odd", "raw")


# Leaks and equal rows.


@pytest.mark.parametrize("labels", [["a", "b"], [5.5, 2.5], [True, False], ["x", None]])
def test_a_copy_of_the_target_is_left_out_loudly(labels):
    frame = frame_of().assign(copy=lambda it: [labels[k] for k in it["fraud"]])
    table = read_table(frame, "fraud")
    assert "copy" not in table.features.columns
    finding = finding_of(table, "copy")
    assert finding.message.startswith("LEAK")
    assert finding.columns == ("copy",)
    assert "copy" in read_table(frame, "fraud", keep="copy").features.columns


def test_a_column_that_nearly_predicts_the_target_is_kept_and_named():
    frame = frame_of(2000, positives=200)
    rng = np.random.default_rng(1)
    frame["score"] = frame["fraud"] + 0.1 * rng.normal(size=2000)
    frame["status"] = np.where(frame["fraud"], "closed", rng.choice(["open", "new", "kept"], 2000))
    frame["closed"] = pd.Timestamp("2024") + pd.to_timedelta(
        frame["fraud"] * 500 + rng.integers(0, 99, 2000), unit="D"
    )
    table = read_table(frame, "fraud")
    assert finding_of(table, "leak").columns == ("score", "status", "closed")
    assert {"score", "status", "closed"} <= set(table.features.columns)


def test_a_good_feature_is_no_leak():
    frame = frame_of(4000, positives=100)
    rng = np.random.default_rng(1)
    frame["good"] = 2.5 * frame["fraud"] + rng.normal(size=4000)
    frame["key"] = [f"k{k} x" for k in range(4000)]
    assert not codes_of(read_table(frame, "fraud")) & {"leak", "copy"}


def test_a_leak_of_a_rare_class_is_found_in_many_rows():
    frame = frame_of(60_000, positives=40)
    frame["score"] = frame["fraud"] + 0.1 * np.random.default_rng(1).normal(size=60_000)
    # The same recall with false alarms among many negatives is an honest feature.
    frame["honest"] = np.where(np.random.default_rng(2).random(60_000) > 0.995, 1, frame["fraud"])
    table = read_table(frame, "fraud")
    assert finding_of(table, "leak").columns == ("score",)


def test_leaks_are_found_among_very_many_columns_and_labels():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 250)).astype(np.float32), rng.integers(0, 3, 300)
    x[:, 77] = y + 0.1 * rng.random(300)
    assert finding_of(read_table((x, y)), "leak").columns == ("x77",)
    labels = (rng.random((300, 3)) < 0.3).astype(int)
    x[:, 55] = labels[:, 1] + 0.1 * rng.random(300)
    assert finding_of(read_table((x, labels)), "leak").columns == ("x55",)


def test_equal_rows_share_a_group_also_where_cells_are_missing():
    frame = frame_of()
    frame.loc[10, "amount"] = np.nan
    frame.loc[50:52] = frame.loc[[10, 10, 11]].to_numpy()
    frame = frame.infer_objects()
    table = read_table(frame, "fraud")
    assert table.groups[10] == table.groups[50] == table.groups[51]
    assert table.groups[11] == table.groups[52]
    assert len(set(table.groups)) == ROWS - 3
    assert "5 rows of 200" in finding_of(table, "duplicates").message
    assert "conflicts" not in codes_of(table)
    frame.loc[51, "fraud"] = 1 - frame.loc[51, "fraud"]
    assert "3 rows equal" in finding_of(read_table(frame, "fraud"), "conflicts").message


def test_equal_rows_are_found_behind_an_id():
    frame = frame_of()
    frame = pd.concat([frame, frame]).reset_index(names="row").assign(row=range(2 * ROWS))
    table = read_table(frame, "fraud")
    assert len(set(table.groups)) == ROWS
    assert "200 different rows" in finding_of(table, "duplicates").message


def test_equal_rows_of_an_array_share_a_group():
    x = np.array([[0.0, np.nan], [-0.0, np.nan], [1.0, 2.0], [1.0, np.nan]] * 10)
    table = read_table((x, np.arange(40) % 2), folds=2)
    assert len(set(table.groups)) == 3
    assert table.groups[0] == table.groups[1]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "Permission denied"), "cannot be read: Permission denied"),
        (MemoryError(), "does not fit into memory"),
    ],
)
def test_a_file_that_cannot_be_read_through_is_refused(tmp_path, monkeypatch, error, words):
    path = written(tmp_path, frame_of())

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(pd, "read_csv", fail)
    assert words in refusal(path, "fraud")


CELLS = st.one_of(
    st.sampled_from(
        ["", "0", "1", "yes", "no", "NaN", "inf", "-1e400", "1,5", "$2", '"', "\n", ";"]
    ),
    st.text(max_size=4),
)


@hypothesis.settings(max_examples=25)
@hypothesis.given(
    rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=14),
    delimiter=st.sampled_from(",;\t"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_any_small_file_is_read_whole_or_refused_in_a_sentence(rows, delimiter, encoding):
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter).writerows([["a", "b", "t"], *rows])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.csv"
        path.write_bytes(file.getvalue().encode(encoding, "replace"))
        try:
            table = read_table(path, "t", folds=2)
        except DataError as error:
            message = str(error)
        else:
            message = ""
    assert message.isprintable()
    if message:
        return
    assert 0 < len(table) <= len(rows)
    assert min(table.counts) >= 1
    assert np.isfinite(ToNumbers().fit_transform(table.features)).all()
