"""Hugging Face Trainer: losses for its `compute_loss_func`, and a callback for their state."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imbalanced_losses._warn import warn
from imbalanced_losses.integrations._loss import (
    compares_rows,
    original,
    start_step,
    state_of,
    warn_of_watched_loss,
    wrapper_in,
)
from imbalanced_losses.integrations._step import IGNORED, share_of_step, sum_over_items

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ModuleNotFoundError as error:
    raise ImportError(
        "imbalanced_losses.integrations.transformers needs the Hugging Face Trainer, which the "
        "transformers extra of this repository installs: in its clone, "
        'pip install ".[transformers]".'
    ) from error

__all__ = ["LossScheduleCallback", "compute_loss_func"]

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
    - A **ranking loss**, and every module that holds one, does not decompose over batches: its
      rows are compared with each other. It is evaluated on each accumulated batch, joined over the
      ranks, and on the queue (which holds the step's earlier batches, without gradient). The step
      takes the mean of these losses, each weighted with its batch's share of N. With one batch per
      step that is exactly the loss on the joined batch; more accumulation is another, noisier
      loss, so prefer a large batch to many small ones, and a queue to both.
    - A `LossWarmupWrapper` is treated like a ranking loss in all phases. A pointwise warm-up loss
      is then still exact under accumulation, and over ranks with different counts of labels if it
      is one that gathers, such as `SoftmaxFocalLoss`.

    Logits are flattened to rows, `[B, T, C]` to `[B * T, C]`, and labels with them: class indices
    `[B, T]` to `[B * T]`, labels of the logits' shape to `[B * T, C]`. What is one item among
    labels of the logits' shape?

    - A row, where the loss has one term per row: `nn.CrossEntropyLoss` and `SoftmaxFocalLoss`, for
      which the labels are class probabilities (MixUp). The Trainer counts their cells, so N is its
      number divided by C. A row is ignored if all of its cells are -100.
    - A cell, where the loss has one term per cell: `nn.BCEWithLogitsLoss` and `SigmoidFocalLoss`.
      A cell of -100 is ignored, even if the loss itself does not know that label.

    Labels are not shifted, so this is not for causal language models.

    `TrainingArguments(label_smoothing_factor=...)` belongs to the Trainer's own loss and does
    nothing beside a `compute_loss_func`: set `label_smoothing` in the loss.

    A ranking loss and a wrapper are used in place, a pointwise loss is copied. The loss is no part
    of the model, so it is moved to the logits' device here, and is in training mode only where
    gradients are recorded: evaluation leaves the queue alone. `LossScheduleCallback` keeps queue
    and schedule in the Trainer's checkpoints.

    Args:
        loss: A pointwise loss, called as `loss(logits, labels)`, whose `reduction` is "mean" or
            "sum" and may be set to "none": one of this package or of torch. Or a ranking loss, a
            `LossWarmupWrapper`, or a module that holds one and returns a scalar; on several ranks
            these want `average_tokens_across_devices=True`, the default.

    Returns:
        A function `(outputs, labels, num_items_in_batch=None)`; without a number, the batch is
        taken for the whole step. It raises a ValueError where labels are missing or do not fit the
        logits, or where the loss does not return what its kind promises.

    Raises:
        TypeError: `loss` is no module, or is neither pointwise with a `reduction` nor ranking.
        ValueError: Its `reduction` is not "mean" or "sum", or it ignores another label than -100,
            which the Trainer would count.

    Examples:
        >>> import torch
        >>> from imbalanced_losses import SoftmaxFocalLoss
        >>> compute = compute_loss_func(SoftmaxFocalLoss(gamma=0.0))
        >>> logits, labels = torch.zeros(2, 2, 3), torch.tensor([[0, 2], [1, -100]])
        >>> compute({"logits": logits}, labels, num_items_in_batch=6)  # 3 labels of 6: log(3) / 2
        tensor(0.5493)
    """
    if not isinstance(loss, nn.Module):
        raise TypeError(f"loss must be an nn.Module; got {loss!r}.")
    module = original(loss)
    for part in module.modules():
        _check_ignored(part)
    reduction = getattr(module, "reduction", None)
    if not compares_rows(module) and reduction is None:
        raise TypeError(
            "loss must be a pointwise loss with the setting `reduction`, a ranking loss, or a "
            f"module that holds a ranking loss; got a {type(module).__name__}."
        )
    if reduction not in ("mean", "sum", None):
        raise ValueError(
            f"loss must have reduction 'mean' or 'sum'; got {reduction!r}, whose denominator is "
            "not the Trainer's count of items."
        )
    return share_of_step(loss) if compares_rows(module) else sum_over_items(module)


