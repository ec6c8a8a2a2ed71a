"""Soft counts of one list of scores as another list sees them, in O(n log n).

The soft count that a query q takes of sources s under weights w is

    G(q) = sum_j w_j sigma((s_j - q) / tau),    sigma the logistic function.

With z = exp(-|s_j - q| / tau) in (0, 1], a term is z / (1 + z) for s_j <= q and 1 - z / (1 + z) for
s_j > q. On [0, 1] the function 1 / (1 + z) is analytic with its nearest pole at z = -1, so a
polynomial of K terms is exact to (3 + sqrt 8)^-K, and each power z^k = exp(-k |s_j - q| / tau)
factors along the sorted order into decays that never exceed 1. K decayed running sums replace the
matrix of all pairs.

The sorted sources are cut into blocks. A query takes the sigmoids of its own block one by one
("near"); all other blocks reach it through the K decayed sums at its block's two edges ("far").
The derivative needs the same sums with sigma' = z / (1 + z)^2.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from imbalanced_losses._ops.constants import constants
from imbalanced_losses._ops.precision import bmm
from imbalanced_losses._ops.runtime import is_compiling, is_followed
from imbalanced_losses._ops.scans import running_sum, scan
from imbalanced_losses._ops.soft_counts.pairs import SoftCounts, pair_counts, slopes_
from imbalanced_losses._ops.soft_counts.series import series_coefficients
from imbalanced_losses._ops.soft_step import (
    decay_,
    soft_steps_,
)
from imbalanced_losses._ops.sorting import ascending

# Sources in a block, and K, the powers of a decay: errors of about 1e-7 in float32 and 1e-14 in
# float64. Both are chosen from the trade-off of time and error shown in benchmarks/NOTES.md.
BLOCK = 16
TERMS = {torch.float32: 10, torch.float64: 22}

# Up to so many pairs for every score, taking them all costs less; and memory for so many at most.
_PAIRS_PER_SCORE = 96
_MOST_PAIRS = 2**26
# Numbers in a temporary, so that a core keeps it in its cache. An accelerator has none of that
# size; there the bound is one on memory.
_CELLS = 2**17
_CELLS_OF_ACCELERATOR = 2**25


def soft_counts(
    queries: Tensor,
    sources: Tensor,
    weights: Tensor,
    temperature: Tensor,
    movable: int = 0,
) -> SoftCounts:
    """Soft counts that the queries take of the sources, and the way back to their gradients.

    Args:
        queries: `[C, Q]`, finite.
        sources: `[C, S]`, finite, in any order.
        weights: `[C, W, S]`, W weights of every source.
        temperature: tau > 0, `[]` or `[C]`.
        movable: The first column of the sources for which a gradient is wanted.

    Returns:
        The sums over j of `weights[c, w, j] * sigmoid((sources[c, j] - queries[c, i]) / tau)`. A
        list on autograd's graph, whose second derivative is wanted, takes O(Q S).
    """
    if temperature.ndim == 0:
        temperature = temperature.expand(len(queries))
    followed = is_followed(queries) or is_followed(sources)
    if followed or _few_pairs(len(queries), queries.shape[1], sources.shape[1]):
        return pair_counts(queries, sources, weights, temperature, movable)
    field = _Field.of(sources, weights, temperature)
    own = queries is sources
    counts, slopes = field.seen_from_itself() if own else field.seen_from(queries)

    def pull(grad: Tensor) -> tuple[Tensor, Tensor]:
        grad = grad / temperature.view(-1, 1, 1)
        # sigma' is even: the sources see the queries as the queries see them.
        field = _Field.of(queries, grad, temperature)
        if own:
            pulls = field.seen_from_itself()[1][..., movable:]
        else:
            pulls = field.seen_from(sources[:, movable:])[1]
        return -(grad * slopes).sum(1), (weights[..., movable:] * pulls).sum(1)

    return SoftCounts(counts, pull)


def _few_pairs(classes: int, queries: int, sources: int) -> bool:
    pairs = queries * sources
    return pairs <= _PAIRS_PER_SCORE * (queries + sources) and classes * pairs <= _MOST_PAIRS


class _Field(NamedTuple):
    """Sorted sources in blocks, and what lies left and right of each block as K decayed sums.

    The blocks of all classes lie along the last dimension, where arithmetic is fastest.
    """

    scores: Tensor  # [L, C * B]
    weights: Tensor  # [W * L, C * B]
    edges: Tensor  # [2, C * B]: where the block begins, and where the next one does
    rate: Tensor  # [C * B]: 1 / tau
    sums: Tensor  # [W * 2 * K, C * B]: what is left of it, seen from its begin; right, from its end
    above: Tensor  # [W, C * B]: the weight to the right of it
    order: Tensor  # [C, S]: where each of the sorted sources came from

    @classmethod
    def of(cls, sources: Tensor, weights: Tensor, temperature: Tensor) -> "_Field":
        (classes, size), vectors = sources.shape, weights.shape[1]
        count = (size + BLOCK - 1) // BLOCK
        sorted_scores, order = ascending(sources)
        # Padding repeats the highest score with weight 0.
        padding = sorted_scores[:, -1:].expand(classes, count * BLOCK - size)
        scores = torch.cat((sorted_scores, padding), 1).view(classes, count, BLOCK)
        weights = weights.gather(2, order.unsqueeze(1).expand_as(weights))
        if is_compiling():
            # A compiler would form them anew in each of the K sums; strides it must see in memory.
            weights = weights.as_strided(weights.size(), weights.stride())
        weights = F.pad(weights, (0, count * BLOCK - size)).view(classes, vectors, count, BLOCK)
        begins, end = scores[..., 0], scores[:, -1:, -1]
        edges = torch.stack((begins, torch.cat((begins[:, 1:], end), 1))).view(2, -1)
        rate = temperature.reciprocal().unsqueeze(1).expand(classes, count).reshape(-1)
        columns = (
            scores.view(-1, BLOCK).t().contiguous(),
            weights.permute(1, 3, 0, 2).contiguous().view(vectors * BLOCK, -1),
            edges,
            rate,
        )
        height = 2 * vectors * BLOCK * TERMS[rate.dtype]
        moments = torch.cat([_moments(*part) for part in _parts(height, *columns)], -1)
        sums = _travel(
            moments.view(vectors, 2, -1, classes, count),
            _decays(edges[1:] - edges[:1], rate).view(-1, classes, count),
        )
        totals = weights.sum(3)
        above = (totals.sum(2, keepdim=True) - running_sum(totals)).transpose(0, 1)
        by_block = classes * count
        return cls(*columns, sums.view(-1, by_block), above.reshape(vectors, by_block), order)

    def seen_from_itself(self) -> tuple[Tensor, Tensor]:
        """Sums with the kernels sigma and sigma' where the sources are, `[C, W, S]` each.

        Every block has its own L queries: none is looked up, and no block is gathered.
        """
        (classes, size), vectors = self.order.shape, len(self.above)
        parts = _parts(len(self.weights) * BLOCK, *self[:6])
        seen = torch.cat(
            [_seen(part[0], *(column.unsqueeze(-2) for column in part)) for part in parts], -1
        )
        in_order = seen.view(vectors, 2, BLOCK, classes, -1).permute(1, 3, 0, 4, 2)
        in_order = in_order.reshape(2, classes, vectors, -1)[..., :size]
        place = self.order.unsqueeze(1).expand_as(in_order)
        counts, slopes = torch.empty_like(in_order).scatter_(3, place, in_order)
        return counts, slopes

    def seen_from(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Sums with the kernels sigma and sigma', `[C, W, Q]` each."""
        classes, size = queries.shape
        begins = self.edges[0].view(classes, -1)
        block = torch.searchsorted(begins[:, 1:].contiguous(), queries.contiguous(), right=True)
        block += torch.arange(classes, device=block.device).unsqueeze(1) * begins.shape[1]
        parts = _parts(len(self.weights), block.view(-1), queries.reshape(-1))
        seen = torch.cat(
            [
                _seen(query, *(column.index_select(-1, at) for column in self[:6]))
                for at, query in parts
            ],
            -1,
        )
        counts, slopes = seen.view(len(self.above), 2, classes, size).permute(1, 2, 0, 3)
        return counts, slopes


