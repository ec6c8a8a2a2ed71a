"""Soft steps between all pairs: plain operations, first and second derivative, autocast."""

import pytest
import torch

from imbalanced_losses._kernel.pairs import pair_counts


def operands(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(2, 5, dtype=dtype, generator=generator, requires_grad=True)
    sources = torch.randn(2, 3, dtype=dtype, generator=generator, requires_grad=True)
    weights = torch.rand(2, 4, 3, dtype=dtype, generator=generator)
    return queries, sources, weights, torch.tensor([0.3, 1.0], dtype=dtype)


def plainly(queries, sources, weights, temperature):
    steps = torch.sigmoid(
        (sources.unsqueeze(1) - queries.unsqueeze(2)) / temperature.view(-1, 1, 1)
    )
    return torch.einsum("cws,cqs->cwq", weights, steps)


def test_equals_plain_operations() -> None:
    torch.testing.assert_close(pair_counts(*operands()), plainly(*operands()))


@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
def test_derivatives(check) -> None:
    queries, sources, weights, temperature = operands()
    assert check(lambda q, s: pair_counts(q, s, weights, temperature), (queries, sources))


def test_autocast_changes_nothing() -> None:
    outcomes = []
    for enabled in (False, True):
        queries, sources, *rest = operands(torch.float32)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            sums = pair_counts(queries, sources, *rest)
            sums.square().sum().backward()
        outcomes.append((sums.detach(), queries.grad, sources.grad))
    torch.testing.assert_close(*outcomes, rtol=0, atol=0)


def test_far_pairs_are_finite() -> None:
    queries, sources, weights, temperature = operands(torch.float32)
    sums = pair_counts(queries * 1e4, sources * 1e4, weights, temperature * 1e-6)
    sums.sum().backward()
    assert sums.isfinite().all()
    assert queries.grad.isfinite().all()
