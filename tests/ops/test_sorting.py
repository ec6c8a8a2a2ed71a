"""The order of long rows of floats, found from their bits."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imbalanced_losses._ops import sorting
from imbalanced_losses._ops.sorting import _radix_pays, ascending

LONG = sorting._LONG


@pytest.fixture(autouse=True, scope="module")
def radix():
    """Whatever this build of torch sorts integers by."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorting, "_HAS_RADIX", True)
        yield


def assert_ascending(values) -> None:
    ordered, origin = ascending(values)
    assert torch.equal(ordered, values.sort(1).values)
    assert torch.equal(values.gather(1, origin), ordered)
    assert torch.equal(origin.sort(1).values, torch.arange(values.shape[1]).expand_as(origin))


@given(
    st.lists(st.floats(allow_nan=False, width=32), min_size=1, max_size=50), st.sampled_from([1, 3])
)
def test_bits_are_ordered_as_values(values, rows) -> None:
    """Zeros of both signs, denormal numbers, ties and infinities."""
    line = torch.tensor(values).repeat(LONG // len(values) + 1)
    values = torch.stack([line.roll(row) * (-1) ** row for row in range(rows)])
    assert _radix_pays(values)
    assert_ascending(values)


@pytest.mark.parametrize("rows", [1, 2, sorting._MOST_ROWS])
def test_a_table_that_is_transposed(rows) -> None:
    values = torch.randn(LONG // rows, rows + 1).t()[1:]
    assert _radix_pays(values)
    assert_ascending(values)


@pytest.mark.parametrize(
    ("rows", "length", "dtype"),
    [
        (1, LONG - 1, torch.float32),
        (1, LONG, torch.float64),
        (sorting._MOST_ROWS + 1, 200, torch.float32),
        (2, sorting._MOST_OF_ROWS, torch.float32),
    ],
)
def test_others_are_sorted_by_torch(rows, length, dtype) -> None:
    values = torch.randn(rows, length, dtype=dtype)
    assert not _radix_pays(values)
    assert_ascending(values)


def test_nor_without_a_radix_sort(monkeypatch) -> None:
    monkeypatch.setattr(sorting, "_HAS_RADIX", False)
    assert not _radix_pays(torch.randn(1, LONG))
