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
from imbalanced_losses import (
    LossWarmupWrapper,
    RecallAtQuantileLoss,
    SigmoidFocalLoss,
    SmoothAPLoss,
    SoftmaxFocalLoss,
)

pytest.importorskip("transformers")

from transformers import BertConfig, BertForTokenClassification, Trainer, TrainingArguments

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


def sentences() -> list[dict[str, torch.Tensor]]:
    """Sentences of 2 to 10 words, padded with label -100; the class depends on the word."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(0, WORDS, (ROWS, LENGTH), generator=generator)
    label = (words >= 18).long() + (words >= 22)
    lengths = torch.randint(2, LENGTH + 1, (ROWS, 1), generator=generator)
    label[torch.arange(LENGTH) >= lengths] = -100
    mask = (label != -100).long()
    return [
        {"input_ids": i, "attention_mask": m, "labels": y}
        for i, m, y in zip(words, mask, label, strict=True)
    ]


def trainer(
    folder: Path | str, loss: nn.Module, *, batch: int = ROWS, **settings: object
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
        train_dataset=sentences(),
        eval_dataset=sentences(),
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
    return LossWarmupWrapper(SoftmaxFocalLoss(), main, temp_start=0.5, **schedule)


LOSSES = {
    "softmax focal": lambda: SoftmaxFocalLoss(alpha=[0.2, 1.0, 2.0]),
    "cross-entropy": nn.CrossEntropyLoss,
    "focal as warm-up": lambda: warmed_up(warmup_epochs=STEPS),
    "smooth_ap": lambda: SmoothAPLoss(CLASSES, 4 * ROWS * LENGTH, temperature=0.5),
    "schedule": lambda: warmed_up(warmup_steps=1, blend_steps=1, temp_decay_steps=2),
}
POINTWISE = list(LOSSES)[:3]


@functools.cache
def by_hand(name: str) -> dict[str, torch.Tensor]:
    """Parameters after plain SGD on all rows at once, one step per epoch."""
    net, loss_fn = model(), LOSSES[name]()
    rows = {key: torch.stack([row[key] for row in sentences()]) for key in sentences()[0]}
    labels = rows.pop("labels").flatten()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for step in range(STEPS):
        if isinstance(loss_fn, LossWarmupWrapper):
            loss_fn.on_train_epoch_start(step)
            loss_fn.on_train_batch_start(step)
        optimizer.zero_grad()
        loss_fn(net(**rows).logits.flatten(0, 1), labels).backward()
        optimizer.step()
    return net.state_dict()


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", LOSSES)
def test_a_step_is_that_of_a_plain_loop(tmp_path: Path, name: str) -> None:
    assert_same(trained(tmp_path, LOSSES[name]()), by_hand(name))


@pytest.mark.parametrize("name", POINTWISE)
def test_accumulation_does_not_change_a_pointwise_step(tmp_path: Path, name: str) -> None:
    parts = trained(tmp_path, LOSSES[name](), batch=4, gradient_accumulation_steps=ROWS // 4)
    assert_same(parts, by_hand(name))


# Loss, rows of a batch on each of two ranks, and batches of a step.
TWO_RANKS = [(name, ROWS // 4, 2) for name in ("softmax focal", "cross-entropy", "smooth_ap")]
TWO_RANKS += [(name, ROWS // 2, 1) for name in ("smooth_ap", "schedule", "focal as warm-up")]


def _train_cases(rank: int, folder: str) -> list[dict[str, torch.Tensor]]:
    # What torchrun sets; the process group is there already.
    sizes = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    os.environ.update(sizes, RANK=str(rank), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1")
    return [
        trained(folder, LOSSES[name](), batch=batch, gradient_accumulation_steps=parts)
        for name, batch, parts in TWO_RANKS
    ]


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


def test_multi_label_binary_and_half_precision() -> None:
    torch.manual_seed(0)
    compute = compute_loss_func(SigmoidFocalLoss(alpha=None, gamma=0.0))
    logits, labels = torch.randn(6, 4), torch.rand(6, 4).round()
    expected = F.binary_cross_entropy_with_logits(logits, labels)
    torch.testing.assert_close(compute({"logits": logits}, labels), expected)
    torch.testing.assert_close(compute((logits,), labels, num_items_in_batch=48), expected / 2)
    torch.testing.assert_close(
        compute((logits[:, :1],), labels[:, 0]),
        F.binary_cross_entropy_with_logits(logits[:, 0], labels[:, 0]),
    )
    total = compute_loss_func(SigmoidFocalLoss(alpha=None, gamma=0.0, reduction="sum"))
    torch.testing.assert_close(total((logits,), labels, num_items_in_batch=48), 24 * expected)
    many, classes = torch.randn(40_000, 3, dtype=torch.bfloat16), torch.arange(40_000) % 3
    torch.testing.assert_close(
        compute_loss_func(nn.CrossEntropyLoss())((many,), classes),
        F.cross_entropy(many.float(), classes),
    )
    nothing = compute((logits[:0],), labels[:0], num_items_in_batch=0)
    assert nothing == 0


# Dynamo itself looks at autograd functions in a way that torch deprecates.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_compiled_loss_is_known_for_what_it_is() -> None:
    loss_fn = SmoothAPLoss(CLASSES, queue_size=0, temperature=0.5)
    compute = compute_loss_func(torch.compile(loss_fn, backend="eager"))
    logits, labels = torch.randn(20, CLASSES), torch.arange(20) % CLASSES
    whole = loss_fn(logits, labels)
    torch.testing.assert_close(compute((logits,), labels, num_items_in_batch=40), whole / 2)
    assert LossScheduleCallback(torch.compile(loss_fn, backend="eager")).loss is loss_fn


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (F.cross_entropy, TypeError, "must be an nn.Module"),
        (nn.Linear(2, 2), TypeError, "setting `reduction`; got a Linear"),
        (nn.CrossEntropyLoss(reduction="none"), ValueError, "got 'none'"),
        (SoftmaxFocalLoss(reduction="mean_positive"), ValueError, "got 'mean_positive'"),
        (SmoothAPLoss(2, reduction="none"), ValueError, "got 'none'"),
        (nn.CrossEntropyLoss(ignore_index=0), ValueError, "ignore_index=0"),
        (RecallAtQuantileLoss(2, ignore_index=-1), ValueError, "ignore_index=-1"),
        (
            LossWarmupWrapper(nn.CrossEntropyLoss(ignore_index=-1), SmoothAPLoss(2)),
            ValueError,
            "ignore_index=-1",
        ),
    ],
)
def test_losses_that_would_be_scaled_wrongly_are_refused(
    loss: object, error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        compute_loss_func(loss)


def test_other_mistakes() -> None:
    with pytest.raises(TypeError, match="has no state"):
        LossScheduleCallback(nn.CrossEntropyLoss())
    with pytest.raises(ValueError, match=r"got \[3\] beside logits \[4, 2\]"):
        compute_loss_func(nn.CrossEntropyLoss())((torch.zeros(4, 2),), torch.zeros(3).long())
