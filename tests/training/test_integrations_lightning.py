"""The Lightning callback: schedule, logs, resume from Lightning's checkpoint, two ranks."""

import csv
import math
import os
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import launch
from imbalanced_losses import LossWarmupWrapper, SmoothAPLoss, SoftmaxFocalLoss
from imbalanced_losses.metrics import average_precision

pytest.importorskip("lightning")

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    ModelCheckpoint,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.loggers import CSVLogger

from imbalanced_losses.integrations.lightning import LossScheduleCallback

CLASSES, FEATURES, ROWS, BATCH = 3, 4, 64, 16
STEPS = ROWS // BATCH

pytestmark = [
    # Lightning's own use of torch's trees, and its advice for larger machines and longer runs.
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]


class Classifier(LightningModule):
    """A linear model with the loss inside; it may be stopped before a batch, or ask for classes."""

    def __init__(self, *, stop_at: int = -1, per_class: bool = False, **schedule: object) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(FEATURES, CLASSES, dtype=torch.float64)
        main = SmoothAPLoss(CLASSES, queue_size=2 * BATCH)
        schedule = {
            "warmup_epochs": 1,
            "temp_start": 0.5,
            "temp_end": 0.005,
            "temp_decay_steps": 8,
        } | schedule
        self.loss_fn = LossWarmupWrapper(SoftmaxFocalLoss(), main, **schedule)
        self.stop_at, self.per_class = stop_at, per_class
        self.seen: list[tuple[float, ...]] = []

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        if len(self.seen) == self.stop_at:
            raise SystemError("stopped")
        x, y = batch
        returned = self.loss_fn(self.layer(x), y, return_per_class=self.per_class)
        loss = returned[0] if self.per_class else returned
        temperature = self.loss_fn.current_temperature or 0.0
        self.seen.append((loss.item(), self.loss_fn.main_weight, temperature))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.1)


class Batches(DataLoader):
    """A loader that resumes within an epoch, as torchdata's does."""

    start = position = 0

    def __iter__(self):
        start, self.start = self.start, 0
        for index, batch in enumerate(super().__iter__()):
            if index >= start:
                self.position = (index + 1) % len(self)
                yield batch

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.start = state["position"]


