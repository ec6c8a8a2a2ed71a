"""The Hugging Face Trainer: accumulation, ranks, ranking losses, resume; a tiny random model."""

import copy
import functools
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import parallel
from imbalanced_losses import LossWarmupWrapper, SmoothAPLoss, SoftmaxFocalLoss

pytest.importorskip("transformers")

from transformers import (
    BertConfig,
    BertForTokenClassification,
    EarlyStoppingCallback,
    Trainer,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from imbalanced_losses.integrations.transformers import LossScheduleCallback, compute_loss_func

CLASSES, WORDS, ROWS, LENGTH = 3, 24, 32, 10
STEPS = 4


def model() -> nn.Module:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=WORDS,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=LENGTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=CLASSES,
        attn_implementation="eager",
    )
    # Float64, so that equal means equal to rounding.
    return BertForTokenClassification(config).double()


def sentences(name: str = "") -> list[dict[str, torch.Tensor]]:
    """Sentences of 2 to 10 words, padded with label -100; the class depends on the word.

    Labels for a loss of this name: class indices, "mixup" of two sentences, or "cells" of -100, 0
    and 1.
    """
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(0, WORDS, (ROWS, LENGTH), generator=generator)
    label = (words >= 18).long() + (words >= 22)
    lengths = torch.randint(2, LENGTH + 1, (ROWS, 1), generator=generator)
    label[torch.arange(LENGTH) >= lengths] = -100
    mask = (label != -100).long()
    if name.startswith("mixup"):
        hot = F.one_hot(label.clamp(min=0), CLASSES).double()
        label = (0.7 * hot + 0.3 * hot.flip(0)).masked_fill(mask[..., None] == 0, -100)
    elif name.startswith("cells"):
        hidden = (torch.rand(ROWS, LENGTH, CLASSES, generator=generator) < 0.2) | (mask == 0)[
            ..., None
        ]
        label = (label[..., None] >= torch.arange(CLASSES)).double().masked_fill(hidden, -100)
    return [
        {"input_ids": i, "attention_mask": m, "labels": y}
        for i, m, y in zip(words, mask, label, strict=True)
    ]


def trainer(
    folder: Path | str,
    loss: nn.Module,
    *,
    batch: int = ROWS,
    labels: str = "",
    **settings: object,
) -> Trainer:
    defaults = {
        "learning_rate": 0.1,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "num_train_epochs": STEPS,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "logging_steps": 1,
        "use_cpu": True,
    }
    arguments = TrainingArguments(
        str(folder), per_device_train_batch_size=batch, **(defaults | settings)
    )
    stateful = isinstance(loss, SmoothAPLoss | LossWarmupWrapper)
    return Trainer(
        model(),
        arguments,
        train_dataset=sentences(labels),
        eval_dataset=sentences(labels),
        compute_loss_func=compute_loss_func(loss),
        callbacks=[LossScheduleCallback(loss)] if stateful else [],
    )


def trained(folder: Path | str, loss: nn.Module, **settings: object) -> dict[str, torch.Tensor]:
    run = trainer(folder, loss, **settings)
    run.train()
    return run.model.state_dict()


def logged(run: Trainer) -> list[float]:
    return [entry["loss"] for entry in run.state.log_history if "loss" in entry]


def warmed_up(**schedule: object) -> LossWarmupWrapper:
    main = SmoothAPLoss(CLASSES, queue_size=4 * ROWS * LENGTH)
    temperatures = {"temp_start": 0.5, "temp_end": 0.005}
    return LossWarmupWrapper(SoftmaxFocalLoss(), main, **(temperatures | schedule))


LOSSES = {
    "softmax focal": lambda: SoftmaxFocalLoss(alpha=[0.2, 1.0, 2.0]),
    "cross-entropy": nn.CrossEntropyLoss,
    "mixup of focal": lambda: SoftmaxFocalLoss(alpha=[0.2, 1.0, 2.0]),
    "mixup of cross-entropy": nn.CrossEntropyLoss,
    "cells of BCE": lambda: nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.0, 2.0, 3.0])),
    "focal as warm-up": lambda: warmed_up(warmup_epochs=STEPS),
    "smooth_ap": lambda: SmoothAPLoss(CLASSES, 4 * ROWS * LENGTH, temperature=0.5),
    "schedule": lambda: warmed_up(warmup_steps=1, blend_steps=1, temp_decay_steps=2),
}
POINTWISE = list(LOSSES)[:6]


