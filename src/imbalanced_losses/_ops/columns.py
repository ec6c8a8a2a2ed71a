"""The last columns of a matrix."""

from torch import Tensor


def columns_from(values: Tensor, first: int) -> Tensor:
    """`values[..., first:]`, and the values themselves where that is all of them.

    On a small batch a view costs as much as arithmetic.
    """
    return values[..., first:] if first else values