def data(rows: slice = slice(BATCH)) -> DataLoader:
    """These rows of every batch."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, FEATURES, dtype=torch.float64, generator=generator)
    y = torch.multinomial(torch.tensor([8.0, 3, 1]), ROWS, replacement=True, generator=generator)
    x += nn.functional.one_hot(y, FEATURES)
    x, y = (t.unflatten(0, (STEPS, BATCH))[:, rows].flatten(0, 1) for t in (x, y))
    return Batches(TensorDataset(x, y), len(y) // STEPS)


def trainer(
    folder: Path, *callbacks: Callback, loss: str = "loss_fn", epochs: int = 3, **settings: object
) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    settings = quiet | {"enable_checkpointing": False, "devices": 1} | settings
    return Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        default_root_dir=folder,
        callbacks=[LossScheduleCallback(loss), *callbacks],
        **settings,
    )


def logged(folder: Path) -> list[dict[str, float]]:
    (file,) = folder.rglob("metrics.csv")
    with file.open() as lines:
        return [
            {key: float(value) for key, value in row.items() if value}
            for row in csv.DictReader(lines)
        ]


def test_the_schedule_is_driven_and_logged(tmp_path: Path) -> None:
    model = Classifier(per_class=True, blend_epochs=1)
    settings = {"logger": CSVLogger(tmp_path), "log_every_n_steps": 1}
    trainer(tmp_path, **settings).fit(model, data())
    rows = logged(tmp_path)
    assert [row["loss_schedule/phase"] for row in rows] == [0.0] * 4 + [1.0] * 4 + [2.0] * 4
    assert [row["loss_schedule/main_weight"] for row in rows] == [0.0] * 4 + [0.5] * 4 + [1.0] * 4
    assert all("loss_schedule/temperature" not in row for row in rows[:STEPS])
    expected = [0.5 * 0.01 ** (step / 8) for step in range(8)]
    assert [row["loss_schedule/temperature"] for row in rows[4:]] == pytest.approx(expected)
    # The queue holds the last two of the four batches, and is empty until the switch.
    y = data().dataset.tensors[1]
    for c in range(CLASSES):
        positives = [row[f"loss_schedule/class_{c}/positives"] for row in rows]
        assert positives[:5] == [0.0] * 4 + [(y[:BATCH] == c).sum()]
        assert positives[-1] == (y[-2 * BATCH :] == c).sum()
        losses = [row[f"loss_schedule/class_{c}/loss"] for row in rows]
        assert all(map(math.isnan, losses[:4]))
    per_class = [rows[-1][f"loss_schedule/class_{c}/loss"] for c in range(CLASSES)]
    assert sum(per_class) / CLASSES == pytest.approx(model.seen[-1][0])


def test_what_validation_asks_for_is_not_logged_as_training(tmp_path: Path) -> None:
    class Validated(Classifier):
        def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
            self.loss_fn(self.layer(batch[0]), batch[1], return_per_class=True)

    settings = {"logger": CSVLogger(tmp_path), "log_every_n_steps": 1, "val_check_interval": 2}
    trainer(tmp_path, **settings).fit(Validated(), data(), data())
    rows = logged(tmp_path)
    assert all("loss_schedule/class_0/positives" in row for row in rows)
    assert not any("loss_schedule/class_0/loss" in row for row in rows)


def test_a_loss_that_is_watched_across_a_switch_is_said_once(tmp_path: Path) -> None:
    class Watched(Classifier):
        def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
            logits = self.layer(batch[0])
            self.log("val/loss", self.loss_fn(logits, batch[1]))
            self.log("val/ap", average_precision(logits, batch[1]).mean())

    def fit(model: LightningModule, metric: str) -> Trainer:
        watchers = (ModelCheckpoint(tmp_path / metric, monitor=metric), EarlyStopping(metric))
        run = trainer(
            tmp_path, *watchers, epochs=1, enable_checkpointing=True, num_sanity_val_steps=0
        )
        run.fit(model, data(), data())
        return run

    with pytest.warns(UserWarning, match="watches 'val/loss'") as said:
        run = fit(Watched(), "val/loss")
    (message,) = (str(each.message) for each in said if "watches" in str(each.message))
    for words in ("ModelCheckpoint", "EarlyStopping", "average_precision", 'mode="max"'):
        assert words in message
    run.fit_loop.max_epochs = 2
    run.fit(Watched(), data(), data())  # warnings are errors here
    fit(Watched(), "val/ap")
    fit(Watched(warmup_epochs=0), "val/loss")
    with pytest.warns(UserWarning, match="watches 'val/loss'"):
        fit(Watched(warmup_epochs=0, blend_epochs=1), "val/loss")


def test_a_step_is_an_optimizer_step(tmp_path: Path) -> None:
    model = Classifier(warmup_epochs=0, warmup_steps=1, blend_steps=2)
    trainer(tmp_path, epochs=2, accumulate_grad_batches=2).fit(model, data())
    _, weights, temperatures = zip(*model.seen, strict=True)
    assert weights == pytest.approx([0, 0, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 1, 1])
    assert (
        temperatures[2::2]
        == temperatures[3::2]
        == pytest.approx([0.5 * 0.01 ** (step / 8) for step in range(3)])
    )


@pytest.mark.parametrize("stop_at", [3, 6, 8], ids=["warm-up", "within an epoch", "epoch end"])
@pytest.mark.parametrize(
    "schedule",
    [{"blend_epochs": 1}, {"warmup_epochs": 0, "warmup_steps": 3, "reset_queue_each_epoch": True}],
    ids=["epochs", "steps"],
)
def test_a_resumed_run_equals_one_that_never_stopped(
    tmp_path: Path, stop_at: int, schedule: dict
) -> None:
    whole = Classifier(**schedule)
    trainer(tmp_path).fit(whole, data())

    def saving() -> Trainer:
        checkpoint = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_last=True)
        return trainer(tmp_path, checkpoint, enable_checkpointing=True)

    first = Classifier(stop_at=stop_at, **schedule)
    with pytest.raises(SystemError, match="stopped"):
        saving().fit(first, data())
    second = Classifier(**schedule)
    saving().fit(second, data(), ckpt_path=tmp_path / "last.ckpt", weights_only=True)

    assert first.seen + second.seen == whole.seen
    torch.testing.assert_close(second.state_dict(), whole.state_dict(), rtol=0, atol=0)
    assert not first.loss_fn._forward_hooks


@pytest.mark.slow
def test_two_ranks_train_what_one_process_trains(tmp_path: Path) -> None:
    model = Classifier()
    trainer(tmp_path).fit(model, data())
    # A script of its own: "ddp" starts the other rank by running the script again.
    launch.python(__file__, tmp_path)
    for rank in range(2):
        seen, state = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(seen, torch.tensor(model.seen), rtol=1e-12, atol=0)
        for name, value in model.layer.state_dict().items():
            torch.testing.assert_close(state[name], value, rtol=1e-10, atol=0)


def train_rank(folder: Path) -> None:
    """One of two ranks on 11 and 5 rows of every batch."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    model = Classifier()
    run = trainer(folder, devices=2, strategy="ddp", use_distributed_sampler=False)
    run.fit(model, data((slice(11), slice(11, BATCH))[run.global_rank]))
    seen = torch.tensor(model.seen)
    torch.save((seen, model.layer.state_dict()), folder / f"{run.global_rank}.pt")
    torch.distributed.barrier()  # the first rank is the script: it waits for the other's file


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("missing", AttributeError, "missing"),
        ("layer", TypeError, "must name a LossWarmupWrapper; 'layer' is a Linear"),
    ],
)
def test_a_wrong_name_fails_before_training(
    tmp_path: Path, name: str, error: type, message: str
) -> None:
    model = Classifier()
    with pytest.raises(error, match=message):
        trainer(tmp_path, loss=name).fit(model, data())
    assert model.seen == []


