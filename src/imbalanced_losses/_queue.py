"""The memory queue: the last rows that went through a loss, wholly in its state_dict."""

import warnings
from typing import Any

import torch
from torch import Tensor

from imbalanced_losses._buffers import PreciseBuffers
from imbalanced_losses._targets import IGNORED, Rows


class MemoryQueue(PreciseBuffers):
    """The newest `size` rows, detached, from the oldest to the newest.

    Empty slots are rows that every class ignores, so the shape never changes. Rows are kept in
    order of arrival, which makes the last slot the write position: reading is one concatenation,
    writing keeps its tail, and resizing keeps the newest rows that fit.
    """

    scores: Tensor
    label: Tensor
    weight: Tensor
    iid: Tensor

    def __init__(self, num_classes: int, size: int) -> None:
        super().__init__()
        self.size = size
        for name, tensor in _empty(num_classes, size)._asdict().items():
            self.register_buffer(name, tensor)

    def reset(self) -> None:
        """Forget all rows."""
        empty = _empty(len(self.label), self.size)
        for buffer, initial in zip(self._rows(), empty, strict=True):
            buffer.copy_(initial)

    def join(self, live: Rows) -> Rows:
        """The queued rows followed by the live ones."""
        if self.size == 0:
            return live
        return Rows(
            *(
                torch.cat((old.to(new.dtype), new), -1)
                for old, new in zip(self._rows(), live, strict=True)
            )
        )

    @torch.no_grad()
    def push(self, joined: Rows, live_rows: int) -> None:
        """Keep the tail of `joined`, the result of `join` with `live_rows` new rows at its end.

        Ignored rows take a slot; rows with a score that is not finite take one as ignored rows. A
        batch of ignored rows alone leaves the queue as it is.
        """
        if self.size == 0 or live_rows == 0:
            return
        if joined.scores.dtype == torch.float64 and self.scores.dtype == torch.float32:
            self.scores, self.weight = self.scores.double(), self.weight.double()
        tail = Rows(*(tensor[..., -self.size :] for tensor in joined))
        broken = ((tail.label != IGNORED) & ~tail.scores.isfinite()).any(0)
        label = tail.label.masked_fill(broken, IGNORED)
        # Ignored cells are never read: zero keeps NaN of a padded position out of the state.
        scores = tail.scores.masked_fill(label == IGNORED, 0.0)
        arrived = (joined.label[:, -live_rows:] != IGNORED).any()
        for buffer, new in zip(
            self._rows(), tail._replace(scores=scores, label=label), strict=True
        ):
            buffer.copy_(torch.where(arrived, new.to(buffer.dtype), buffer))

    def _rows(self) -> Rows:
        return Rows(self.scores, self.label, self.weight, self.iid)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        saved = {
            name: state_dict[prefix + name]
            for name, _ in self.named_buffers()
            if prefix + name in state_dict
        }
        for name, tensor in saved.items():
            if tensor.dtype == torch.float64 and getattr(self, name).dtype == torch.float32:
                setattr(self, name, getattr(self, name).double())
        saved_size = saved["label"].shape[-1] if "label" in saved else self.size
        if saved_size != self.size:
            warnings.warn(
                f"The checkpoint holds a queue of {saved_size} rows, this loss one of "
                f"{self.size}; the newest rows that fit are kept.",
                UserWarning,
                stacklevel=2,
            )
            fresh = _empty(len(self.label), self.size)._asdict()
            kept = min(saved_size, self.size)
            for name, tensor in saved.items():
                resized = fresh[name].to(tensor)
                if resized.shape[:-1] != tensor.shape[:-1]:
                    continue  # another number of classes: torch reports the mismatch
                if kept:
                    resized[..., -kept:] = tensor[..., -kept:]
                state_dict[prefix + name] = resized
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _empty(num_classes: int, size: int) -> Rows:
    return Rows(
        scores=torch.zeros(num_classes, size),
        label=torch.full((num_classes, size), IGNORED, dtype=torch.int8),
        weight=torch.ones(size),
        iid=torch.ones(size, dtype=torch.bool),
    )
