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

from transformers import (
    BertConfig,
    BertForTokenClassification,
    EarlyStoppingCallback,
    Trainer,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from imbalanced_losses.integrations._loss import RankingLoss
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
    return LossWarmupWrapper(SoftmaxFocalLoss(), main, temp_start=0.5, **schedule)


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


class PairwiseHinge(RankingLoss):
    """A ranking loss that this package does not know: a plain pairwise AUC of class 1."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.reduction, self.ignore_index = "mean", -100

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        positives, negatives = logits[targets == 1, 1], logits[targets == 0, 1]
        return (1 - positives[:, None] + negatives).relu().mean()


class Sum(nn.Module):
    """A ranking loss inside a user's own module."""

    def __init__(self, ranking: nn.Module, pointwise: nn.Module) -> None:
        super().__init__()
        self.ranking, self.pointwise = ranking, pointwise

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self.ranking(logits, targets) + self.pointwise(logits, targets)


def test_a_loss_that_holds_a_ranking_loss_is_one_whatever_its_class() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(20, CLASSES), torch.arange(20) % CLASSES
    for loss_fn in (PairwiseHinge(), Sum(PairwiseHinge(), nn.CrossEntropyLoss())):
        share = compute_loss_func(loss_fn)((logits,), labels, num_items_in_batch=80)
        torch.testing.assert_close(share, loss_fn(logits, labels) / 4)
        assert LossScheduleCallback(loss_fn).loss is loss_fn
    vector = compute_loss_func(Sum(PairwiseHinge(), nn.CrossEntropyLoss(reduction="none")))
    with pytest.raises(ValueError, match=r"must return a scalar; Sum returned shape \[20\]"):
        vector((logits,), labels)


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


def test_an_item_is_a_row_of_probabilities_or_a_cell() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 4, requires_grad=True)
    shares = torch.rand(2, 5, 4).softmax(-1)
    shares[1, 3:] = -100
    rows = shares[..., 0] != -100
    for loss_fn in (SoftmaxFocalLoss(alpha=[1.0, 2.0, 3.0, 4.0]), nn.CrossEntropyLoss()):
        compute = compute_loss_func(loss_fn)
        expected = loss_fn(logits[rows], shares[rows])
        torch.testing.assert_close(compute((logits,), shares), expected)
        # The Trainer counts cells: 8 rows of 4 here, 16 rows in the step.
        half = compute((logits,), shares, num_items_in_batch=torch.tensor(64))
        torch.testing.assert_close(half, expected / 2)
        (gradient,) = torch.autograd.grad(half, logits)
        assert not gradient[~rows].any()
        broken = shares.clone()
        broken[0, 0, 1] = -100
        with pytest.raises(ValueError, match="-100 in all 4 cells of a row, or in none; got 1"):
            compute((logits,), broken)

    cells = torch.rand(2, 5, 4).round().masked_fill(torch.rand(2, 5, 4) < 0.3, -100)
    counted = cells != -100
    expected = F.binary_cross_entropy_with_logits(logits[counted], cells[counted])
    for loss_fn in (
        nn.BCEWithLogitsLoss(),
        SigmoidFocalLoss(None, gamma=0.0),
        SigmoidFocalLoss(None, gamma=0.0, ignore_index=-100),
    ):
        compute = compute_loss_func(loss_fn)
        torch.testing.assert_close(compute((logits,), cells), expected)
        half = compute((logits,), cells, num_items_in_batch=2 * counted.sum())
        torch.testing.assert_close(half, expected / 2)
        (gradient,) = torch.autograd.grad(half, logits)
        assert not gradient[~counted].any()
    nothing = compute((logits,), torch.full_like(cells, -100))
    assert nothing == 0
    assert nothing.requires_grad


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
        (nn.Linear(2, 2), TypeError, "holds a ranking loss; got a Linear"),
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
        (Sum(SmoothAPLoss(2), nn.CrossEntropyLoss(ignore_index=7)), ValueError, "ignore_index=7"),
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
    for loss_fn in (nn.CrossEntropyLoss(), SmoothAPLoss(2)):
        compute = compute_loss_func(loss_fn)
        with pytest.raises(ValueError, match=r"labels must be a tensor; got None.*key 'labels'"):
            compute((torch.zeros(4, 2),), None)
        with pytest.raises(TypeError, match="labels must be a tensor; got list"):
            compute((torch.zeros(4, 2),), [0, 1, 0, 1])

    class Stubborn(nn.CrossEntropyLoss):
        """Reads its reduction once."""

        def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(logits, labels)

    with pytest.raises(ValueError, match=r"one term per row.*Stubborn returned shape \[\]"):
        compute_loss_func(Stubborn())((torch.zeros(4, 2),), torch.zeros(4).long())
