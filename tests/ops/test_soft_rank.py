"""The soft counts by sorting against the matrix of all pairs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from imbalanced_losses._ops.soft_counts import blocks as soft_rank
from imbalanced_losses._ops.soft_counts.blocks import BLOCK, soft_counts


@pytest.fixture(autouse=True)
def by_sorting(monkeypatch) -> None:
    """Short lists as well, unless a test says otherwise."""
    monkeypatch.setattr(soft_rank, "_PAIRS_PER_SCORE", 0)


def all_pairs(queries, sources, weights, temperature, upstream) -> tuple[Tensor, ...]:
    """Counts and both gradients, from the matrix of all pairs by autograd."""
    queries, sources = queries.clone().requires_grad_(), sources.clone().requires_grad_()
    difference = sources.unsqueeze(1) - queries.unsqueeze(2)
    kernel = torch.sigmoid(difference / temperature.reshape(-1, 1, 1))
    counts = torch.einsum("cwj,cij->cwi", weights, kernel)
    gradients = torch.autograd.grad((counts * upstream).sum(), (queries, sources))
    return counts.detach(), *gradients


def found(queries, sources, weights, temperature, upstream, **options) -> tuple[Tensor, ...]:
    """Counts and both gradients, by what is tested."""
    counts, pull = soft_counts(queries, sources, weights, temperature, **options)
    return counts, *pull(upstream)


def draw(rows: int, dtype=torch.float64, *, queries=20, classes=3, seed=0) -> tuple[Tensor, ...]:
    """Queries, of which half are sources too, sources, weights and upstream gradients."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(classes, *size, dtype=dtype, generator=generator)

    sources, apart = normal(rows), 2 * normal(queries)
    mixed = torch.cat((sources[:, : queries // 2], apart), 1)[:, :queries]
    weights = torch.rand(classes, 2, rows, dtype=dtype, generator=generator)
    return mixed, sources, weights, normal(2, queries)


@pytest.mark.parametrize(
    ("queries", "rows"),
    [(1, 1), (3, 2), (1, BLOCK - 1), (50, BLOCK), (5, BLOCK + 1), (99, 5 * BLOCK), (70, 1001)],
)
@pytest.mark.parametrize("temperature", [1e-4, 0.01, 0.3, 3.0])
@pytest.mark.parametrize(
    ("dtype", "value_error", "gradient_error"),
    [(torch.float64, 1e-14, 1e-13), (torch.float32, 1e-6, 5e-6)],
)
def test_equals_all_pairs(queries, rows, temperature, dtype, value_error, gradient_error) -> None:
    *lists, weights, upstream = draw(rows, dtype, queries=queries)
    tau = torch.tensor(temperature, dtype=dtype)
    value, *gradients = found(*lists, weights, tau, upstream)
    doubled = (operand.double() for operand in (*lists, weights, tau, upstream))
    exact_value, *exact_gradients = all_pairs(*doubled)
    mass = weights.double().sum(2, keepdim=True)
    assert ((value - exact_value).abs() / mass).max() <= value_error
    for gradient, exact in zip(gradients, exact_gradients, strict=True):
        # Where all pairs are far apart, the error is that of one pair's largest slope, 1 / (4 tau).
        scale = exact.abs().max().clamp(min=0.05 / temperature)
        assert (gradient - exact).abs().max() / scale <= gradient_error


@pytest.mark.parametrize("rows", [1, BLOCK, BLOCK + 1, 1001])
@pytest.mark.parametrize("movable", [0, 1, 700])
def test_sources_that_count_themselves(rows, movable) -> None:
    _, sources, weights, _ = draw(rows, queries=rows)
    upstream = torch.randn(3, 2, rows, dtype=torch.float64)
    tau = torch.tensor([0.01, 0.1, 1.0], dtype=torch.float64)
    movable = min(movable, rows)
    own = found(sources, sources, weights, tau, upstream, movable=movable)
    apart = found(sources.clone(), sources, weights, tau, upstream, movable=movable)
    torch.testing.assert_close(own, apart, rtol=1e-11, atol=1e-11)


SCORES = st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=3 * BLOCK)


@given(SCORES, SCORES, st.floats(1e-3, 10), st.integers(0, 2**31))
def test_equals_all_pairs_for_any_scores(queries, sources, temperature, seed) -> None:
    """Clusters, ties and wide gaps, which random normal scores do not make."""
    lists = [torch.tensor([values], dtype=torch.float64) for values in (queries, sources)]
    *_, weights, upstream = draw(len(sources), queries=len(queries), classes=1, seed=seed)
    tau = torch.tensor(temperature, dtype=torch.float64)
    value, *gradients = found(*lists, weights, tau, upstream)
    exact, *exact_gradients = all_pairs(*lists, weights, tau, upstream)
    torch.testing.assert_close(value, exact, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients, exact_gradients, rtol=1e-9, atol=1e-12 / temperature)


def test_short_lists_take_all_pairs(monkeypatch) -> None:
    *lists, weights, upstream = draw(100)
    tau = torch.tensor(0.1, dtype=torch.float64)
    by_sorting = found(*lists, weights, tau, upstream)
    monkeypatch.setattr(soft_rank, "_PAIRS_PER_SCORE", 20)
    monkeypatch.delattr(soft_rank, "_Field")
    by_pairs = found(*lists, weights, tau, upstream)
    torch.testing.assert_close(by_pairs, by_sorting, rtol=1e-13, atol=1e-13)


def test_all_pairs_are_bounded_in_memory(monkeypatch) -> None:
    monkeypatch.setattr(soft_rank, "_PAIRS_PER_SCORE", 96)
    assert soft_rank._few_pairs(1, 50, 2**20)
    assert not soft_rank._few_pairs(1, 80, 2**20)
    assert not soft_rank._few_pairs(100, 50, 2**14)


def test_only_movable_sources_get_a_gradient() -> None:
    *lists, weights, upstream = draw(100)
    tau = torch.tensor(0.1, dtype=torch.float64)
    value, by_query, by_source = found(*lists, weights, tau, upstream)
    some = found(*lists, weights, tau, upstream, movable=40)
    torch.testing.assert_close(some, (value, by_query, by_source[:, 40:]))


def test_each_class_has_its_temperature() -> None:
    *lists, weights, _ = draw(100)
    temperature = torch.tensor([0.01, 0.1, 1.0], dtype=torch.float64)
    together = soft_counts(*lists, weights, temperature).counts
    apart = [
        soft_counts(*(operand[[c]] for operand in (*lists, weights)), temperature[c]).counts
        for c in range(len(temperature))
    ]
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-14, atol=1e-13)


def test_ties_share_the_step() -> None:
    scores = torch.zeros(1, 3 * BLOCK + 5, dtype=torch.float64)
    tau = torch.tensor(0.1, dtype=torch.float64)
    counts, _ = soft_counts(scores, scores, torch.ones_like(scores).unsqueeze(1), tau)
    torch.testing.assert_close(counts, torch.full_like(counts, scores.shape[1] / 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_scores_are_finite(dtype) -> None:
    """Gaps that overflow after division by tau, and the largest number of the dtype."""
    largest = torch.finfo(dtype).max
    scores = torch.tensor([[-1e4, -1.0, 0.0, 0.0, 1e4, largest, largest]], dtype=dtype)
    scores = scores.repeat_interleave(BLOCK // 2 - 1, 1)
    weights = torch.ones_like(scores).unsqueeze(1)
    tau = torch.tensor(1e-6, dtype=dtype)
    value, *gradients = found(scores, scores, weights, tau, weights)
    assert value.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)
    above = torch.arange(scores.shape[1], 0, -1)[BLOCK // 2 - 1] - (BLOCK // 2 - 1) / 2
    assert value[0, 0, BLOCK // 2 - 1] == pytest.approx(float(above))


def test_long_lists_are_worked_on_in_parts(monkeypatch) -> None:
    *lists, weights, upstream = draw(300, classes=5, queries=70)
    tau = torch.tensor(0.1, dtype=torch.float64)
    whole = found(*lists, weights, tau, upstream)
    monkeypatch.setattr(soft_rank, "_CELLS", 150)
    parts = found(*lists, weights, tau, upstream)
    torch.testing.assert_close(parts, whole, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
def test_lists_on_the_graph_can_be_differentiated_twice(check) -> None:
    queries, sources, weights, _ = draw(2 * BLOCK + 3, classes=2)
    tau = torch.tensor([0.2, 0.5], dtype=torch.float64)
    leaves = queries.requires_grad_(), sources.requires_grad_()
    assert check(lambda q, s: soft_counts(q, s, weights, tau).counts, leaves, fast_mode=True)


class NoRunningSum(TorchDispatchMode):
    """Refuses what CUDA refuses under deterministic algorithms, on a CPU."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function.overloadpacket is not torch.ops.aten.cumsum
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("rows", [1, 100, 1001])
def test_deterministic_algorithms(rows) -> None:
    *lists, weights, upstream = draw(rows)
    tau = torch.tensor(0.1, dtype=torch.float64)
    wanted = found(*lists, weights, tau, upstream)
    torch.use_deterministic_algorithms(True)
    try:
        with NoRunningSum():
            repeatable = found(*lists, weights, tau, upstream)
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(repeatable, wanted, rtol=1e-12, atol=1e-12)
