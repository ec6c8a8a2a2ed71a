"""Lightning: a callback that moves a `LossWarmupWrapper` along and logs where it is."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from imbalanced_losses.integrations._loss import (
    original,
    queue_labels,
    start_step,
    state_of,
    warn_of_watched_loss,
)
from imbalanced_losses.warmup import LossWarmupWrapper

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ModuleNotFoundError as error:
    raise ImportError(
        "imbalanced_losses.integrations.lightning needs Lightning, which the lightning extra of "
        'this repository installs: in its clone, pip install ".[lightning]".'
    ) from error

__all__ = ["LossScheduleCallback"]


class LossScheduleCallback(Callback):  # type: ignore[misc]
    """Call the hooks of a `LossWarmupWrapper` at the right moments, and log its state.

    The wrapper is a submodule of the LightningModule. So Lightning moves it to the device, and
    its own checkpoints hold the schedule and the queue: a run resumed with `fit(ckpt_path=...)`
    goes on as if it had never stopped. The callback itself has no state. (It belongs to
    `import lightning`; the Trainer of the older name `pytorch_lightning` refuses it.)

    A step is an optimizer step, `trainer.global_step`: the batches of one accumulated step share
    a temperature, and a schedule in steps does not depend on `accumulate_grad_batches`. (With
    several optimizers, Lightning counts the steps of each.)

    Logged at every training batch, under `name` and without a sync of device or ranks, for every
    rank has the same values:

    - `phase`: 0 in the warm-up, 1 in the blend, 2 after it;
    - `main_weight`, and from the switch on `temperature`, where the main loss has one;
    - `class_<c>/loss`, where `training_step` asks the wrapper for it with `return_per_class=True`
      and the main loss is in use; NaN for a class that is not valid in this pool;
    - `class_<c>/positives`, where the main loss has a queue: how many positives it holds after
      this batch, which are those that the next batch will find in its pool.

    Warns, once, if a callback such as `ModelCheckpoint` or `EarlyStopping` has a loss for its
    `monitor` and a warm-up or a blend lies ahead: the schedule changes what the loss is, and the
    best epoch is always the last of the warm-up. Monitor a metric that means the same in all
    phases, such as `imbalanced_losses.metrics.average_precision`.

    Args:
        loss: Name of the wrapper in the LightningModule, dotted if it lies deeper. It may be
            compiled.
        name: Prefix of the logged values; None logs nothing.

    Raises:
        TypeError: At the start of `fit`, if `loss` is no `LossWarmupWrapper`.
        AttributeError: At the start of `fit`, if the LightningModule has no such submodule.

    Examples:
        >>> import lightning
        >>> import torch
        >>> from imbalanced_losses import LossWarmupWrapper, SmoothAPLoss
        >>> class Classifier(lightning.LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = torch.nn.Linear(8, 3)
        ...         self.loss_fn = LossWarmupWrapper(
        ...             torch.nn.CrossEntropyLoss(), SmoothAPLoss(num_classes=3), warmup_epochs=1
        ...         )
        ...     def training_step(self, batch, batch_idx):
        ...         x, y = batch
        ...         loss, per_class, valid = self.loss_fn(self.layer(x), y, return_per_class=True)
        ...         return loss
        ...     def configure_optimizers(self):
        ...         return torch.optim.SGD(self.parameters(), lr=0.1)
        >>> callbacks = [LossScheduleCallback("loss_fn")]  # lightning.Trainer(callbacks=callbacks)
    """

    def __init__(self, loss: str = "loss_fn", *, name: str | None = "loss_schedule") -> None:
        if not isinstance(loss, str) or not loss:
            raise TypeError(
                "loss must be the name of a submodule of the LightningModule, so that checkpoints "
                f"hold its state; got {loss!r}."
            )
        self.loss = loss
        self.name = name
        self._per_class: Tensor | None = None
        self._hook: RemovableHandle | None = None
        self._has_warned = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a module whose loss is not there or not a wrapper."""
        if stage == "fit":
            self._wrapper(pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to listen to what the loss returns, and look at what is monitored."""
        if trainer.is_global_zero and not self._has_warned:
            monitors = [(type(c).__name__, getattr(c, "monitor", None)) for c in trainer.callbacks]
            wrapper = self._wrapper(pl_module)
            self._has_warned = warn_of_watched_loss(wrapper, monitors, 'mode="max"')
        if self.name is not None:
            # On the outermost module, so that a compiled loss keeps its graph.
            self._hook = pl_module.get_submodule(self.loss).register_forward_hook(self._listen)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the schedule the epoch."""
        self._wrapper(pl_module).on_train_epoch_start(trainer.current_epoch)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Tell the schedule the optimizer step that this batch belongs to."""
        self._per_class = None
        loss = self._wrapper(pl_module)
        # Again: Lightning omits the hook of an epoch when it resumes from the last batch before it.
        loss.on_train_epoch_start(trainer.current_epoch)
        start_step(loss, trainer.global_step)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Log the state in which this batch was computed."""
        if self.name is None:
            return
        wrapper = self._wrapper(pl_module)
        values: dict[str, float | Tensor] = {**state_of(wrapper)}
        if (label := queue_labels(wrapper.main_loss)) is not None:
            values |= _by_class("positives", (label == 1).sum(1, dtype=torch.float32))
        if self._per_class is not None:
            values |= _by_class("loss", self._per_class)
        pl_module.log_dict({f"{self.name}/{key}": value for key, value in values.items()})

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the loss as it was found."""
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leave the loss as it was found."""
        self.teardown(trainer, pl_module, "fit")

    def _wrapper(self, pl_module: LightningModule) -> LossWarmupWrapper:
        loss = original(pl_module.get_submodule(self.loss))
        if not isinstance(loss, LossWarmupWrapper):
            raise TypeError(
                f"loss must name a LossWarmupWrapper; {self.loss!r} is a {type(loss).__name__}. "
                "A loss without a schedule needs no callback."
            )
        return loss

    def _listen(self, module: nn.Module, arguments: Any, returned: Any) -> None:
        if isinstance(returned, tuple) and isinstance(returned[1], Tensor):
            self._per_class = returned[1].detach()


def _by_class(what: str, values: Tensor) -> dict[str, Tensor]:
    return {f"class_{c}/{what}": value for c, value in enumerate(values.unbind())}
