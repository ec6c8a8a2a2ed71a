"""No loss runs its matrix products in the lower precision that is set for a model's layers."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch import _dynamo as dynamo
from torch._dynamo.testing import EagerAndRecordGraphs
from torch.utils._python_dispatch import TorchDispatchMode

from cases import CASES, step
from imbalanced_losses._ops.precision import bmm
from imbalanced_losses._ops.soft_counts import blocks as soft_rank
from imbalanced_losses.losses import _per_class

# torch's compiler instantiates autograd functions itself, and warns of it.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")

PRODUCTS = {torch.ops.aten.mm, torch.ops.aten.bmm, torch.ops.aten.addmm, torch.ops.aten.baddbmm}


class Products(TorchDispatchMode):
    """Counts the products of float32 matrices that are run inside."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        is_float32 = args and isinstance(args[0], Tensor) and args[0].dtype == torch.float32
        self.count += bool(is_float32 and function.overloadpacket in PRODUCTS)
        return function(*args, **(kwargs or {}))


def by_name(precision: str) -> None:
    torch.set_float32_matmul_precision(precision)


def for_one_backend(precision: str) -> None:
    torch.backends.mkldnn.matmul.fp32_precision = "none" if precision == "highest" else "bf16"


@pytest.fixture(params=[by_name, for_one_backend])
def set_precision(request) -> Iterator:
    if request.param is for_one_backend and not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("this release of torch has one precision for all backends")
    yield request.param
    request.param("highest")


def test_the_product_is_that_of_torch(set_precision) -> None:
    left, right = torch.rand(3, 4, 5), torch.rand(3, 5, 6)
    wanted = left.double() @ right.double()
    for precision, products in (("highest", 1), ("medium", 0), ("highest", 1)):
        set_precision(precision)
        with Products() as run:
            found = bmm(left, right)
        assert run.count == products
        torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.ranks])
@pytest.mark.parametrize("pairs", [True, False])
def test_a_lower_precision_changes_nothing(name, pairs, set_precision, monkeypatch) -> None:
    case = CASES[name]
    monkeypatch.setattr(soft_rank, "_PAIRS_PER_SCORE", 96 if pairs else 0)
    wanted = step(case.build(), *case.batch(rows=60))
    set_precision("medium")
    with Products() as run:
        found = step(case.build(), *case.batch(rows=60))
    assert run.count == 0
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("precision", "has_products"), [("highest", True), ("medium", False)])
def test_nor_in_a_graph_that_holds_the_operations(precision, has_products, monkeypatch) -> None:
    # As on an accelerator.
    monkeypatch.setattr(_per_class, "calls_operators", lambda tensor: False)
    case = CASES["smooth_ap"]
    backend = EagerAndRecordGraphs()
    dynamo.reset()
    by_name(precision)
    try:
        torch.compile(case.build(), fullgraph=True, backend=backend)(*case.batch())
    finally:
        by_name("highest")
    (graph,) = backend.graphs
    assert any(node.target is torch.bmm for node in graph.graph.nodes) == has_products
