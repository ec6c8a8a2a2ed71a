"""Two gloo processes against one on the joined batch."""

import copy
import itertools

import pytest
import torch
import torch.distributed as dist
from torch import nn

import parallel
from imbalanced_losses import (
    PAUCAtBudgetLoss,
    RecallAtQuantileLoss,
    SigmoidFocalLoss,
    SmoothAPLoss,
    SoftmaxFocalLoss,
    all_gather_no_grad,
    all_gather_with_grad,
)

pytestmark = pytest.mark.filterwarnings("ignore:The pool of")

CLASSES, FEATURES, STEPS = 3, 4, 3

LOSSES = {
    "smooth_ap": lambda: SmoothAPLoss(CLASSES, queue_size=40, temperature=0.3),
    "smooth_ap, sum, log-odds, no queue": lambda: SmoothAPLoss(
        CLASSES, queue_size=0, temperature=0.3, reduction="sum", scores="log_odds"
    ),
    "smooth_ap, subsampled": lambda: SmoothAPLoss(
        CLASSES, queue_size=40, temperature=0.3, max_pool_size=24
    ),
    "recall": lambda: RecallAtQuantileLoss(CLASSES, quantile=0.3, queue_size=40, temperature=0.3),
    "pauc": lambda: PAUCAtBudgetLoss(CLASSES, beta=0.4, queue_size=40, pos_numerator="live"),
    "pauc, pairwise": lambda: PAUCAtBudgetLoss(
        CLASSES, beta=0.4, queue_size=40, surrogate="pairwise"
    ),
    "softmax focal": lambda: SoftmaxFocalLoss(alpha=[0.2, 1.0, 2.0]),
    "softmax focal, positives": lambda: SoftmaxFocalLoss(reduction="mean_positive"),
    "sigmoid focal": lambda: SigmoidFocalLoss(),
    "sigmoid focal, sum": lambda: SigmoidFocalLoss(reduction="sum"),
}
# Rows of each rank: even, uneven, one rank empty, and one rank with ignored rows alone.
SHARDS = {"even": (15, 15), "uneven": (22, 8), "empty": (30, 0), "ignored": (20, 10)}


def batch(step: int, shards: str) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(step)
    rows = sum(SHARDS[shards])
    features = torch.randn(rows, FEATURES, dtype=torch.float64, generator=generator)
    targets = torch.randint(0, CLASSES, (rows,), generator=generator)
    if shards == "ignored":
        targets[SHARDS[shards][0] :] = -100
    return features, targets, torch.rand(rows, dtype=torch.float64, generator=generator)


def train(model: nn.Module, loss_fn: nn.Module, shards: str, rows: slice) -> list[torch.Tensor]:
    """Losses of a few steps of SGD on these rows of each batch, and the last parameters."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    multi_label = isinstance(loss_fn, SigmoidFocalLoss)
    record = []
    for step in range(STEPS):
        features, targets, weight = (tensor[rows] for tensor in batch(step, shards))
        if multi_label:
            targets = nn.functional.one_hot(targets.clamp(min=0), CLASSES).double()
        loss = loss_fn(model(features), targets, sample_weight=weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        record.append(loss.detach())
    return [*record, *(p.detach().clone() for p in model.parameters())]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(FEATURES, CLASSES, dtype=torch.float64)


def train_on_rank(rank: int) -> dict[tuple[str, str], list[torch.Tensor]]:
    results = {}
    for (name, make), shards in itertools.product(LOSSES.items(), SHARDS):
        start = sum(SHARDS[shards][:rank])
        rows = slice(start, start + SHARDS[shards][rank])
        model = nn.parallel.DistributedDataParallel(network())
        results[name, shards] = train(model, make(), shards, rows)
    return results


@pytest.fixture(scope="module")
def trained() -> list[dict[tuple[str, str], list[torch.Tensor]]]:
    return parallel.run(2, train_on_rank)


@pytest.mark.parametrize("shards", SHARDS)
@pytest.mark.parametrize("name", LOSSES)
def test_two_ranks_equal_one_process(name, shards, trained) -> None:
    alone = train(network(), LOSSES[name](), shards, slice(None))
    for rank in trained:
        torch.testing.assert_close(rank[name, shards], alone, rtol=1e-12, atol=1e-12)


def gather_on_rank(rank: int) -> tuple[torch.Tensor, ...]:
    rows = torch.full((rank + 1, 2), float(rank), requires_grad=True)
    joined = all_gather_with_grad(rows)
    (joined * torch.arange(6.0).view(3, 2)).sum().backward()
    return joined.detach(), rows.grad, all_gather_no_grad(rows > 0), all_gather_no_grad(rows[:rank])


def test_gathers_join_unequal_rows_in_rank_order() -> None:
    results = parallel.run(2, gather_on_rank)
    for joined, _, flags, some in results:
        assert joined.tolist() == [[0, 0], [1, 1], [1, 1]]
        assert flags.tolist() == [[False] * 2, [True] * 2, [True] * 2]
        assert some.tolist() == [[1, 1]]
    # Two ranks: each keeps twice its own rows' gradient.
    assert [result[1].tolist() for result in results] == [[[0, 2]], [[4, 6], [8, 10]]]


@pytest.fixture
def group_of_one(tmp_path):
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_a_group_of_one_changes_nothing(group_of_one) -> None:
    rows = torch.ones(2, 3, requires_grad=True)
    assert all_gather_with_grad(rows) is rows
    assert not all_gather_no_grad(rows).requires_grad
    for function in (all_gather_with_grad, all_gather_no_grad):
        with pytest.raises(ValueError, match="dimension 0"):
            function(torch.ones(()))
    for name, make in LOSSES.items():
        loss_fn = make()
        loss_fn.gather_distributed = True
        alone = copy.deepcopy(loss_fn)
        alone.gather_distributed = False
        outcomes = [train(network(), loss, "even", slice(0, 12)) for loss in (loss_fn, alone)]
        torch.testing.assert_close(*outcomes, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("name", LOSSES)
def test_gathering_without_a_group_is_an_error(name) -> None:
    loss_fn = LOSSES[name]()
    loss_fn.gather_distributed = True
    with pytest.raises(RuntimeError, match="init_process_group"):
        train(network(), loss_fn, "even", slice(None))
