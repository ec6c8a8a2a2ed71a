"""Soft steps between all pairs: plain operations, first and second derivative, autocast."""

import pytest
import torch

from imbalanced_losses._kernel.pairs import weighted_steps


def operands(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    high = torch.randn(2, 5, dtype=dtype, generator=generator, requires_grad=True)
    low = torch.randn(2, 3, dtype=dtype, generator=generator, requires_grad=True)
    weights = torch.rand(2, 3, dtype=dtype, generator=generator)
    return high, low, weights, torch.tensor([0.3, 1.0], dtype=dtype)


def plainly(high, low, weights, temperature):
    steps = torch.sigmoid((high.unsqueeze(2) - low.unsqueeze(1)) / temperature.view(-1, 1, 1))
    return (steps * weights.unsqueeze(1)).sum(2)


def test_equals_plain_operations() -> None:
    torch.testing.assert_close(weighted_steps(*operands()), plainly(*operands()))


@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
def test_derivatives(check) -> None:
    high, low, weights, temperature = operands()
    assert check(lambda h, b: weighted_steps(h, b, weights, temperature), (high, low))


def test_autocast_changes_nothing() -> None:
    outcomes = []
    for enabled in (False, True):
        high, low, *rest = operands(torch.float32)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            sums = weighted_steps(high, low, *rest)
            sums.square().sum().backward()
        outcomes.append((sums.detach(), high.grad, low.grad))
    torch.testing.assert_close(*outcomes, rtol=0, atol=0)


def test_far_pairs_are_finite() -> None:
    high, low, weights, temperature = operands(torch.float32)
    sums = weighted_steps(high * 1e4, low * 1e4, weights, temperature * 1e-6)
    sums.sum().backward()
    assert sums.isfinite().all()
    assert high.grad.isfinite().all()
