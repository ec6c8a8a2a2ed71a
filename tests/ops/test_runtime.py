import torch

from imbalanced_losses._ops.runtime import below_autograd


def test_what_is_computed_below_autograd_is_on_no_graph():
    source = torch.tensor([1.0, 2.0], requires_grad=True)
    with below_autograd():
        doubled, column = source * 2, source.view(-1, 1)
    assert doubled.tolist() == [2.0, 4.0]
    assert not doubled.requires_grad
    assert not column._is_view()
    assert (source * 2).requires_grad


def test_a_transform_sees_what_is_computed_there():
    def doubled(value):
        with below_autograd():
            return (2 * value).sum()

    assert torch.func.grad(doubled)(torch.ones(3)).tolist() == [2.0, 2.0, 2.0]
    assert torch.vmap(doubled)(torch.ones(2, 3)).tolist() == [6.0, 6.0]


def test_a_graph_holds_what_is_computed_there():
    @torch.compile(fullgraph=True, backend="aot_eager")
    def doubled(value):
        with below_autograd():
            return (2 * value).sum()

    value = torch.ones(3, requires_grad=True)
    doubled(value).backward()
    assert value.grad.tolist() == [2.0, 2.0, 2.0]
