"""The command line: what reaches the library, and how it ends when it cannot go on."""

import json
import runpy
import sys
import tempfile
from inspect import signature
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from torch import nn
from typer.testing import CliRunner

import imbalanced_losses
import imbalanced_losses.compare as room
import launch
from imbalanced_losses import _cli as cli
from imbalanced_losses._errors import DataError, WorkerError
from imbalanced_losses.compare import _compare
from imbalanced_losses.compare._compare import compare as library_compare
from imbalanced_losses.compare._model import check_factory, load_factory
from imbalanced_losses.compare._reading.read import read_table

ROWS = 120


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "amount": rng.normal(size=ROWS),
            "user": np.arange(ROWS) % 40,
            "fraud": (np.arange(ROWS) % 12 == 0).astype(int),
        }
    )
    path = tmp_path / "data.csv"
    frame.to_csv(path, index=False)
    return str(path)


def ran(*words):
    return CliRunner().invoke(cli.app, list(map(str, words)), env={"COLUMNS": "160"})


@pytest.fixture
def calls(monkeypatch):
    """The calls of `compare`, which answers at once."""
    made = []

    def answer(*args, **kwargs):
        made.append((args, kwargs))
        return SimpleNamespace(sentence="no clear difference")

    monkeypatch.setattr(room, "compare", answer)
    return made


@pytest.fixture
def reads(monkeypatch):
    """What `compare` begins to read."""
    made = []
    monkeypatch.setattr(_compare, "read_table", lambda *data, **options: made.append(data))
    return made


def test_every_option_reaches_the_library_under_its_own_name(data, calls, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_net.py").write_text("def build(inputs, outputs): ...\n")
    options = {
        "--target": "fraud",
        "--positive": "1",
        "--goal": "recall_at_budget",
        "--budget": "0.05",
        "--model": "own_net:build",
        "--hidden": "64, 32",
        "--recipes": "focal, ensemble",
        "--folds": "3",
        "--repeats": "2",
        "--seed": "7",
        "--jobs": "2",
        "--out": str(tmp_path / "out"),
        "--drop": "user",
        "--keep": "amount",
        "--group": "user",
        "--wish": "recall=0.9",
        "--device": "cpu",
        "--precision": "bf16-mixed",
        "--strategy": "ddp",
        "--level": "0.9",
    }
    words = [word for pair in options.items() for word in pair]
    ended = ran("compare", data, *words, "--no-resume", "--quiet")
    assert ended.exit_code == 0, ended.output
    assert ended.output == "no clear difference\n"
    ((args, kwargs),) = calls
    assert args == (data, ["fraud"])
    assert kwargs == {
        "positive": "1",
        "goal": "recall_at_budget",
        "budget": 0.05,
        "model": "own_net:build",
        "hidden": (64, 32),
        "recipes": ["focal", "ensemble"],
        "folds": 3,
        "repeats": 2,
        "seed": 7,
        "jobs": 2,
        "out": tmp_path / "out",
        "drop": ["user"],
        "keep": ["amount"],
        "group": "user",
        "wish": {"recall": 0.9},
        "device": "cpu",
        "precision": "bf16-mixed",
        "strategy": "ddp",
        "level": 0.9,
        "resume": False,
        "quiet": True,
    }


def test_the_options_of_the_command_are_arguments_of_the_library(data, calls, tmp_path):
    ran("compare", data, "--target", "fraud", "--target", "user", "--out", tmp_path / "out")
    ((args, kwargs),) = calls
    assert set(kwargs) <= set(signature(library_compare).parameters)
    assert args[1] == ["fraud", "user"]
    assert kwargs["hidden"] == (128, 128)
    assert kwargs["recipes"] is None
    assert kwargs["resume"] is True


def test_a_linear_model_has_no_hidden_layers(data, calls, tmp_path):
    ran("compare", data, "--target", "fraud", "--hidden", "", "--out", tmp_path / "out")
    assert calls[0][1]["hidden"] == ()


def test_without_quiet_the_library_prints_and_the_command_adds_nothing(data, calls, tmp_path):
    ended = ran("compare", data, "--target", "fraud", "--recipes", "all", "--out", tmp_path / "out")
    assert ended.output == ""
    assert calls[0][1]["recipes"] == "all"
    assert calls[0][1]["quiet"] is False


@pytest.mark.parametrize("wish", ["recall", "recall=", "recall=much"])
def test_a_wish_without_a_number_is_refused(data, calls, tmp_path, wish):
    ended = ran("compare", data, "--wish", wish, "--out", tmp_path / "out")
    assert ended.exit_code == 2
    assert "wish must be a name and a number" in ended.stderr
    assert not calls


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--target", "frau"], "Did you mean 'fraud'"),
        (["--target", "[bold]x[/bold]"], "no column '[bold]x[/bold]'"),
        (["--target", "\x1b[2J"], "no column '\\x1b[2J'"),
        ([], "must be named"),
        (["--target", "fraud", "--folds", "1"], "folds must be at least 2"),
        (["--target", "fraud", "--folds", "30"], "Use at most 10 folds"),
        (["--target", "fraud", "--drop", "amount", "--drop", "user"], "no feature left"),
        (["--target", "fraud", "--budget", "2"], "budget must be"),
        (["--target", "fraud", "--test", "none.csv"], "'none.csv' is not there"),
    ],
)
def test_what_the_user_can_mend_ends_with_a_sentence_and_exit_code_2(data, options, words):
    ended = ran("inspect", data, *options)
    assert ended.exit_code == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("imbalanced-losses: ")
    assert words in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "Traceback" not in ended.stderr


