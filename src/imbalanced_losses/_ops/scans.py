"""Running sums, with and without decay."""

import torch
from torch import Tensor

from imbalanced_losses._ops.soft_step import no_denormals_


def running_sum(terms: Tensor) -> Tensor:
    """Running sums along the last dimension, also where CUDA's are refused as not repeatable."""
    if not torch.are_deterministic_algorithms_enabled():
        return terms.cumsum(-1)
    columns = terms.movedim(-1, 0)
    return scan(columns, torch.ones_like(columns)).movedim(0, -1)


def scan(terms: Tensor, decays: Tensor) -> Tensor:
    """y_b = terms_b + decays_b y_(b-1) along the first dimension.

    Every two steps are joined into one, until few are left.
    """
    length = len(terms)
    if length <= 4:
        result = [terms[0]]
        for term, decay in zip(terms[1:], decays[1:], strict=True):
            result.append(torch.addcmul(term, decay, result[-1]))
        return torch.stack(result)
    second, second_decays = terms[1::2], decays[1::2]
    first, first_decays = terms[: len(second) * 2 : 2], decays[: len(second) * 2 : 2]
    sums = torch.empty_like(terms)
    sums[1::2] = scan(
        torch.addcmul(second, second_decays, first), no_denormals_(second_decays * first_decays)
    )
    sums[0] = terms[0]
    sums[2::2] = torch.addcmul(terms[2::2], decays[2::2], sums[1 : length - 1 : 2])
    return sums