class LossScheduleCallback(TrainerCallback):  # type: ignore[misc]
    """Drive the schedule of a `LossWarmupWrapper`, log it, and keep a loss in checkpoints.

    A step is an optimizer step, `state.global_step`, so accumulation does not change a schedule.

    Wherever the Trainer logs its training loss, the entry in `trainer.state.log_history` also
    holds, under `name`, the state in which the last step was computed:

    - `phase`: 0 in the warm-up, 1 in the blend, 2 after it;
    - `main_weight`, and from the switch on `temperature`, where the main loss has one.

    So do the logs of the callbacks that come after this one. The Trainer puts its reporters before
    it: move one with `trainer.add_callback(trainer.pop_callback(TensorBoardCallback))`.

    Warns, once, if `metric_for_best_model` is a loss (the default of `load_best_model_at_end`;
    early stopping reads it too) and a warm-up or a blend lies ahead: the schedule changes what the
    loss is, and the best epoch is always the last of the warm-up. Let `compute_metrics` return a
    metric that means the same in all phases, such as `imbalanced_losses.metrics.average_precision`.
    Warns also, once, of a `label_smoothing_factor`, which does nothing beside a
    `compute_loss_func`.

    The loss is no part of the model, so the Trainer does not save it. This callback writes its
    `state_dict` (queue, temperature, schedule) beside the model of every checkpoint, and reads it
    when training resumes from `output_dir/checkpoint-<step>`, or from
    `TrainingArguments(resume_from_checkpoint=path)`: the resumed run then equals one that never
    stopped.

    Args:
        loss: What was given to `compute_loss_func`: a wrapper, a ranking loss, or a module that
            holds one.
        name: Prefix of the logged values; None logs nothing.

    Raises:
        TypeError: `loss` is none of these.
        FileNotFoundError: Training resumes from a checkpoint without the loss.

    Examples:
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

    def __init__(self, loss: nn.Module, *, name: str | None = "loss_schedule") -> None:
        if not isinstance(loss, nn.Module) or not compares_rows(loss):
            raise TypeError(
                "loss must be a LossWarmupWrapper, a ranking loss, or a module that holds one; got "
                f"{loss!r}. A pointwise loss has no state and needs no callback."
            )
        self.loss: nn.Module = original(loss)
        self.name = name
        self._wrapper = wrapper_in(self.loss)
        self._has_warned_of_metric = False
        self._has_warned_of_smoothing = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Restore the loss of the checkpoint from which training resumes, and look at `args`."""
        if state.global_step > 0:
            self._restore(args, state)
        if state.is_world_process_zero:
            self._warn(args)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell the schedule the epoch."""
        if self._wrapper is not None:
            # A float: training that resumes within an epoch is told where in it.
            self._wrapper.on_train_epoch_start(int(state.epoch or 0))

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell the schedule the optimizer step."""
        start_step(self.loss, state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float],
        **kwargs: Any,
    ) -> None:
        """Add the state of the schedule to what was logged of a training step."""
        if self._wrapper is None or self.name is None or "loss" not in logs:
            return
        values = {f"{self.name}/{key}": value for key, value in state_of(self._wrapper).items()}
        state.log_history[-1].update(values)  # the Trainer's copy of `logs`, made just before
        logs.update(values)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Add the loss to the checkpoint; every rank has the same one."""
        if state.is_world_process_zero:
            torch.save(self.loss.state_dict(), _checkpoint(args, state) / _FILE)

    def _restore(self, args: TrainingArguments, state: TrainerState) -> None:
        file = Path(args.resume_from_checkpoint or _checkpoint(args, state)) / _FILE
        if not file.exists():
            raise FileNotFoundError(
                f"Training resumes at step {state.global_step}, but the state of the loss is not "
                f"at {file}. Pass TrainingArguments(resume_from_checkpoint=<folder>) if the "
                "checkpoint lies elsewhere."
            )
        self.loss.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))

    def _warn(self, args: TrainingArguments) -> None:
        if self._wrapper is not None and not self._has_warned_of_metric:
            watched = [("metric_for_best_model", args.metric_for_best_model)]
            self._has_warned_of_metric = warn_of_watched_loss(
                self._wrapper, watched, "greater_is_better=True"
            )
        if args.label_smoothing_factor and not self._has_warned_of_smoothing:
            self._has_warned_of_smoothing = True
            warn(
                f"label_smoothing_factor={args.label_smoothing_factor} belongs to the Trainer's "
                "own loss and does nothing beside a compute_loss_func. Set label_smoothing in the "
                "loss, as in SoftmaxFocalLoss(label_smoothing=0.1). This is said once."
            )


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"


def _check_ignored(loss: nn.Module) -> None:
    ignored = getattr(loss, "ignore_index", None)
    if ignored not in (None, IGNORED):
        raise ValueError(
            f"loss must ignore the label {IGNORED}, the one that the Trainer does not count; got "
            f"ignore_index={ignored}."
        )