def test_an_unknown_option_or_command_ends_with_exit_code_2(data):
    for words in (["inspect", data, "--tarket", "x"], ["[red]do[/red]"], ["compare"]):
        ended = ran(*words)
        assert ended.exit_code == 2
        assert "Traceback" not in ended.output


def test_what_goes_wrong_inside_of_a_comparison_leaves_nothing_behind(data, monkeypatch, tmp_path):
    def fail(*args, **kwargs):
        raise DataError("A sentence\nabout data.")

    monkeypatch.setattr(room, "compare", fail)
    ended = ran("compare", data, "--target", "fraud", "--out", tmp_path / "a" / "out")
    assert ended.exit_code == 2
    assert ended.stderr == "imbalanced-losses: A sentence\\nabout data.\n"
    assert not (tmp_path / "a").exists()


def test_data_that_cannot_be_compared_leave_no_folder(data, tmp_path):
    ended = ran("compare", data, "--target", "nothing", "--out", tmp_path / "a" / "out")
    assert ended.exit_code == 2
    assert "nothing" in ended.stderr
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("told", ["", "Stopped: 3 of 6 trainings are done."])
def test_ctrl_c_ends_with_130_and_what_the_library_says_of_it(data, monkeypatch, told):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt(told)

    monkeypatch.setattr(room, "inspect", stop)
    ended = ran("inspect", data, "--target", "fraud")
    assert ended.exit_code == 130
    assert ended.stderr == f"\n{told or 'Stopped.'}\n"


def test_a_killed_worker_ends_with_a_sentence_and_exit_code_1(data, monkeypatch, tmp_path):
    def fail(*args, **kwargs):
        raise WorkerError("A worker process was killed.")

    monkeypatch.setattr(room, "compare", fail)
    ended = ran("compare", data, "--target", "fraud", "--out", tmp_path)
    assert ended.exit_code == 1
    assert ended.stderr == "imbalanced-losses: A worker process was killed.\n"


def test_ctrl_c_in_the_middle_of_reading_ends_the_same(data, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(pd, "read_csv", stop)
    assert ran("inspect", data, "--target", "fraud").exit_code == 130


def test_a_fault_of_our_own_is_not_hidden(data, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("a bug")

    monkeypatch.setattr(room, "inspect", fail)
    assert isinstance(ran("inspect", data, "--target", "fraud").exception, RuntimeError)


def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_read(
    reads, tmp_path, monkeypatch
):
    file = tmp_path / "file"
    file.write_text("mine")
    for out in (file, file / "below"):
        ended = ran("compare", "none.csv", "--out", out)
        assert ended.exit_code == 2
        assert "out must be a folder" in ended.stderr
    assert file.read_text() == "mine"

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    ended = ran("compare", "none.csv", "--out", tmp_path)
    assert "nothing can be written" in ended.stderr
    assert "Permission denied" in ended.stderr
    assert not reads


def test_a_folder_with_files_of_others_is_left_as_it_is(data, calls, tmp_path):
    (tmp_path / "theirs.txt").write_text("theirs")
    before = sorted(tmp_path.iterdir())
    assert ran("compare", data, "--target", "fraud", "--out", tmp_path).exit_code == 0
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "theirs.txt").read_text() == "theirs"


@pytest.mark.parametrize("hidden", ["a", "1,-2", "0", "1.5"])
def test_widths_that_are_none_are_refused(data, calls, tmp_path, hidden):
    ended = ran("compare", data, f"--hidden={hidden}", "--out", tmp_path / "out")
    assert ended.exit_code == 2
    assert "hidden must be widths" in ended.stderr
    assert not calls


def test_inspect_prints_tables_or_json(data):
    text = ran("inspect", data, "--target", "fraud", "--group", "user").output
    assert "Classes, the rarest first" in text
    ended = ran("inspect", data, "--target", "fraud", "--json", "--test", data)
    found = json.loads(ended.stdout)
    assert found["rows"] == found["test"]["shared"] == ROWS
    assert found["classes"][1]["rows"] == 10


# Own networks.


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("own", "of the form package:factory"),
        ("own:", "of the form package:factory"),
        ("no_such_package:net", "ModuleNotFoundError"),
        ("broken_net:net", "ZeroDivisionError"),
        ("plain_net:other", "has no 'other'"),
        ("plain_net:NUMBER", "got int"),
    ],
)
def test_a_model_that_cannot_be_found_is_refused_in_a_sentence(
    data, reads, tmp_path, monkeypatch, name, words
):
    monkeypatch.chdir(tmp_path)
    Path("broken_net.py").write_text("1 / 0\n")
    Path("plain_net.py").write_text("NUMBER = 3\n")
    ended = ran("compare", data, "--model", name, "--out", "out")
    assert ended.exit_code == 2
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not reads