@functools.cache
def by_hand(name: str) -> dict[str, torch.Tensor]:
    """Parameters after plain SGD on all rows at once, one step per epoch."""
    net, loss_fn = model(), LOSSES[name]()
    rows = {key: torch.stack([row[key] for row in sentences(name)]) for key in sentences()[0]}
    labels = rows.pop("labels").flatten(0, 1)
    counted = labels.reshape(len(labels), -1).amax(1) != -100
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for step in range(STEPS):
        if isinstance(loss_fn, LossWarmupWrapper):
            loss_fn.on_train_epoch_start(step)
            loss_fn.on_train_batch_start(step)
        optimizer.zero_grad()
        logits = net(**rows).logits.flatten(0, 1)
        if name.startswith("cells"):
            p = logits.sigmoid()
            cost = torch.where(labels == 1, -loss_fn.pos_weight * p.log(), -(1 - p).log())
            cost[labels != -100].mean().backward()
        else:
            loss_fn(logits[counted], labels[counted]).backward()
        optimizer.step()
    return net.state_dict()


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", LOSSES)
def test_a_step_is_that_of_a_plain_loop(tmp_path: Path, name: str) -> None:
    assert_same(trained(tmp_path, LOSSES[name](), labels=name), by_hand(name))


@pytest.mark.parametrize("name", POINTWISE)
def test_accumulation_does_not_change_a_pointwise_step(tmp_path: Path, name: str) -> None:
    settings = {"batch": 4, "gradient_accumulation_steps": ROWS // 4}
    assert_same(trained(tmp_path, LOSSES[name](), labels=name, **settings), by_hand(name))


# Loss, rows of a batch on each of two ranks, and batches of a step.
TWO_RANKS = [(name, ROWS // 4, 2) for name in ("mixup of focal", "cross-entropy", "smooth_ap")]
TWO_RANKS += [(name, ROWS // 2, 1) for name in ("smooth_ap", "schedule", "focal as warm-up")]


def _train_cases(rank: int, folder: str) -> list[dict[str, torch.Tensor]]:
    # What torchrun sets; the process group is there already.
    sizes = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    os.environ.update(sizes, RANK=str(rank), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1")
    return [
        trained(folder, LOSSES[name](), batch=batch, labels=name, gradient_accumulation_steps=parts)
        for name, batch, parts in TWO_RANKS
    ]


@pytest.mark.slow
def test_two_ranks_take_the_step_of_one(tmp_path: Path) -> None:
    ranks = parallel.run(2, _train_cases, str(tmp_path))
    for (name, batch, parts), *states in zip(TWO_RANKS, *ranks, strict=True):
        if parts == 1 or name in POINTWISE:
            expected = by_hand(name)
        else:  # accumulation is part of a ranking loss: one process needs as many batches
            settings = {"batch": 2 * batch, "gradient_accumulation_steps": parts}
            expected = trained(tmp_path, LOSSES[name](), **settings)
        for state in states:
            assert_same(state, expected)


def test_a_ranking_loss_is_weighted_by_the_items_of_its_batches() -> None:
    compute = compute_loss_func(SmoothAPLoss(CLASSES, queue_size=64, temperature=0.5))
    reference = SmoothAPLoss(CLASSES, queue_size=64, temperature=0.5)
    labels = torch.stack([row["labels"] for row in sentences()])[:12].split([2, 7, 3])
    items = sum((part != -100).sum() for part in labels)
    torch.manual_seed(0)
    for part in labels:
        logits = torch.randn(*part.shape, CLASSES, dtype=torch.float64, requires_grad=True)
        whole = reference(logits.flatten(0, 1), part.flatten())
        share = compute((logits,), part, num_items_in_batch=items)
        torch.testing.assert_close(share, whole * (part != -100).sum() / items)


def test_the_logs_hold_the_state_of_the_schedule(tmp_path: Path) -> None:
    loss_fn = warmed_up(warmup_epochs=1, blend_epochs=1, temp_end=0.05, temp_decay_steps=4)
    run = trainer(tmp_path, loss_fn, batch=ROWS // 2, num_train_epochs=3, eval_strategy="epoch")
    run.train()
    history = [entry for entry in run.state.log_history if "loss" in entry]
    assert [entry["loss_schedule/phase"] for entry in history] == [0.0] * 2 + [1.0] * 2 + [2.0] * 2
    assert [entry["loss_schedule/main_weight"] for entry in history] == [0, 0, 0.5, 0.5, 1, 1]
    assert all("loss_schedule/temperature" not in entry for entry in history[:2])
    temperatures = [entry["loss_schedule/temperature"] for entry in history[2:]]
    assert temperatures == pytest.approx([0.5 * 0.1 ** (step / 4) for step in range(4)])
    others = [entry for entry in run.state.log_history if "loss" not in entry]
    assert not any(key.startswith("loss_schedule") for entry in others for key in entry)

    logs, silent = {"loss": 1.0}, LossScheduleCallback(loss_fn, name=None)
    silent.on_log(run.args, run.state, run.control, logs=logs)
    assert logs == {"loss": 1.0}


def test_a_loss_that_is_watched_across_a_switch_is_said_once(tmp_path: Path) -> None:
    every = {"eval_strategy": "epoch", "save_strategy": "epoch", "num_train_epochs": 1}
    run = trainer(
        tmp_path,
        warmed_up(warmup_epochs=1),
        load_best_model_at_end=True,
        save_only_model=True,
        **every,
    )
    run.add_callback(EarlyStoppingCallback())
    with pytest.warns(UserWarning, match="metric_for_best_model watches 'loss'.*average_precision"):
        run.train()
    run.train()  # warnings are errors here

    def begins(loss: nn.Module, metric: str | None, **settings: object) -> None:
        arguments = TrainingArguments(
            str(tmp_path), metric_for_best_model=metric, report_to=[], use_cpu=True, **settings
        )
        callback = LossScheduleCallback(loss)
        state = TrainerState(is_world_process_zero=True)
        for _ in range(2):
            callback.on_train_begin(arguments, state, TrainerControl())

    with pytest.warns(UserWarning, match="watches 'eval_rare_loss'") as said:
        begins(warmed_up(blend_epochs=1), "eval_rare_loss")
    assert len(said) == 1
    begins(warmed_up(warmup_epochs=1), "eval_average_precision")
    begins(warmed_up(warmup_epochs=1), None)
    begins(warmed_up(), "loss")
    begins(SmoothAPLoss(CLASSES), "loss")
    with pytest.warns(UserWarning, match=r"label_smoothing_factor=0.2 .* does nothing") as said:
        begins(SmoothAPLoss(CLASSES), None, label_smoothing_factor=0.2)
    assert len(said) == 1


def test_the_trainers_own_label_smoothing_changes_nothing(tmp_path: Path) -> None:
    smoothed = trained(tmp_path, nn.CrossEntropyLoss(), label_smoothing_factor=0.2)
    assert_same(smoothed, by_hand("cross-entropy"))


def test_training_lowers_the_loss_and_evaluation_leaves_the_queue(tmp_path: Path) -> None:
    loss_fn = warmed_up(warmup_steps=8, blend_steps=8)
    run = trainer(tmp_path, loss_fn, batch=8, learning_rate=0.01, optim="adamw_torch")
    run.train()
    assert loss_fn.schedule.progress == [STEPS - 1, 4 * STEPS - 1, 2, 8]
    before = copy.deepcopy(loss_fn.state_dict())
    assert run.evaluate()["eval_loss"] > 0
    torch.testing.assert_close(loss_fn.state_dict(), before, rtol=0, atol=0)

    focal = trainer(
        tmp_path,
        SoftmaxFocalLoss(),
        batch=8,
        num_train_epochs=6,
        learning_rate=0.02,
        optim="adamw_torch",
    )
    focal.train()
    assert logged(focal)[-1] < 0.3 * logged(focal)[0]


def test_a_resumed_run_equals_one_that_never_stopped(tmp_path: Path) -> None:
    settings = {"batch": 8, "save_strategy": "steps", "save_steps": 1}
    whole_loss = warmed_up(warmup_epochs=1, blend_epochs=1)
    whole = trained(tmp_path, whole_loss, **settings)
    for stop_at in (3, 6, 8):  # in the warm-up, within an epoch, at the end of one
        loss_fn = warmed_up(warmup_epochs=1, blend_epochs=1)
        run = trainer(tmp_path, loss_fn, **settings)
        run.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{stop_at}"))
        torch.testing.assert_close(run.model.state_dict(), whole, rtol=0, atol=0)
        torch.testing.assert_close(loss_fn.state_dict(), whole_loss.state_dict(), rtol=0, atol=0)
    (tmp_path / "checkpoint-3" / "imbalanced_losses.pt").unlink()
    with pytest.raises(FileNotFoundError, match="resumes at step 3"):
        run.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
