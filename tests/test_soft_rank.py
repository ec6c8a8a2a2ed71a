"""The linear-time soft counts against the matrix of all pairs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from imbalanced_losses._kernel import soft_rank
from imbalanced_losses._kernel.soft_rank import BLOCK, soft_counts


def all_pairs(scores: Tensor, weights: Tensor, temperature: Tensor) -> Tensor:
    difference = scores.unsqueeze(2) - scores.unsqueeze(1)
    kernel = torch.sigmoid(difference / temperature.reshape(-1, 1, 1))
    return torch.einsum("cwj,cji->cwi", weights, kernel)


def value_and_gradient(function, scores, weights, temperature, upstream):
    leaf = scores.clone().requires_grad_()
    value = function(leaf, weights, temperature)
    (value * upstream).sum().backward()
    return value.detach(), leaf.grad


def draw(rows: int, dtype: torch.dtype, *, classes: int = 3, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(classes, rows, dtype=dtype, generator=generator).sort(1).values
    weights = torch.rand(classes, 2, rows, dtype=dtype, generator=generator)
    upstream = torch.randn(classes, 2, rows, dtype=dtype, generator=generator)
    return scores, weights, upstream


@pytest.mark.parametrize("rows", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK, 1001])
@pytest.mark.parametrize("temperature", [1e-4, 0.01, 0.3, 3.0])
@pytest.mark.parametrize(
    ("dtype", "value_error", "gradient_error"),
    [(torch.float64, 1e-14, 1e-13), (torch.float32, 1e-6, 5e-6)],
)
def test_equals_all_pairs(rows, temperature, dtype, value_error, gradient_error) -> None:
    scores, weights, upstream = draw(rows, dtype)
    tau = torch.tensor(temperature, dtype=dtype)
    value, gradient = value_and_gradient(soft_counts, scores, weights, tau, upstream)
    exact_value, exact_gradient = value_and_gradient(
        all_pairs, scores.double(), weights.double(), tau.double(), upstream.double()
    )
    mass = weights.double().sum(2, keepdim=True)
    assert ((value - exact_value).abs() / mass).max() <= value_error
    # Where all pairs are far apart, the error is that of one pair's largest slope, 1 / (4 tau).
    scale = exact_gradient.abs().max().clamp(min=0.05 / temperature)
    assert (gradient - exact_gradient).abs().max() / scale <= gradient_error


@given(
    st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=3 * BLOCK),
    st.floats(1e-3, 10),
    st.integers(0, 2**31),
)
def test_equals_all_pairs_for_any_scores(values, temperature, seed) -> None:
    """Clusters, ties and wide gaps, which random normal scores do not make."""
    scores = torch.tensor(sorted(values), dtype=torch.float64).unsqueeze(0)
    _, weights, upstream = draw(len(values), torch.float64, classes=1, seed=seed)
    tau = torch.tensor(temperature, dtype=torch.float64)
    value, gradient = value_and_gradient(soft_counts, scores, weights, tau, upstream)
    exact = value_and_gradient(all_pairs, scores, weights, tau, upstream)
    torch.testing.assert_close(value, exact[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, exact[1], rtol=1e-9, atol=1e-12 / temperature)


def test_each_class_has_its_temperature() -> None:
    scores, weights, _ = draw(100, torch.float64)
    temperature = torch.tensor([0.01, 0.1, 1.0], dtype=torch.float64)
    together = soft_counts(scores, weights, temperature)
    apart = [
        soft_counts(scores[[c]], weights[[c]], temperature[c]) for c in range(len(temperature))
    ]
    torch.testing.assert_close(together, torch.cat(apart), rtol=0, atol=0)


def test_ties_share_the_step() -> None:
    scores = torch.zeros(1, 3 * BLOCK + 5, dtype=torch.float64)
    weights = torch.ones(1, 1, scores.shape[1], dtype=torch.float64)
    counts = soft_counts(scores, weights, torch.tensor(0.1, dtype=torch.float64))
    torch.testing.assert_close(counts, torch.full_like(counts, scores.shape[1] / 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_scores_are_finite(dtype) -> None:
    """Gaps that overflow after division by tau, and the largest number of the dtype."""
    largest = torch.finfo(dtype).max
    scores = torch.tensor([[-1e4, -1.0, 0.0, 0.0, 1e4, largest, largest]], dtype=dtype)
    scores = scores.repeat_interleave(BLOCK // 2 - 1, 1)
    weights = torch.ones(1, 1, scores.shape[1], dtype=dtype)
    tau = torch.tensor(1e-6, dtype=dtype)
    value, gradient = value_and_gradient(soft_counts, scores, weights, tau, weights)
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    above = torch.arange(scores.shape[1], 0, -1)[BLOCK // 2 - 1] - (BLOCK // 2 - 1) / 2
    assert value[0, 0, BLOCK // 2 - 1] == pytest.approx(float(above))


def test_many_classes_are_worked_on_in_parts(monkeypatch) -> None:
    scores, weights, upstream = draw(70, torch.float64, classes=5)
    tau = torch.tensor(0.1, dtype=torch.float64)
    whole = value_and_gradient(soft_counts, scores, weights, tau, upstream)
    monkeypatch.setattr(soft_rank, "_CELLS", 150)
    monkeypatch.setattr(soft_rank, "_CHUNK", 2)
    parts = value_and_gradient(soft_counts, scores, weights, tau, upstream)
    torch.testing.assert_close(parts, whole, rtol=1e-13, atol=1e-13)


def test_gradcheck() -> None:
    scores, weights, _ = draw(2 * BLOCK + 3, torch.float64, classes=2)
    tau = torch.tensor([0.2, 0.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda s: soft_counts(s, weights, tau), scores.requires_grad_(), fast_mode=True
    )


def test_gradient_of_the_gradient() -> None:
    scores, weights, _ = draw(BLOCK + 3, torch.float64, classes=2)
    tau = torch.tensor([0.2, 0.5], dtype=torch.float64)
    assert torch.autograd.gradgradcheck(
        lambda s: soft_counts(s, weights, tau), scores.requires_grad_(), fast_mode=True
    )


def test_autocast_changes_nothing() -> None:
    scores, weights, upstream = draw(100, torch.float32)
    tau = torch.tensor(0.1)
    plain = value_and_gradient(soft_counts, scores, weights, tau, upstream)
    with torch.autocast("cpu", torch.bfloat16):
        cast = value_and_gradient(soft_counts, scores, weights, tau, upstream)
    torch.testing.assert_close(cast, plain, rtol=0, atol=0)