def test_a_factory_behind_dots_is_found():
    assert load_factory("torch:nn.Linear").__name__ == "Linear"


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        (
            lambda inputs, outputs: nn.Linear(inputs, 5),
            r"shape \[rows, 1\] for 32 rows; got \[32, 5\]",
        ),
        (
            lambda inputs, outputs: nn.Linear(7, outputs),
            r"rows of shape \[32, 2\]; it fails with Ru",
        ),
        (lambda inputs: nn.Linear(inputs, 2), "cannot be built for 2 inputs and 1 outputs: TypeE"),
        (lambda inputs, outputs: 4, "torch.nn.Module; got int"),
        (lambda inputs, outputs: nn.LSTM(inputs, outputs), "got tuple"),
    ],
)
def test_a_network_of_the_wrong_shape_is_refused_in_a_sentence(data, factory, words):
    table = read_table(data, "fraud")
    check_factory(nn.Linear, table)
    with pytest.raises(DataError, match=words):
        check_factory(factory, table)


# The command as it is installed.


def main_ended(monkeypatch, *words):
    """The exit code of `python -m imbalanced_losses`, in this process."""
    monkeypatch.setattr(sys, "argv", ["imbalanced-losses", *words])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("imbalanced_losses", run_name="__main__")
    return caught.value.code


@pytest.mark.parametrize("name", ["typer", "pandas"])
def test_a_missing_extra_ends_with_a_sentence_that_names_it(name, monkeypatch, capsys):
    # What is imported anew must not stay behind for other tests.
    monkeypatch.setattr(imbalanced_losses, "compare", room)
    monkeypatch.setattr(imbalanced_losses, "_cli", cli)
    for module in list(sys.modules):
        if module.startswith(("imbalanced_losses.compare", "imbalanced_losses._cli")):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    assert main_ended(monkeypatch, "inspect", "data.csv") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert name in err
    assert 'pip install ".[compare]"' in err


@pytest.mark.parametrize("late", ["_cli", "compare"])
def test_ctrl_c_while_the_library_is_imported_ends_with_130(monkeypatch, late):
    class Stopped:
        def find_spec(self, name, *_):
            if name == f"imbalanced_losses.{late}":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, f"imbalanced_losses.{late}")
    monkeypatch.delattr(imbalanced_losses, late)
    monkeypatch.setattr(sys, "meta_path", [Stopped(), *sys.meta_path])
    assert main_ended(monkeypatch, "inspect", "data.csv") == 130


COSTLY = "joblib", "pandas", "scipy", "sklearn", "skrub", "matplotlib"


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_import_nothing_that_only_a_comparison_needs(option):
    script = f"""
import sys
from imbalanced_losses.__main__ import main
sys.argv[1:] = [{option!r}]
try:
    main()
except SystemExit as ended:
    print(ended.code, sorted({set(COSTLY)!r} & set(sys.modules)))
"""
    told = launch.python("-c", script).stdout
    assert told.endswith("\n0 []\n")
    assert imbalanced_losses.__version__ in told or "inspect" in told


def test_the_command_is_declared_and_runs_as_a_module_too(data, monkeypatch, capsys):
    project = Path(__file__).parents[2] / "pyproject.toml"
    assert 'imbalanced-losses = "imbalanced_losses.__main__:main"' in project.read_text()
    assert main_ended(monkeypatch, "inspect", data, "--target", "nothing") == 2
    err = capsys.readouterr().err
    assert err.startswith("imbalanced-losses: There is no column 'nothing'")
