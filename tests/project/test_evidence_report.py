"""What `report` writes of rows whose answer is known, and how models from outside get rows."""

import json
import re
import subprocess
from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import nn

from benchmarks.evidence import __main__ as command
from benchmarks.evidence import boosting, outside, peer_training, peers, pictures, run, tables
from benchmarks.evidence.chunks import restore
from benchmarks.evidence.sets import Fold, Task
from benchmarks.evidence.statistics import ADJUSTED, over_sets, ranks
from benchmarks.evidence.study import Study
from evidence_rows import made_up

pytestmark = pytest.mark.no_cover

GOALS = ("average_precision", "balanced_accuracy")


def a_task(rows: int = 240, name: str = "made-up") -> Task:
    """Two clouds, one of an eleventh of the rows."""
    generator = np.random.default_rng(0)
    y = (np.arange(rows) % 11 == 0).astype(np.int64)
    x = generator.normal(size=(rows, 3)) + y[:, None]
    return Task(name, "data", "binary", x.astype(np.float32), y, np.arange(rows))


def a_fold(rows: int = 240) -> Fold:
    """Half to fit, a quarter each to validate and to test."""
    place = np.arange(rows)
    return Fold(place[: rows // 2], place[rows // 2 : 3 * rows // 4], place[3 * rows // 4 :])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report on three arms, boosting and a peer."""
    folder = tmp_path_factory.mktemp("evidence")
    gains = {
        "good": 0.03,
        "nothing": 0.0,
        "bad": -0.03,
        "class_weights": 0.02,
        "cross_entropy": -0.01,
    }
    frame = made_up({**gains, "libauc_ap": -0.02}, models=("linear", "mlp32"), goals=GOALS)
    frame["balanced_accuracy_adjusted"] = frame["balanced_accuracy"] + 0.1
    is_peer = frame["arm"] == "libauc_ap"
    boosted = frame[(frame["arm"] == "bad") & (frame["model"] == "linear")]
    frame[~is_peer].to_csv(folder / run.FILE, index=False)
    frame[is_peer].to_csv(folder / peers.FILE, index=False)
    boosted.assign(model="boosting", arm="boosting").to_csv(folder / boosting.FILE, index=False)
    assert command.main(["report", "--output", str(folder)]) == 0
    return folder


def test_the_page_opens_with_what_to_use_for_each_goal(written: Path) -> None:
    opening, *sections = (written / "EVIDENCE.md").read_text().split("\n## ")
    assert len(opening.splitlines()) <= 15
    line = next(line for line in opening.splitlines() if line.startswith("- **Average precision"))
    assert re.search(r"Linear: `good` \+0\.03\d\d \[\+0\.0\d+, \+0\.0\d+\], 12 won, 0 lost", line)
    assert re.search(
        r"Begin with `prior_bias`.*linear \+0\.0[01]\d\d \[\+0\.0.*, 24 won, 0 lost; 32 units \+0",
        opening,
    )
    assert f"`{ADJUSTED}`" in next(
        x for x in opening.splitlines() if "Balanced accuracy of the" in x
    )
    assert [section.splitlines()[0] for section in sections] == [
        "What was chosen, and whether it holds",
        "Every arm",
        "Change the loss or the decision?",
        "What did not help",
        "Other libraries",
        "Gradient boosting, the view from outside",
        "The sets that do not count",
        "How it was run",
        "What it cannot show",
    ]


def test_the_page_says_what_lost_and_how_others_did(written: Path) -> None:
    text = (written / "EVIDENCE.md").read_text()
    lost = text.split("## What did not help")[1].split("\n## ")[0]
    assert re.search(r"\| `bad` \| \*\*-0\.0[23]\d\d \[", lost)
    assert "| `nothing` |" in lost
    assert "| `good` |" not in lost
    assert re.search(
        r"\| average precision \| linear \| `libauc_ap` \| 24 \| -0\.0[12]\d\d \[", text
    )
    # Boosting had the figures of the arm that lost .03.
    assert re.search(r"\| average precision \| linear \| `good` \| 24 \|.*\| \+0\.06\d\d \[", text)
    assert "24 binary sets count (25 positives or more, fewer than 10 %), of 8 families; 8" in text
    assert "- **Chosen on** the families abalone, ecoli, kddcup, segment." in text


def test_the_page_sets_class_weights_beside_the_adjusted_decision(written: Path) -> None:
    section = (written / "EVIDENCE.md").read_text().split("## Change the loss")[1].split("\n## ")[0]
    row = next(line for line in section.splitlines() if line.startswith("| linear | all | 24 |"))
    adjusted, weights, difference = (float(cell.split("[")[0]) for cell in row.split("|")[4:7])
    assert (adjusted, weights) == (pytest.approx(0.1), pytest.approx(0.02, abs=0.003))
    assert difference == pytest.approx(adjusted - weights, abs=2e-4)
    assert "| 24-0-0 |" in row


def test_every_picture_of_the_page_is_there_and_is_drawn_alike_again(
    written: Path, tmp_path: Path
) -> None:
    shown = re.findall(r"!\[.*?\]\((.*?)\)", (written / "EVIDENCE.md").read_text())
    assert sorted(shown) == sorted(f"pictures/{path.name}" for path in written.glob("pictures/*"))
    frame = made_up({"good": 0.03, "bad": -0.03}, goals=("log_loss",))
    table = {"linear": over_sets(Study(frame).counted("log_loss", ("linear",)))}
    drawn = [pictures.draw_gains(tmp_path / name, "log-loss", table) for name in ("a.svg", "b.svg")]
    first, second = (path.read_text() for path in drawn)
    assert first == second
    assert ">good<" in first, "text stays text"


def test_the_advice_can_be_read_by_a_machine(written: Path) -> None:
    advised = json.loads((written / "advice.json").read_text())
    assert set(advised) == {*GOALS, "balanced_accuracy_adjusted"}
    entry = advised["average_precision"]["flexible"]
    assert (entry["recipe"], entry["clears"], entry["use"]) == ("good", True, "good")
    assert 0.02 < entry["report"]["low"] < entry["report"]["mean"] < entry["report"]["high"] < 0.04
    assert advised["balanced_accuracy"]["linear"]["use"] == ADJUSTED
    figures = pd.read_csv(written / "figures.csv")
    own = figures.query("goal == 'average_precision' and arm == 'good' and models == 'flexible'")
    assert own.set_index("half").loc["report", "mean"] == pytest.approx(
        entry["report"]["mean"], rel=1e-3
    )


def test_gains_are_blue_and_losses_red_and_the_rest_is_grey(tmp_path: Path) -> None:
    for gain, colour in ((0.03, pictures.GAIN), (-0.03, pictures.LOSS), (0.0, pictures.REST)):
        frame = made_up({"arm": gain}, seed=3)
        table = {"linear": over_sets(Study(frame).counted("log_loss", ("linear",)))}
        text = pictures.draw_gains(tmp_path / "gains.svg", "log-loss", table).read_text()
        others = {pictures.GAIN, pictures.LOSS, pictures.REST} - {colour}
        assert colour in text
        assert not any(other in text for other in others)


def test_what_lies_beyond_the_axis_is_an_arrow_with_its_figure(tmp_path: Path) -> None:
    frame = made_up({f"arm_{n}": 0.001 for n in range(8)} | {"awful": -0.4})
    table = {"linear": over_sets(Study(frame).counted("log_loss", ("linear",)))}
    text = pictures.draw_gains(tmp_path / "gains.svg", "log-loss", table).read_text()
    assert "-0.400" in text


def test_ranks_name_the_critical_difference_and_the_reference(tmp_path: Path) -> None:
    frame = made_up({"good": 0.05, "bad": -0.05})
    ranked = {"linear": ranks(Study(frame).counted("log_loss", ("linear",)))}
    text = pictures.draw_ranks(tmp_path / "ranks.svg", "log-loss", ranked).read_text()
    assert "mean rank over 24 sets, critical difference 0.7, Friedman p = 4e-11" in text
    assert "prior_bias  2.0" in text


def test_validation_rows_choose_and_test_rows_judge() -> None:
    task, part = a_task(), a_fold()
    judged = np.concatenate([part.validation, part.test])
    y = task.y[judged]
    generator = np.random.default_rng(1)
    noise = generator.normal(size=len(y)).astype(np.float32)
    split = len(part.validation)
    # The first candidate ranks validation rows perfectly, the second test rows.
    first = np.where(np.arange(len(y)) < split, y - 0.5, noise).astype(np.float32)
    second = np.where(np.arange(len(y)) < split, noise, y - 0.5).astype(np.float32)
    found = outside.judge(task, part, np.stack([second, first])[..., None], [0.1, 0.7])
    assert found["lr"] == 0.7
    expected = average_precision_score(y[split:], noise[split:])
    assert found["average_precision"] == pytest.approx(expected, abs=1e-6)


def test_boosting_offers_all_its_rates_sizes_and_stages() -> None:
    task, part = a_task(), a_fold()
    logits, rates = boosting.fit(task, task.X, part)
    candidates = len(boosting.RATES) * len(boosting.LEAVES) * len(boosting.STAGES)
    assert logits.shape == (candidates, 120, 1)
    assert len(rates) == candidates
    found = outside.judge(task, part, logits, rates)
    assert found["average_precision"] > 0.3 > task.y.mean()


def test_an_interrupted_run_goes_on_with_the_sets_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = [a_task(name="one"), a_task(name="two"), a_task(name="other")]
    monkeypatch.setattr(outside, "tasks", lambda keel, data: every)
    options = Namespace(keel=None, data=None, only="", minutes=1.0)
    asked: list[str] = []

    def work(task: Task) -> pd.DataFrame:
        asked.append(task.name)
        return pd.DataFrame({"set": [task.name]})

    def go_on(minutes: float = 1.0) -> None:
        options.minutes = minutes
        list(outside.in_turn(options, tmp_path, work, lambda task: task.name != "other"))

    go_on(minutes=-1.0)
    assert asked == []
    go_on()
    (tmp_path / "one.csv").unlink()
    go_on()
    assert asked == ["one", "two", "one"]
    outside.merge(tmp_path, tmp_path / "out" / "all.csv")
    assert pd.read_csv(tmp_path / "out" / "all.csv")["set"].tolist() == ["one", "two"]
    for path in tmp_path.glob("*.csv"):
        path.unlink()
    restore(tmp_path / "out" / "all.csv", tmp_path, ["set"])
    go_on()
    assert asked == ["one", "two", "one"], "a clone has the results alone"


def test_rows_say_what_the_networks_rows_say() -> None:
    def fit(task: Task, x: np.ndarray, part: Fold) -> tuple[np.ndarray, list[float]]:
        rows = np.concatenate([part.validation, part.test])
        return x[rows, :1][None], [0.5]

    rows = outside.rows_of(a_task(), "boosting", "boosting", fit)
    assert rows["fold"].tolist() == [0, 1, 2, 3, 4]
    wanted = {"set", "source", "half", "counts", "kind", "rows", "positives", "model", "arm", "lr"}
    assert wanted | {"repeat", "average_precision", "balanced_accuracy_adjusted"} <= set(rows)


def test_peers_are_trained_on_one_set_of_each_family() -> None:
    every = [a_task(500, "yeast-1"), a_task(600, "yeast-2"), a_task(300, "car-1")]
    every.append(a_task(7000, "wilt"))
    found = [task.name for task in every if peer_training.is_trained(task, every)]
    assert found == ["yeast-2", "car-1"]


def test_a_peers_networks_are_kept_at_every_checkpoint_of_every_rate() -> None:
    seen = []

    def make(net: nn.Module, y: torch.Tensor, rate: float, steps: int):  # type: ignore[no-untyped-def]
        optimizer = torch.optim.SGD(net.parameters(), lr=rate)

        def step(
            number: int, outputs: torch.Tensor, targets: torch.Tensor, rows: torch.Tensor
        ) -> None:
            seen.append((rate, number, outputs.shape, targets.dtype))
            peer_training._descend(optimizer, (outputs - targets).square().mean())

        return iter([torch.arange(16)] * steps), step

    model = run.Model((4,), (0.1,), (20, 20))
    logits, rates = peer_training.fit(make, (0.1, 0.2), model, a_task(), a_task().X, a_fold())
    marks = len({max(1, round(share * 20)) for share in run.CHECKPOINTS})
    assert logits.shape == (2 * marks, 120, 1)
    assert rates == [0.1] * marks + [0.2] * marks
    assert seen[:: len(seen) - 1] == [
        (rate, number, (16,), torch.float32) for rate, number in ((0.1, 0), (0.2, 19))
    ]


def test_peers_that_cannot_be_installed_are_said_and_end_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []

    def call(arguments: list[str], **_: object) -> Namespace:
        asked.append(arguments)
        return Namespace(returncode=1)

    monkeypatch.setattr(peers, "FOLDER", tmp_path / "peers")
    monkeypatch.setattr(subprocess, "run", call)
    assert peers.main(Namespace()) == 1
    assert "could not be installed" in capsys.readouterr().err
    assert "--no-deps" in asked[0]
    assert "libauc==2.0.1" in asked[0]


def test_a_report_is_made_without_boosting_and_peers(tmp_path: Path) -> None:
    frame = made_up({"bad": -0.03}, goals=("log_loss",))
    frame.to_csv(tmp_path / run.FILE, index=False)
    tables.main(Namespace(output=tmp_path))
    text = (tmp_path / "EVIDENCE.md").read_text()
    assert "- **Log-loss.** Linear: `prior_bias`." in text
    assert "Gradient boosting" not in text
    assert "LibAUC's losses are not among these results" in text