def test_a_module_is_no_name() -> None:
    with pytest.raises(TypeError, match="name of a submodule"):
        LossScheduleCallback(Classifier().loss_fn)


if __name__ == "__main__":
    train_rank(Path(sys.argv[1]))
    os._exit(0)  # gloo's threads outlive their group, and may abort a process that tidies up


@pytest.mark.filterwarnings("ignore:Swapping scheduler")
@pytest.mark.parametrize("averaging", ["mean", "exponential", "swa"])
def test_weight_averaging_leaves_the_queue_alone(tmp_path: Path, averaging: str) -> None:
    class Validated(Classifier):
        """Validates in the middle of training, where Lightning swaps the averaged model in."""

        def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
            self.loss_fn(self.layer(batch[0]), batch[1])

    plain, averaged = Validated(), Validated()
    settings = {"num_sanity_val_steps": 0, "epochs": 3}
    trainer(tmp_path, **settings).fit(plain, data(), data())
    callback = {
        "mean": WeightAveraging,
        "exponential": lambda: EMAWeightAveraging(decay=0.5),
        # From the last epoch on, so that the steps before it are those of a plain run.
        "swa": lambda: StochasticWeightAveraging(swa_lrs=0.1, swa_epoch_start=2),
    }[averaging]()
    trainer(tmp_path, callback, **settings).fit(averaged, data(), data())

    # The run is the same step by step, and the loss ends in the state of a plain run, bit for bit.
    assert averaged.seen == plain.seen
    torch.testing.assert_close(
        averaged.loss_fn.state_dict(), plain.loss_fn.state_dict(), rtol=0, atol=0
    )
    assert (averaged.loss_fn.main_loss.queue.label == 1).sum() == 2 * BATCH
    # Only the parameters are averages.
    assert not torch.equal(averaged.layer.weight, plain.layer.weight)


def test_a_run_with_averaged_weights_resumes_with_its_queue(tmp_path: Path) -> None:
    def run(*callbacks: object) -> object:
        saving = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_last=True)
        return trainer(tmp_path, WeightAveraging(), saving, *callbacks, enable_checkpointing=True)

    whole = Classifier()
    trainer(tmp_path, WeightAveraging()).fit(whole, data())
    first = Classifier(stop_at=6)
    with pytest.raises(SystemError, match="stopped"):
        run().fit(first, data())
    second = Classifier()
    run().fit(second, data(), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert first.seen + second.seen == whole.seen
    torch.testing.assert_close(second.state_dict(), whole.state_dict(), rtol=0, atol=0)
