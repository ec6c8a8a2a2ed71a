"""The order of a long line of floats, found from their bits."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imbalanced_losses._kernel import sorting
from imbalanced_losses._kernel.sorting import ascending

LONG = sorting._LONG


@given(st.lists(st.floats(allow_nan=False, width=32), min_size=1, max_size=50))
def test_bits_are_ordered_as_values(values) -> None:
    """Zeros of both signs, denormal numbers, ties and infinities."""
    line = torch.tensor(values).repeat(LONG // len(values) + 1).unsqueeze(0)
    ordered, origin = ascending(line)
    assert torch.equal(ordered, line.sort(1).values)
    assert torch.equal(line.gather(1, origin), ordered)
    assert torch.equal(origin.sort(1).values, torch.arange(line.shape[1]).unsqueeze(0))


@pytest.mark.parametrize(
    ("classes", "rows", "dtype"),
    [(1, LONG - 1, torch.float32), (1, LONG, torch.float64), (2, LONG, torch.float32)],
)
def test_others_are_sorted_by_torch(classes, rows, dtype) -> None:
    values = torch.randn(classes, rows, dtype=dtype)
    found, wanted = ascending(values), values.sort(1)
    assert torch.equal(found[0], wanted.values)
    assert torch.equal(found[1], wanted.indices)


def test_a_line_that_is_a_column_of_a_table() -> None:
    line = torch.randn(LONG, 3).t()[1:2]
    assert torch.equal(ascending(line)[0], line.sort(1).values)
