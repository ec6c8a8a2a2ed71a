"""Soft steps between all pairs against plain operations, far pairs included."""

import torch

from imbalanced_losses._ops.soft_counts.pairs import pair_counts


def operands(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(2, 5, dtype=dtype, generator=generator)
    sources = torch.randn(2, 3, dtype=dtype, generator=generator)
    weights = torch.rand(2, 4, 3, dtype=dtype, generator=generator)
    return queries, sources, weights, torch.tensor([0.3, 1.0], dtype=dtype)


def test_equals_plain_operations() -> None:
    queries, sources, weights, temperature = operands()
    leaves = queries.clone().requires_grad_(), sources.clone().requires_grad_()
    difference = leaves[1].unsqueeze(1) - leaves[0].unsqueeze(2)
    steps = torch.sigmoid(difference / temperature.view(-1, 1, 1))
    wanted = torch.einsum("cws,cqs->cwq", weights, steps)
    upstream = torch.randn(wanted.shape, dtype=torch.float64)
    gradients = torch.autograd.grad((wanted * upstream).sum(), leaves)
    for movable in (0, 2, 3):
        counts, pull = pair_counts(queries, sources, weights, temperature, movable)
        by_query, by_source = pull(upstream)
        torch.testing.assert_close(counts, wanted.detach())
        torch.testing.assert_close(by_query, gradients[0])
        torch.testing.assert_close(by_source, gradients[1][:, movable:])


def test_far_pairs_are_finite() -> None:
    queries, sources, weights, temperature = operands(torch.float32)
    counts, pull = pair_counts(queries * 1e4, sources * 1e4, weights, temperature * 1e-6, 0)
    assert counts.isfinite().all()
    for gradient in pull(torch.ones_like(counts)):
        assert gradient.isfinite().all()
