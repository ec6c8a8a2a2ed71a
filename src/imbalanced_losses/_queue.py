"""The memory queue: the last rows that went through a loss, wholly in its state_dict."""

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from imbalanced_losses._buffers import PreciseBuffers
from imbalanced_losses._ops.runtime import readable
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
        self.scores.zero_()
        self.label.fill_(IGNORED)
        self.weight.fill_(1)
        self.iid.fill_(True)

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
    def push(self, joined: Rows, live_rows: int, broken: Tensor | None) -> None:
        """Keep the tail of `joined`, the result of `join` with finite live rows at its end.

        Ignored rows take a slot; live rows in which a cell is `broken` (`[C, N]`; None: no cell)
        take one as ignored rows. A batch of ignored rows alone leaves the queue as it is.
        """
        if self.size == 0 or live_rows == 0:
            return
        if joined.scores.dtype == torch.float64 and self.scores.dtype == torch.float32:
            self.scores, self.weight = self.scores.double(), self.weight.double()
        arrived = joined.label[:, -live_rows:].amax() != IGNORED
        if readable(arrived) and not arrived:
            return
        if broken is not None and (not readable(broken) or broken.any()):
            rejected = F.pad(broken.any(0), (joined.weight.shape[0] - live_rows, 0))
            joined = joined._replace(
                scores=joined.scores.masked_fill(rejected, 0.0),
                label=joined.label.masked_fill(rejected, IGNORED),
            )
        for buffer, tensor in zip(self._rows(), joined, strict=True):
            new = tensor[..., -self.size :].to(buffer.dtype)
            buffer.copy_(new if readable(arrived) else torch.where(arrived, new, buffer))

    def _rows(self) -> Rows:
        return Rows(self.scores, self.label, self.weight, self.iid)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        keys = [prefix + name for name in Rows._fields]
        saved = {key: state_dict[key] for key in keys if key in state_dict}
        if len(saved) < len(keys):
            # Torch names the missing keys, and only at the end is it known whether it minds them.
            warnings.warn(
                f"The checkpoint has no memory queue at {prefix!r}: it is of another loss or of "
                "another version. With strict=False it loads and leaves the queue as it is, which "
                "in a new loss is empty.",
                UserWarning,
                stacklevel=2,
            )
        elif not _is_queue(saved.values(), len(self.label)):
            shapes = [list(getattr(value, "shape", ())) for value in saved.values()]
            error_msgs.append(
                f"The checkpoint's memory queue at {prefix!r} does not fit num_classes="
                f"{len(self.label)}: the shapes of {', '.join(Rows._fields)} are {shapes}. Build "
                "the loss as it was, or remove these keys and load with strict=False to start with "
                "an empty queue."
            )
            return  # torch would add an error for each key
        else:
            state_dict.update(self._resized(saved))
            if saved[keys[0]].dtype == torch.float64:
                self.scores, self.weight = self.scores.double(), self.weight.double()
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def _resized(self, saved: dict[str, Tensor]) -> dict[str, Tensor]:
        """The newest of the saved rows that fit, and a warning if the sizes differ."""
        saved_size = len(next(reversed(saved.values())))
        if saved_size == self.size:
            return saved
        warnings.warn(
            f"The checkpoint holds a queue of {saved_size} rows, this loss one of {self.size}; "
            "the newest rows that fit are kept.",
            UserWarning,
            stacklevel=3,
        )
        resized = {}
        for (key, old), fresh in zip(
            saved.items(), _empty(len(self.label), self.size), strict=True
        ):
            kept = min(saved_size, self.size)
            padding = fresh[..., : self.size - kept].to(old)
            resized[key] = torch.cat((padding, old[..., saved_size - kept :]), -1)
        return resized


def _is_queue(saved: Iterable[object], num_classes: int) -> bool:
    """Whether these are tensors of the shapes of a queue of any size."""
    shapes = [tuple(value.shape) for value in saved if isinstance(value, Tensor)]
    size = shapes[-1][0] if shapes and shapes[-1] else 0
    return shapes == [(num_classes, size), (num_classes, size), (size,), (size,)]


def _empty(num_classes: int, size: int) -> Rows:
    return Rows(
        scores=torch.zeros(num_classes, size),
        label=torch.full((num_classes, size), IGNORED, dtype=torch.int8),
        weight=torch.ones(size),
        iid=torch.ones(size, dtype=torch.bool),
    )
