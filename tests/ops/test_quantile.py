"""Masked quantiles against numpy's definition on the sorted members of each row."""

import math

import pytest
import torch
from torch import Tensor

from imbalanced_losses._ops.quantile import INTERPOLATIONS, masked_quantiles

LEVELS = [0.0, 0.1, 0.25, 0.5, 0.995, 1.0]
NEAR_THE_TOP = [0.995, 1.0]

# From a cell of each kind: rows that fill the bins of a deep search well, badly, or only one.
SHAPES = {
    "normal": lambda x: x,
    "far from zero": lambda x: 1e6 + x,
    "heavy tails": lambda x: x.sinh().pow(5),
    "skewed": lambda x: (4 * x - 9).exp(),
    "clusters": lambda x: x.round() + 1e-4 * x,
    "ties": lambda x: x.round(),
    "one constant row": lambda x: torch.cat((torch.zeros_like(x[:1]), x[1:])),
    "constant": torch.zeros_like,
    "sorted": lambda x: x.sort(1).values,
    "nearly constant": lambda x: (x > 3.2) * 1e-40,
    "the whole range": lambda x: x / x.abs().max() * torch.finfo(x.dtype).max,
}


def expected(values: Tensor, member: Tensor, levels: list[float], how: str) -> Tensor:
    """`[C, Q]`, one by one."""
    found = values.new_full((len(values), len(levels)), torch.nan)
    for row, (cells, kept) in enumerate(zip(values, member, strict=True)):
        ordered = cells[kept].sort().values
        for column, level in enumerate(levels if len(ordered) else ()):
            position = (len(ordered) - 1) * level
            position = round(position) if abs(position - round(position)) < 1e-9 else position
            low, high = ordered[math.floor(position)], ordered[math.ceil(position)]
            found[row, column] = {
                "lower": low,
                "higher": high,
                "nearest": ordered[round(position)],
                "midpoint": low.lerp(high, 0.5),
                "linear": low.lerp(high, torch.tensor(position % 1, dtype=low.dtype)),
            }[how]
    return found


