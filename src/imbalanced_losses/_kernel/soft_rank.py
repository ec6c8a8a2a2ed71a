"""Soft counts of sorted scores in O(M log M): the engine of Smooth-AP and of pairwise pAUC.

The soft count of a row i under weights w is

    G(i) = sum_j w_j sigma((s_j - s_i) / tau),    sigma the logistic function.

With z = exp(-|s_j - s_i| / tau) in (0, 1], a term is z / (1 + z) for s_j <= s_i and
1 - z / (1 + z) for s_j > s_i. On [0, 1] the function 1 / (1 + z) is analytic with its nearest pole
at z = -1, so a polynomial of K terms is exact to (3 + sqrt 8)^-K, and each power
z^k = exp(-k |s_j - s_i| / tau) factors along the sorted order into decays that never exceed 1.
K decayed running sums replace the [M, M] matrix.

The sorted row is cut into blocks. Inside a block the sigmoids are taken pair by pair ("near");
between blocks travel the K decayed sums ("far"), seen from the block's lowest and highest score.
The derivative needs the same sums with sigma' = z / (1 + z)^2.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from imbalanced_losses._kernel.pairs import derivative_, differentiable_slopes, steps_between
from imbalanced_losses._kernel.soft_step import SMALLEST_EXPONENT, no_autocast

BLOCK = 32
# Cells of the [C, M] matrix worked on at a time: bounds memory when there are many classes.
_CELLS = 2**20
# Pairwise blocks evaluated at a time: bounds memory and keeps the temporaries in cache.
_CHUNK = 512


def soft_counts(ascending: Tensor, weights: Tensor, temperature: Tensor) -> Tensor:
    """Soft counts of every row, differentiable in the scores.

    A second differentiation works, in O(M^2).

    Args:
        ascending: Scores `[C, M]`, each row of the matrix sorted from low to high, finite.
        weights: `[C, W, M]`, W weight vectors per class, in the order of `ascending`.
        temperature: tau > 0, `[]` or `[C]`, without gradient.

    Returns:
        `[C, W, M]`: sum over j of `weights[c, w, j] * sigmoid((s_j - s_i) / tau)`, j = i included.
    """
    classes, rows = ascending.shape
    if rows == 0:
        return ascending.unsqueeze(1).expand_as(weights)
    at_once = classes if torch.compiler.is_compiling() else max(1, _CELLS // rows)
    operands = (ascending, weights, temperature.expand(classes))
    chunks = zip(*(torch.split(operand, at_once) for operand in operands), strict=True)
    return torch.cat([_SoftCounts.apply(*chunk)[0] for chunk in chunks])  # type: ignore[no-untyped-call]


class _SoftCounts(torch.autograd.Function):
    @staticmethod
    def forward(ascending: Tensor, weights: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
        with no_autocast(ascending):
            blocks = _Blocks.cut(ascending, temperature)
            return blocks.counts_and_slopes(blocks.moments(weights))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        _, slopes = output
        ctx.save_for_backward(*inputs, slopes)
        ctx.mark_non_differentiable(slopes)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, None, None]:
        if grad is None:
            return None, None, None
        ascending, weights, temperature, slopes = ctx.saved_tensors
        # sigma' is even: one kernel serves "i sees j" (slopes) and "j sees i" (pulls).
        with no_autocast(ascending):
            if torch.is_grad_enabled():
                kernel = differentiable_slopes(ascending, ascending, temperature)
                pulls, slopes = torch.matmul(grad, kernel), torch.matmul(weights, kernel)
            else:
                blocks = _Blocks.cut(ascending, temperature)
                pulls = blocks.slopes(blocks.moments(grad))
        by_score = (weights * pulls - grad * slopes).sum(1)
        return by_score / temperature.unsqueeze(1), None, None


class _Sources(NamedTuple):
    """Weights in blocks, and what lies left and right of each block as K decayed sums."""

    weights: Tensor  # [C * B, W, L]
    left: Tensor  # [C * B, W, K], seen from the block's lowest score
    right: Tensor  # [C * B, W, K], seen from the block's highest score


class _Blocks(NamedTuple):
    """Sorted scores cut into blocks of L, with the powers of their decays to either end."""

    scores: Tensor  # [C * B, L]
    rates: Tensor  # k / tau for k = 1 .. K, [C, 1, K, 1]
    from_low: Tensor  # exp(-k (s - lowest) / tau), [C * B, K, L]
    from_high: Tensor  # exp(-k (highest - s) / tau), [C * B, K, L]
    shape: tuple[int, int, int]  # C, B and the M rows before padding

    @classmethod
    def cut(cls, ascending: Tensor, temperature: Tensor) -> "_Blocks":
        classes, rows = ascending.shape
        count = (rows + BLOCK - 1) // BLOCK
        # Padding repeats the highest score with weight 0: no gap, no contribution.
        padding = ascending[:, -1:].expand(classes, count * BLOCK - rows)
        scores = torch.cat((ascending, padding), 1).view(classes, count, BLOCK)
        terms = _terms(scores)
        powers = torch.arange(1, terms + 1, dtype=scores.dtype, device=scores.device)
        rates = temperature.reciprocal().view(-1, 1, 1, 1) * powers.view(-1, 1)
        from_low = _decay((scores[..., :1] - scores).unsqueeze(2) * rates)
        from_high = _decay((scores - scores[..., -1:]).unsqueeze(2) * rates)
        return cls(
            scores.view(-1, BLOCK),
            rates,
            from_low.view(-1, terms, BLOCK),
            from_high.view(-1, terms, BLOCK),
            (classes, count, rows),
        )

    def moments(self, weights: Tensor) -> _Sources:
        """Decayed sums of the weights on either side of every block."""
        classes, count, rows = self.shape
        vectors, terms = weights.shape[1], self.from_low.shape[1]
        padded = F.pad(weights, (0, count * BLOCK - rows)).view(classes, vectors, count, BLOCK)
        blocked = padded.transpose(1, 2).reshape(-1, vectors, BLOCK)
        # Sums travel right from each block's highest score and left from its lowest; the leftward
        # ones are mirrored, so that one scan serves both.
        rightward = torch.bmm(blocked, self.from_high.transpose(1, 2))
        leftward = torch.bmm(blocked, self.from_low.transpose(1, 2))
        by_block = (classes, count, vectors, terms)
        sums = torch.stack(
            (
                rightward.view(by_block).permute(0, 2, 3, 1),
                leftward.view(by_block).permute(0, 2, 3, 1).flip(-1),
            )
        )
        low = self.scores[:, 0].view(classes, count)
        high = self.scores[:, -1].view(classes, count)
        decays = torch.stack(
            (
                self._decay_across(high[:, :-1] - high[:, 1:]),
                self._decay_across(low[:, :-1] - low[:, 1:]).flip(-1),
            )
        )
        running = _scan(sums, F.pad(decays, (1, 0)))
        gap = self._decay_across(high[:, :-1] - low[:, 1:])
        left = F.pad(running[0, ..., :-1] * gap, (1, 0))
        right = F.pad(running[1].flip(-1)[..., 1:] * gap, (0, 1))
        # Batched products are fast on contiguous operands only.
        seen = torch.stack((left, right)).permute(0, 1, 4, 2, 3).contiguous()
        return _Sources(blocked, *seen.view(2, -1, vectors, terms))

    def counts_and_slopes(self, sources: _Sources) -> tuple[Tensor, Tensor]:
        """Sums with the kernels sigma and sigma'."""
        classes, count, _ = self.shape
        totals = sources.weights.sum(-1).view(classes, count, -1)
        above = (totals.sum(1, keepdim=True) - totals.cumsum(1)).view(-1, totals.shape[-1], 1)
        series = _coefficients(_COUNT_SERIES, self.scores)
        far = torch.baddbmm(above, sources.right * series, self.from_high, alpha=-1)
        far = torch.baddbmm(far, sources.left * series, self.from_low)
        near_counts, near_slopes = [], []
        for weights, sigma in self._pairs(sources.weights):
            near_counts.append(torch.bmm(weights, sigma))
            near_slopes.append(torch.bmm(weights, derivative_(sigma)))
        counts = self._in_rows(far + torch.cat(near_counts))
        return counts, self._in_rows(self._far_slopes(sources) + torch.cat(near_slopes))

    def slopes(self, sources: _Sources) -> Tensor:
        """Sums with the kernel sigma' alone."""
        pairs = self._pairs(sources.weights)
        near = [torch.bmm(weights, derivative_(sigma)) for weights, sigma in pairs]
        return self._in_rows(self._far_slopes(sources) + torch.cat(near))

    def _far_slopes(self, sources: _Sources) -> Tensor:
        series = _coefficients(_SLOPE_SERIES, self.scores)
        far = torch.bmm(sources.right * series, self.from_high)
        return torch.baddbmm(far, sources.left * series, self.from_low)

    def _pairs(self, weights: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Chunk after chunk of blocks: weights, and sigma of all pairs `[n, L (j), L (i)]`."""
        rate = self.rates[:, 0, 0, 0].repeat_interleave(self.shape[1]).view(-1, 1, 1)
        chunk = len(weights) if torch.compiler.is_compiling() else _CHUNK
        chunks = (torch.split(tensor, chunk) for tensor in (self.scores, weights, rate))
        for s, w, r in zip(*chunks, strict=True):
            yield w, steps_between(s, s, r)

    def _decay_across(self, gap: Tensor) -> Tensor:
        """Powers of the decay over gaps `[C, n]`, none positive, between blocks: `[C, 1, K, n]`."""
        return _decay(gap[:, None, None, :] * self.rates)

    def _in_rows(self, blocked: Tensor) -> Tensor:
        classes, count, rows = self.shape
        by_block = blocked.view(classes, count, -1, BLOCK).transpose(1, 2)
        # Negative padding crops to a length that the compiler knows to be the M it began with.
        return F.pad(by_block.reshape(classes, -1, count * BLOCK), (0, rows - count * BLOCK))


def _decay(exponent: Tensor) -> Tensor:
    return exponent.clamp_(min=SMALLEST_EXPONENT).exp_()


def _scan(sums: Tensor, decays: Tensor) -> Tensor:
    """y_b = sums_b + decays_b y_(b-1) along the last dimension, by doubling."""
    step, length = 1, sums.shape[-1]
    while step < length:
        carried = decays[..., step:] * sums[..., :-step]
        sums = torch.cat((sums[..., :step], sums[..., step:] + carried), -1)
        decays = decays * F.pad(decays[..., :-step], (step, 0))
        step *= 2
    return sums


def _terms(scores: Tensor) -> int:
    """K, the number of powers: error about 1e-7 relative in float32, 1e-14 in float64."""
    return 22 if scores.dtype == torch.float64 else 11


def _coefficients(series: dict[int, list[float]], scores: Tensor) -> Tensor:
    coefficients = tuple(series[_terms(scores)])
    if torch.compiler.is_compiling():
        return torch.tensor(coefficients, dtype=scores.dtype, device=scores.device)
    return _kept(coefficients, scores.dtype, scores.device)


@lru_cache
def _kept(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Kept on its device: a tensor made from a list is a copy that an accelerator waits for."""
    return torch.tensor(values, dtype=dtype, device=device)


def _monomials(chebyshev: list[float]) -> list[float]:
    """Coefficients in z of sum_n chebyshev[n] T_n(2z - 1), with exact integer polynomials T_n."""
    size = len(chebyshev)
    result = [0.0] * size
    # T_0 = 1 and T_1 = 2z - 1, padded to one length; T_(n+1) = (4z - 2) T_n - T_(n-1).
    polynomial, following = [1] + [0] * size, [-1, 2] + [0] * (size - 1)
    for weight in chebyshev:
        result = [r + weight * p for r, p in zip(result, polynomial[:size], strict=True)]
        shifted = [0, *following[:-1]]
        after = [4 * s - 2 * f - p for s, f, p in zip(shifted, following, polynomial, strict=True)]
        polynomial, following = following, after
    return result


def _series(terms: int, *, derivative: bool) -> list[float]:
    """Polynomial p of `terms` coefficients with p(z) = 1 / (1 + z), or 1 / (1 + z)^2, on [0, 1].

    With x = 2z - 1, 1 / (1 + z) = 2 / (3 + x), whose Chebyshev series is
    (2 / sqrt 8) (1 + 2 sum_n (-rho)^n T_n(x)), rho = 3 - sqrt 8; the derivative of 1 / (a + x) by a
    at a = 3 gives the square. The kernels are z p(z), so their error is relative at small z.
    """
    root = 8**0.5
    rho = 1 / (3 + root)
    if derivative:
        chebyshev = [4 * (3 / root**3 + n / 8) * (-rho) ** n for n in range(terms)]
    else:
        chebyshev = [2 / root * (-rho) ** n for n in range(terms)]
    return _monomials([chebyshev[0], *(2 * c for c in chebyshev[1:])])


_COUNT_SERIES = {terms: _series(terms, derivative=False) for terms in (11, 22)}
_SLOPE_SERIES = {terms: _series(terms, derivative=True) for terms in (11, 22)}
