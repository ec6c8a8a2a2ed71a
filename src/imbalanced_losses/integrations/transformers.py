"""Hugging Face Trainer: losses for its `compute_loss_func`, and a callback for their state."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from imbalanced_losses.distributed import resolve_gather
from imbalanced_losses.losses import PAUCAtBudgetLoss, RecallAtQuantileLoss, SmoothAPLoss
from imbalanced_losses.warmup import LossWarmupWrapper

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ModuleNotFoundError as error:
    raise ImportError(
        "imbalanced_losses.integrations.transformers needs the Hugging Face Trainer: "
        'pip install "imbalanced-losses[transformers]".'
    ) from error

__all__ = ["LossScheduleCallback", "compute_loss_func"]

_RANKING = (SmoothAPLoss, RecallAtQuantileLoss, PAUCAtBudgetLoss)
_IGNORED = -100  # the label that the Trainer leaves out when it counts items
_FILE = "imbalanced_losses.pt"


def compute_loss_func(loss: nn.Module) -> Callable[..., Tensor]:
    """Turn a loss into the `compute_loss_func` of `transformers.Trainer`.

    The Trainer counts the labels N = `num_items_in_batch` that are not -100 in everything that one
    optimizer step sees, all W processes and all accumulated batches; it adds up the gradients of
    the batches, multiplies each loss by W, and DDP averages over the ranks.

    - A **pointwise loss** with `reduction="mean"` becomes the sum over this rank's batch / N, so
      that the step is exactly that of the mean over one large batch. Class and sample weights
      scale the terms, never N. `reduction="sum"` is not divided; other reductions have a
      denominator of their own and are refused.
    - A **ranking loss** does not decompose over batches: its rows are compared with each other.
      It is evaluated on each accumulated batch, joined over the ranks, and on the queue (which
      holds the step's earlier batches, without gradient). The step takes the mean of these losses,
      each weighted with its batch's share of N. With one batch per step that is exactly the loss
      on the joined batch; more accumulation is another, noisier loss, so prefer a large batch to
      many small ones, and a queue to both.
    - A `LossWarmupWrapper` is treated like a ranking loss in all phases. A pointwise warm-up loss
      is then still exact under accumulation, and over ranks with different counts of labels if it
      is one that gathers, such as `SoftmaxFocalLoss`.

    Logits are flattened to rows, `[B, T, C]` to `[B * T, C]`, and labels with them: class indices
    `[B, T]` to `[B * T]`, multi-label ones `[B, T, C]` to `[B * T, C]`, where every cell is an
    item. Labels are not shifted, so this is not for causal language models.

    A ranking loss and a wrapper are used in place, a pointwise loss is copied. The loss is no part
    of the model, so it is moved to the logits' device here, and is in training mode only where
    gradients are recorded: evaluation leaves the queue alone. `LossScheduleCallback` keeps queue
    and schedule in the Trainer's checkpoints.

    Args:
        loss: A pointwise loss with `reduction` "mean" or "sum", called as `loss(logits, labels)`:
            one of this package or of torch. Or a ranking loss, or a `LossWarmupWrapper`; on
            several ranks these want `average_tokens_across_devices=True`, the default.

    Returns:
        A function `(outputs, labels, num_items_in_batch=None)`; without a number, the batch is
        taken for the whole step.

    Raises:
        TypeError: `loss` is no module, or has no `reduction`.
        ValueError: Its `reduction` is not "mean" or "sum", or it ignores another label than -100,
            which the Trainer would count.

    Example:
        >>> import torch
        >>> from imbalanced_losses import SoftmaxFocalLoss
        >>> compute = compute_loss_func(SoftmaxFocalLoss(gamma=0.0))
        >>> logits, labels = torch.zeros(2, 2, 3), torch.tensor([[0, 2], [1, -100]])
        >>> compute({"logits": logits}, labels, num_items_in_batch=6)  # 3 labels of 6: log(3) / 2
        tensor(0.5493)
    """
    if not isinstance(loss, nn.Module):
        raise TypeError(f"loss must be an nn.Module; got {loss!r}.")
    original: Any = getattr(loss, "_orig_mod", loss)  # what torch.compile wraps
    if isinstance(original, LossWarmupWrapper):
        _check_ignored(original.warmup_loss)
        _check_ignored(original.main_loss)
        return _share_of_step(loss)
    _check_ignored(original)
    if isinstance(original, _RANKING):
        if original.reduction == "none":
            raise ValueError("loss must have reduction 'mean' or 'sum'; got 'none'.")
        return _share_of_step(loss)
    return _sum_over_items(original)


class LossScheduleCallback(TrainerCallback):  # type: ignore[misc]
    """Drive the schedule of a `LossWarmupWrapper`, and keep a loss in the Trainer's checkpoints.

    A step is an optimizer step, `state.global_step`, so accumulation does not change a schedule.

    The loss is no part of the model, so the Trainer does not save it. This callback writes its
    `state_dict` (queue, temperature, schedule) beside the model of every checkpoint, and reads it
    when training resumes from `output_dir/checkpoint-<step>`, or from
    `TrainingArguments(resume_from_checkpoint=path)`: the resumed run then equals one that never
    stopped.

    Args:
        loss: The wrapper or ranking loss that was given to `compute_loss_func`.

    Raises:
        TypeError: `loss` is neither.
        FileNotFoundError: Training resumes from a checkpoint without the loss.

    Example:
        >>> import torch
        >>> from imbalanced_losses import LossWarmupWrapper, SmoothAPLoss
        >>> loss_fn = LossWarmupWrapper(
        ...     torch.nn.CrossEntropyLoss(), SmoothAPLoss(num_classes=3), warmup_steps=100
        ... )
        >>> settings = {
        ...     "compute_loss_func": compute_loss_func(loss_fn),
        ...     "callbacks": [LossScheduleCallback(loss_fn)],
        ... }  # transformers.Trainer(model, training_arguments, **settings)
    """

    def __init__(self, loss: nn.Module) -> None:
        original = getattr(loss, "_orig_mod", loss)  # what torch.compile wraps
        if not isinstance(original, (LossWarmupWrapper, *_RANKING)):
            raise TypeError(
                f"loss must be a LossWarmupWrapper or a ranking loss; got {loss!r}. "
                "A pointwise loss has no state and needs no callback."
            )
        self.loss: nn.Module = original

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Restore the loss of the checkpoint from which training resumes."""
        if state.global_step == 0:
            return
        file = Path(args.resume_from_checkpoint or _checkpoint(args, state)) / _FILE
        if not file.exists():
            raise FileNotFoundError(
                f"Training resumes at step {state.global_step}, but the state of the loss is not "
                f"at {file}. Pass TrainingArguments(resume_from_checkpoint=<folder>) if the "
                "checkpoint lies elsewhere."
            )
        self.loss.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell the schedule the epoch."""
        if isinstance(self.loss, LossWarmupWrapper):
            # A float: training that resumes within an epoch is told where in it.
            self.loss.on_train_epoch_start(int(state.epoch or 0))

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell the schedule the optimizer step."""
        if isinstance(self.loss, LossWarmupWrapper):
            self.loss.on_train_batch_start(state.global_step)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Add the loss to the checkpoint; every rank has the same one."""
        if state.is_world_process_zero:
            torch.save(self.loss.state_dict(), _checkpoint(args, state) / _FILE)


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"


def _sum_over_items(loss: nn.Module) -> Callable[..., Tensor]:
    reduction = getattr(loss, "reduction", None)
    if reduction is None:
        raise TypeError(
            f"loss must be a loss with the setting `reduction`; got a {type(loss).__name__}."
        )
    if reduction not in ("mean", "sum"):
        raise ValueError(
            f"loss must have reduction 'mean' or 'sum'; got {reduction!r}, whose denominator is "
            "not the Trainer's count of items."
        )
    total: Any = copy.deepcopy(loss)
    total.reduction = "sum"
    if hasattr(total, "gather_distributed"):
        total.gather_distributed = False  # the sum over the ranks is the Trainer's

    def compute(
        outputs: Any, labels: Tensor, num_items_in_batch: Tensor | float | None = None
    ) -> Tensor:
        logits, labels = _rows(outputs, labels)
        value: Tensor = total.to(logits.device)(logits, labels)
        return value / _items(labels, num_items_in_batch) if reduction == "mean" else value

    return compute


def _share_of_step(loss: nn.Module) -> Callable[..., Tensor]:
    def compute(
        outputs: Any, labels: Tensor, num_items_in_batch: Tensor | float | None = None
    ) -> Tensor:
        logits, labels = _rows(outputs, labels)
        count, ranks = (labels != _IGNORED).sum(), 1
        if resolve_gather(None):
            ranks = dist.get_world_size()
            dist.all_reduce(count)
        loss.train(torch.is_grad_enabled())
        value: Tensor = loss.to(logits.device)(logits, labels)
        if num_items_in_batch is None:
            return value
        # Each rank has the loss of all ranks: the Trainer's factor W is taken out again.
        return value * count / (_items(labels, num_items_in_batch) * ranks)

    return compute


def _items(labels: Tensor, number: Tensor | float | None) -> Tensor:
    """Number of items of the step, at least 1."""
    if number is None:
        number = (labels != _IGNORED).sum()
    return torch.as_tensor(number, device=labels.device).clamp(min=1)


def _rows(outputs: Any, labels: Tensor) -> tuple[Tensor, Tensor]:
    logits: Tensor = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
    if labels.shape not in (logits.shape, logits.shape[:-1]):
        raise ValueError(
            "labels must have the shape of the logits, or that without the last dimension; got "
            f"{list(labels.shape)} beside logits {list(logits.shape)}."
        )
    # Sums of half-precision terms would round.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(0, -2)
    if labels.numel() == logits.numel():
        return logits, labels.reshape(logits.shape)
    return logits, labels.flatten()


def _check_ignored(loss: nn.Module) -> None:
    ignored = getattr(loss, "ignore_index", None)
    if ignored not in (None, _IGNORED):
        raise ValueError(
            f"loss must ignore the label {_IGNORED}, the one that the Trainer does not count; got "
            f"ignore_index={ignored}."
        )
