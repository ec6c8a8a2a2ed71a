"""The memory queue: the last rows that went through a loss."""

import torch
from torch import Tensor
from torch.nn import functional as F

from imbalanced_losses._ops.runtime import readable
from imbalanced_losses._pool.rows import IGNORED, Rows
from imbalanced_losses._warn import warn


class MemoryQueue:
    """The newest `size` rows, detached, from the oldest to the newest.

    Empty slots are rows that every class ignores, so the shape never changes. Rows are kept in
    order of arrival, which makes the last slot the write position: reading is one concatenation,
    writing keeps its tail, and resizing keeps the newest rows that fit.

    The tensors are no buffers of a module. Those are filled with uninitialised memory on the way
    from the meta device, cast with a model, averaged with its weights, and broadcast by
    `DistributedDataParallel` before every step.
    """

    def __init__(self, num_classes: int, size: int, rows: Rows | None = None) -> None:
        self.num_classes = num_classes
        self.size = size
        self.rows = _empty(num_classes, size) if rows is None else rows

    @property
    def scores(self) -> Tensor:
        """What was ranked, `[C, size]`."""
        return self.rows.scores

    @property
    def label(self) -> Tensor:
        """int8 `[C, size]`: 1 positive, 0 negative, -1 ignored or empty."""
        return self.rows.label

    @property
    def weight(self) -> Tensor:
        """Sample weights, `[size]`."""
        return self.rows.weight

    @property
    def iid(self) -> Tensor:
        """Bool `[size]`: fit for thresholds."""
        return self.rows.iid

    def reset(self) -> None:
        """Forget all rows."""
        self.scores.zero_()
        self.label.fill_(IGNORED)
        self.weight.fill_(1)
        self.iid.fill_(True)

    def to(self, device: torch.device) -> None:
        """Move to a device."""
        with torch.inference_mode(False):
            self.rows = Rows(*(rows.to(device) for rows in self.rows))

    def join(self, live: Rows) -> Rows:
        """The queued rows followed by the live ones, on the device of these."""
        if self.size == 0:
            return live
        return Rows(
            *(
                torch.cat((old.to(new.device, new.dtype), new), -1)
                for old, new in zip(self.rows, live, strict=True)
            )
        )

    def widen_for(self, live: Rows) -> None:
        """Make room for float64 rows that are to be pushed."""
        if live.scores.dtype == torch.float64 and self.scores.dtype == torch.float32:
            self._widen()

    @torch.no_grad()
    def push(self, joined: Rows, live_rows: int, nonfinite: Tensor | None) -> None:
        """Keep the tail of `joined`, the result of `join` with finite live rows at its end.

        Ignored rows take a slot; live rows in which a cell is `nonfinite` (`[C, N]`; None: no cell)
        take one as ignored rows. A batch of ignored rows alone leaves the queue as it is.
        """
        if self.size == 0 or live_rows == 0 or joined.label.is_meta:
            return
        arrived = joined.label[:, -live_rows:].amax() != IGNORED
        if readable(arrived) and not arrived:
            return
        if nonfinite is not None and (not readable(nonfinite) or nonfinite.any()):
            rejected = F.pad(nonfinite.any(0), (joined.weight.shape[0] - live_rows, 0))
            joined = joined._replace(
                scores=joined.scores.masked_fill(rejected, 0.0),
                label=joined.label.masked_fill(rejected, IGNORED),
            )
        for kept, tensor in zip(self.rows, joined, strict=True):
            new = tensor[..., -self.size :].to(kept.dtype)
            kept.copy_(new if readable(arrived) else torch.where(arrived, new, kept))

    def packed(self) -> Tensor:
        """All rows as bytes on the CPU, uint8 `[n]`."""
        return torch.cat([rows.cpu().contiguous().view(-1).view(torch.uint8) for rows in self.rows])

    def unpack(self, packed: Tensor, size: int, dtype: torch.dtype) -> None:
        """Take over the rows that `packed` returned for a queue of this size and dtype.

        Of another size, the newest rows that fit are kept, with a warning.
        """
        if size != self.size:
            warn(
                f"The checkpoint holds a queue of {size} rows, this loss one of {self.size}; "
                "the newest rows that fit are kept."
            )
        if dtype == torch.float64:
            self._widen()
        self.reset()
        kept = min(size, self.size)
        fields = _empty(self.num_classes, size, dtype)
        parts = torch.split(packed, [field.numel() * field.itemsize for field in fields])
        for own, field, part in zip(self.rows, fields, parts, strict=True):
            # A copy, for a view in another dtype wants its memory aligned.
            saved = part.clone().view(field.dtype).view(field.shape)
            own[..., self.size - kept :] = saved[..., size - kept :].to(own)

    def _widen(self) -> None:
        self.rows = self.rows._replace(scores=self.scores.double(), weight=self.weight.double())


def packed_bytes(num_classes: int, size: int, dtype: torch.dtype) -> int:
    """Length of `MemoryQueue.packed`."""
    return size * (num_classes * (dtype.itemsize + 1) + dtype.itemsize + 1)


def _empty(num_classes: int, size: int, dtype: torch.dtype = torch.float32) -> Rows:
    """Rows that every class ignores, whatever device and dtype are the default."""
    return Rows(
        scores=torch.zeros(num_classes, size, dtype=dtype, device="cpu"),
        label=torch.full((num_classes, size), IGNORED, dtype=torch.int8, device="cpu"),
        weight=torch.ones(size, dtype=dtype, device="cpu"),
        iid=torch.ones(size, dtype=torch.bool, device="cpu"),
    )
