"""A subsample of a pool with a quota for each class, the same on every rank."""

import torch
from torch import Tensor

from imbalanced_losses._pool.pool import Pool


def subsample(pool: Pool, size: int, draw: Tensor) -> Pool:
    """`size` rows of the pool: a quota for each observed class, then uniformly at random.

    The quota is size // (2 * number of observed classes), at least 1. Rows that are positive for no
    class count as one class more, so a binary pool has the two classes one expects.

    Args:
        pool: M > `size` rows.
        size: Rows to keep.
        draw: Number of the draw, int64 `[]`. The same draw from a pool of the same length takes the
            same random keys on every rank and after a restart.
    """
    # The quota takes the rows of lowest key in each class and leaves high ones, so that a uniform
    # fill needs keys of its own.
    quota_keys, fill_keys = _uniform(2 * pool.positive.shape[1], draw).chunk(2)
    order = quota_keys.argsort()
    observed = pool.valid.any(0)
    unlabelled = observed & ~pool.positive.any(0)
    members = torch.cat((pool.positive, unlabelled.unsqueeze(0)))[:, order]
    groups = members.any(1).sum()
    quota = (size // (2 * groups).clamp(min=1)).clamp(min=1)
    reserved = (members & (members.cumsum(1) <= quota)).any(0)
    # Keys are in [0, 1): reserved rows come first, then observed ones, then empty slots.
    priority = observed[order] + 1.0 * reserved + fill_keys
    chosen = order[priority.topk(size).indices]
    return pool._replace(
        scores=pool.scores[:, chosen],
        positive=pool.positive[:, chosen],
        negative=pool.negative[:, chosen],
        weight=pool.weight[chosen],
        iid=pool.iid[chosen],
        drawn=chosen,
    )


def _uniform(count: int, draw: Tensor) -> Tensor:
    """`count` numbers in [0, 1) from a 32-bit hash of their position and the number of the draw.

    A generator would need one seed on all ranks and its state in the checkpoint; a counter needs
    neither. The hash is `lowbias32` (Wellons, "Prospecting for Hash Functions", 2018).
    """
    position = torch.arange(count, device=draw.device)
    bits = _hash((position + _hash(draw + 1)) & 0xFFFFFFFF)
    return (bits >> 8).to(torch.float32) / 2**24


def _hash(bits: Tensor) -> Tensor:
    bits = bits ^ (bits >> 16)
    bits = (bits * 0x7FEB352D) & 0xFFFFFFFF
    bits = bits ^ (bits >> 15)
    bits = (bits * 0x846CA68B) & 0xFFFFFFFF
    return bits ^ (bits >> 16)
