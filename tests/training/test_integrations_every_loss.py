"""Every public loss trains in both trainers, two steps each."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cases import CASES
from imbalanced_losses import MixedLoss

pytest.importorskip("lightning")
pytest.importorskip("transformers")

from lightning.pytorch import LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from transformers import Trainer, TrainingArguments

from imbalanced_losses.integrations.transformers import LossScheduleCallback, compute_loss_func

ROWS = 16
# One case of every class; dense ones have no row for each label, which the Trainer wants.
ONE_OF_EACH = {
    case.loss: name for name, case in reversed(CASES.items()) if case.form not in ("dense", "soft")
}


class Head(nn.Module):
    """A linear head whose logits have a name, as Hugging Face's models give them."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, classes)

    def forward(self, features, labels=None):
        return {"logits": self.layer(features)}


def data(case) -> tuple[torch.Tensor, torch.Tensor]:
    _, labels = case.batch(rows=ROWS)
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(ROWS, 4, generator=generator)
    return features, labels.view(ROWS, 1) if case.form == "binary" else labels


def moved(head: Head, before: torch.Tensor) -> bool:
    after = head.layer.weight.detach()
    return bool(after.isfinite().all()) and not after.equal(before)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ONE_OF_EACH.values())
def test_the_hugging_face_trainer_trains_it(name, tmp_path) -> None:
    case = CASES[name]
    loss_fn, head = case.build(), Head(case.classes)
    before = head.layer.weight.detach().clone()
    features, labels = data(case)
    rows = [{"features": x, "labels": y} for x, y in zip(features, labels, strict=True)]
    arguments = TrainingArguments(
        tmp_path,
        max_steps=2,
        per_device_train_batch_size=ROWS,
        learning_rate=0.1,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    callbacks = [LossScheduleCallback(loss_fn)] if case.ranks or case.mixes else None
    compute = compute_loss_func(loss_fn)
    Trainer(
        head, arguments, train_dataset=rows, compute_loss_func=compute, callbacks=callbacks
    ).train()
    assert moved(head, before)
    if case.ranks:
        assert (loss_fn.queue.label >= 0).any()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ONE_OF_EACH.values())
def test_lightning_trains_it_and_its_checkpoint_holds_it(name, tmp_path) -> None:
    case = CASES[name]

    class Classifier(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.loss_fn = Head(case.classes), case.build()

        def training_step(self, batch, batch_idx):
            return self.loss_fn(self.head(batch[0])["logits"], batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module = Classifier()
    before = module.head.layer.weight.detach().clone()
    trainer = LightningTrainer(
        max_steps=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, DataLoader(TensorDataset(*data(case)), batch_size=ROWS))
    assert moved(module.head, before)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    fresh = Classifier()
    fresh.load_state_dict(torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"])
    torch.testing.assert_close(
        fresh.loss_fn.state_dict(), module.loss_fn.state_dict(), rtol=0, atol=0
    )


@pytest.mark.filterwarnings("ignore")
def test_the_hugging_face_callback_tells_a_mix_its_optimizer_steps(tmp_path) -> None:
    """Not the calls, of which accumulation makes several in a step."""
    case = CASES["smooth_ap"]
    loss_fn = MixedLoss(nn.CrossEntropyLoss(), case.build(), warmup_steps=3)
    features, labels = data(case)
    rows = [{"features": x, "labels": y} for x, y in zip(features, labels, strict=True)]
    arguments = TrainingArguments(
        tmp_path,
        max_steps=3,
        per_device_train_batch_size=ROWS // 4,
        gradient_accumulation_steps=4,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    Trainer(
        Head(case.classes),
        arguments,
        train_dataset=rows,
        compute_loss_func=compute_loss_func(loss_fn),
        callbacks=[LossScheduleCallback(loss_fn)],
    ).train()
    assert loss_fn.in_warmup
    assert loss_fn.k == 1