def cells(classes: int, rows: int, share: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    values = torch.randn(classes, rows, generator=generator, dtype=dtype)
    return values, torch.rand(classes, rows, generator=generator) < share


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("levels", [LEVELS, NEAR_THE_TOP], ids=["deep", "top"])
@pytest.mark.parametrize("rows", [1, 2, 10, 41, 700, 3001])
@pytest.mark.parametrize("share", [0.02, 0.7, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_definition(rows, share, levels, interpolation, dtype) -> None:
    values, member = cells(4, rows, share, dtype)
    member[0] = False
    found = masked_quantiles(values, member, levels, interpolation)
    assert found.dtype == dtype
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    wanted = expected(values, member, levels, interpolation)
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("rows", [1, 700, 3001, 9001])
@pytest.mark.parametrize("share", [0.0, 0.02, 1.0])
def test_a_row_alone_equals_the_definition(rows, share, interpolation) -> None:
    values, member = cells(1, rows, share, torch.float64)
    found = masked_quantiles(values, member, LEVELS, interpolation)
    wanted = expected(values, member, LEVELS, interpolation)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_equals_torch_on_the_members(interpolation) -> None:
    values, member = cells(4, 1000, 0.7, torch.float64)
    found = masked_quantiles(values, member, LEVELS, interpolation)
    levels = torch.tensor(LEVELS, dtype=torch.float64)
    for row, kept, quantiles in zip(values, member, found, strict=True):
        wanted = torch.quantile(row[kept], levels, interpolation=interpolation)
        torch.testing.assert_close(quantiles, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("levels", [LEVELS, NEAR_THE_TOP], ids=["deep", "top"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [0.01, 0.9, 1.0])
def test_is_exact_for_values_of_every_shape(shape, levels, share) -> None:
    values, member = cells(3, 3001, share, torch.float32)
    values = SHAPES[shape](values)
    for interpolation in ("lower", "higher"):
        found = masked_quantiles(values, member, levels, interpolation)
        assert torch.equal(found, expected(values, member, levels, interpolation))


@pytest.mark.parametrize("rows", [41, 3001])
@pytest.mark.parametrize("levels", [LEVELS, NEAR_THE_TOP], ids=["deep", "top"])
def test_what_is_no_member_has_no_influence(rows, levels) -> None:
    """Not even NaN; infinite members are ordered like others."""
    values, member = cells(3, rows, 0.8, torch.float32)
    values[:, ::7] = torch.inf
    values[:, 1::7] = -torch.inf
    wanted = masked_quantiles(values.where(member, 0.0), member, levels, "higher")
    assert torch.equal(wanted, expected(values, member, levels, "higher"))
    assert torch.equal(
        masked_quantiles(values.where(member, torch.nan), member, levels, "higher"), wanted
    )


@pytest.mark.parametrize("rows", [41, 3001])
@pytest.mark.parametrize("levels", [LEVELS, NEAR_THE_TOP], ids=["deep", "top"])
@pytest.mark.parametrize("interpolation", ["higher", "linear"])
def test_a_transform_changes_nothing(rows, levels, interpolation) -> None:
    values, member = cells(6, rows, 0.8, torch.float32)
    member[0] = False
    wanted = masked_quantiles(values, member, levels, interpolation)
    found = torch.func.vmap(lambda v, m: masked_quantiles(v, m, levels, interpolation))(
        values.view(2, 3, rows), member.view(2, 3, rows)
    )
    assert torch.equal(found.flatten(0, 1).nan_to_num(9), wanted.nan_to_num(9))


@pytest.mark.parametrize("levels", [LEVELS, NEAR_THE_TOP], ids=["deep", "top"])
def test_compiles_to_one_graph_for_all_lengths(levels) -> None:
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(masked_quantiles, fullgraph=True, dynamic=True, backend=count)
    for rows in (2001, 2500, 3001):
        values, member = cells(3, rows, 0.8, torch.float32)
        wanted = masked_quantiles(values, member, levels, "higher")
        assert torch.equal(compiled(values, member, levels, "higher"), wanted)
    assert len(graphs) == 1


@pytest.mark.parametrize(("classes", "rows"), [(3, 40), (3, 3000), (1000, 5)])
def test_takes_tensors_of_any_layout(classes, rows) -> None:
    values, member = (cell.t() for cell in cells(rows, classes, 0.8, torch.float32))
    wanted = expected(values, member, LEVELS, "higher")
    found = masked_quantiles(values, member, LEVELS, "higher")
    torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("rows", [0, 3, 3000])
def test_a_row_without_members_has_none(rows) -> None:
    values = torch.arange(2.0 * rows).view(2, rows)
    member = torch.zeros(2, rows, dtype=torch.bool)
    for levels in ([0.5, 1.0], [1.0]):
        assert masked_quantiles(values, member, levels, "linear").isnan().all()


def test_a_level_that_means_a_row_is_that_row() -> None:
    """(1 - 0.9) * 10 falls short of 1 in floating point; "lower" must not take row 0."""
    values = torch.arange(11.0).unsqueeze(0)
    member = torch.ones_like(values, dtype=torch.bool)
    assert masked_quantiles(values, member, [1 - 0.9], "lower") == 1
    assert masked_quantiles(values, member, [0.7], "higher") == 7


@pytest.mark.parametrize("row", [2**23 + 1, 2**24 + 1])
def test_more_rows_than_float32_can_count(row) -> None:
    """torch.quantile itself stops at 16 million."""
    rows = 2**24 + 4
    values = (torch.arange(rows, dtype=torch.int32) - 16).to(torch.float32).flip(0).unsqueeze(0)
    member = torch.ones(1, 1, dtype=torch.bool).expand(1, rows)
    assert masked_quantiles(values, member, [row / (rows - 1)], "higher") == row - 16