def _seen(
    queries: Tensor,
    scores: Tensor,
    weights: Tensor,
    edges: Tensor,
    rate: Tensor,
    sums: Tensor,
    above: Tensor,
) -> Tensor:
    """Both sums of some queries, each in its block: `[W, 2, *queries.shape]`.

    The others are columns of a `_Field`, in shapes that broadcast with the queries.
    """
    vectors, shape = len(above), above.shape[1:]
    decays = _decays((edges - queries).abs_(), rate).flatten(0, 1)
    coefficients = series_coefficients(TERMS[queries.dtype], queries)
    far = bmm(
        coefficients.expand(vectors, *coefficients.shape),
        (sums.view(vectors, len(sums) // vectors, *shape) * decays).flatten(2),
    )
    steps = soft_steps_((scores - queries) * rate)
    weights = weights.view(vectors, len(weights) // vectors, *shape)
    near_counts = (weights * steps).sum(1).add_(above)
    near_slopes = (weights * slopes_(steps)).sum(1)
    return torch.stack((near_counts, near_slopes), 1).add_(far.view(vectors, 2, *queries.shape))


def _parts(height: int, *columns: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """So many columns of all of these at a time that temporaries of `height` numbers each fit."""
    if is_compiling():
        return iter([columns])
    cells = _CELLS if columns[0].device.type == "cpu" else _CELLS_OF_ACCELERATOR
    return zip(*(torch.split(t, max(1, cells // height), -1) for t in columns), strict=True)


def _decays(distance: Tensor, rate: Tensor) -> Tensor:
    """exp(-k distance rate) for k = 1 .. K, in a new dimension after the first."""
    powers = constants(_negative_powers, TERMS[rate.dtype], rate)
    return decay_((distance * rate).unsqueeze(1) * powers.view(-1, *[1] * (distance.ndim - 1)))


def _negative_powers(terms: int) -> list[float]:
    return [-float(k) for k in range(1, terms + 1)]


def _moments(scores: Tensor, weights: Tensor, edges: Tensor, rate: Tensor) -> Tensor:
    """Weights of every block, decayed on the way to its begin and to its end: `[W, 2, K, n]`."""
    decays = _decays((scores - edges.unsqueeze(1)).abs_(), rate)
    return (weights.view(-1, 1, 1, *scores.shape) * decays).sum(3)


def _travel(moments: Tensor, across: Tensor) -> Tensor:
    """What arrives at the begin of every block from its left, and at its end from its right.

    Args:
        moments: `[W, 2, K, C, B]`: of every block at its begin, and at its end.
        across: `[K, C, B]`: decays from one edge of a block to the other.

    Returns:
        `[W, 2, K, C, B]`.
    """
    begin, end = moments.permute(1, 4, 0, 2, 3)
    across = across.permute(2, 0, 1).unsqueeze(1)
    # Moments at the ends travel right, those at the begins left: one scan with a mirror image.
    sums = scan(torch.stack((end, begin.flip(0)), 1), torch.stack((across, across.flip(0)), 1))
    arriving = torch.cat((torch.zeros_like(sums[:1]), sums[:-1]))
    from_left, from_right = arriving.unbind(1)
    return torch.stack((from_left, from_right.flip(0))).permute(2, 0, 3, 4, 1).contiguous()
