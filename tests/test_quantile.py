"""Masked quantiles against torch.quantile."""

import pytest
import torch

from imbalanced_losses._kernel.quantile import INTERPOLATIONS, masked_quantiles

LEVELS = [0.0, 0.1, 0.25, 0.5, 0.995, 1.0]


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("rows", [1, 2, 10, 41])
def test_equals_torch_on_the_members(rows, interpolation) -> None:
    generator = torch.Generator().manual_seed(rows)
    values = torch.randn(4, rows, dtype=torch.float64, generator=generator)
    member = torch.rand(4, rows, generator=generator) < 0.7
    member[:, 0] = True
    found = masked_quantiles(values, member, LEVELS, interpolation)
    for row, kept, quantiles in zip(values, member, found, strict=True):
        expected = torch.quantile(
            row[kept], torch.tensor(LEVELS, dtype=torch.float64), interpolation=interpolation
        )
        torch.testing.assert_close(quantiles, expected, rtol=1e-12, atol=1e-12)


def test_a_row_without_members_has_none() -> None:
    values = torch.arange(6.0).view(2, 3)
    member = torch.tensor([[False] * 3, [True] * 3])
    found = masked_quantiles(values, member, [0.5], "linear")
    assert found[0].isnan().all()
    assert found[1] == 4
    assert masked_quantiles(values[:, :0], member[:, :0], [0.5, 1.0], "higher").isnan().all()


def test_a_level_that_means_a_row_is_that_row() -> None:
    """(1 - 0.9) * 10 falls short of 1 in floating point; "lower" must not take row 0."""
    values = torch.arange(11.0).unsqueeze(0)
    member = torch.ones_like(values, dtype=torch.bool)
    assert masked_quantiles(values, member, [1 - 0.9], "lower") == 1


def test_more_rows_than_float32_can_count() -> None:
    """torch.quantile itself stops at 16 million."""
    rows = 2**24 + 4
    values = torch.arange(rows, dtype=torch.int32).to(torch.float64).flip(0).unsqueeze(0)
    member = torch.ones(1, 1, dtype=torch.bool).expand(1, rows)
    assert masked_quantiles(values, member, [1 - 2 / (rows - 1)], "higher") == rows - 3
