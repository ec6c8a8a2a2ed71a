"""Several gloo ranks under data parallelism against one process on the joined batch."""

import itertools
import warnings
from collections.abc import Callable, Iterable
from contextlib import nullcontext

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import parallel
from cases import CASES, IGNORED, Case
from imbalanced_losses import LossWarmupWrapper, SmoothAPLoss, SoftmaxFocalLoss

pytestmark = [
    pytest.mark.filterwarnings("ignore:The pool of"),
    pytest.mark.filterwarnings("ignore:The schedule stands still"),
]

STEPS = 3
SUMMED = {"reduction": "sum"}

# Settings of each loss beside its own: queue on and off, a pool that is cut, every reduction.
SETTINGS: dict[str, dict[str, dict[str, object]]] = {
    "pooled": {
        "queue": {},
        "no queue, sum": {"queue_size": 0, **SUMMED},
        "subsampled": {"max_pool_size": 30},
    },
    "pointwise": {
        "mean": {},
        "sum": SUMMED,
        "mean_positive": {"reduction": "mean_positive"},
    },
}
FIRST_OF = {case.loss: name for name, case in reversed(CASES.items())}
VARIANTS = {
    f"{name}: {words}": (case, settings)
    for name, case in CASES.items()
    for words, settings in SETTINGS["pooled" if case.ranks or case.mixes else "pointwise"].items()
    if case.subsamples or case.mixes or "max_pool_size" not in settings
    # What does not depend on the case's own settings is tried with one case of each class.
    if not settings or name == FIRST_OF[case.loss]
}

# Rows of each rank, and what is done to the labels of some ranks.
Shards = tuple[tuple[int, ...], dict[int, str]]
SHARDS: dict[str, Shards] = {
    "even": ((16, 16), {}),
    "uneven": ((45, 15), {}),
    "second empty": ((24, 0), {}),
    "first empty": ((0, 24), {}),
    "one without positives": ((20, 12), {1: "negative"}),
    "one ignored": ((20, 12), {1: "ignored"}),
    "four even": ((8, 8, 8, 8), {}),
    "four uneven": ((18, 6, 0, 8), {1: "negative", 3: "ignored"}),
}
OF_TWO = [name for name, (sizes, _) in SHARDS.items() if len(sizes) == 2]
OF_FOUR = [name for name, (sizes, _) in SHARDS.items() if len(sizes) == 4]


class Network(nn.Module):
    """Two layers over dimension 1; the same parameters whenever it is built."""

    def __init__(self, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden = nn.Linear(width, 5, dtype=dtype)
        self.head = nn.Linear(5, width, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x.movedim(1, -1)).tanh()).movedim(-1, 1)


def own_rows(shards: Shards, rank: int | None) -> slice:
    """The rows of this rank in the joined batch; of a single process, all."""
    if rank is None:
        return slice(None)
    start = sum(shards[0][:rank])
    return slice(start, start + shards[0][rank])


def batch(case: Case, step: int, shards: Shards, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Features, targets, row weights and iid flags of all ranks."""
    rows = sum(shards[0])
    features, targets = case.batch(seed=step, rows=rows, dtype=dtype)
    for rank, what in shards[1].items():
        own = targets[own_rows(shards, rank)]
        if what == "ignored" and case.ignores:
            own.fill_(IGNORED)
        elif case.form == "probabilities":
            own.copy_(torch.eye(3)[0])
        else:
            own.zero_()
    generator = torch.Generator().manual_seed(step)
    weight = torch.rand(rows, generator=generator, dtype=dtype)
    return features, targets, weight, torch.rand(rows, generator=generator) < 0.8


def batch_loss(loss_fn: nn.Module, case: Case, model: nn.Module, rows: Iterable[Tensor]) -> Tensor:
    features, targets, weight, iid = rows
    masks = {"iid_mask": iid} if case.ranks or case.mixes else {}
    return loss_fn(model(features), targets, sample_weight=weight, **masks)


def train(
    case: Case,
    settings: dict[str, object],
    shards: Shards,
    rank: int | None = None,
    dtype: torch.dtype = torch.float64,
) -> dict[str, list[Tensor]]:
    """Loss and gradients at each of a few steps of SGD, on the rows of `rank`."""
    model = Network(case.classes, dtype)
    replica = model if rank is None else DistributedDataParallel(model)
    loss_fn = case.build(**settings)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    record: dict[str, list[Tensor]] = {"losses": [], "gradients": []}
    for step in range(STEPS):
        joined = batch(case, step, shards, dtype)
        loss = batch_loss(loss_fn, case, replica, (t[own_rows(shards, rank)] for t in joined))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        record["losses"].append(loss.detach())
        record["gradients"].append(
            torch.cat([p.grad.flatten() for p in model.parameters()]).clone()
        )
    return record


def assert_same_training(ranks: list[dict[str, list[Tensor]]], alone, tolerance: float) -> None:
    for rank in ranks:
        # To the last bit: every rank sums the same numbers in the same order.
        torch.testing.assert_close(rank["losses"], ranks[0]["losses"], rtol=0, atol=0)
        torch.testing.assert_close(rank["losses"], alone["losses"], rtol=tolerance, atol=tolerance)
        for got, wanted in zip(rank["gradients"], alone["gradients"], strict=True):
            assert torch.linalg.norm(got - wanted) <= tolerance * torch.linalg.norm(wanted)
    assert any(gradient.any() for gradient in alone["gradients"])


def train_all(
    rank: int, names: list[str], variants: list[str], dtype: torch.dtype = torch.float64
) -> dict[tuple[str, str], dict[str, list[Tensor]]]:
    return {
        (variant, shards): train(*VARIANTS[variant], SHARDS[shards], rank, dtype)
        for variant, shards in itertools.product(variants, names)
    }


# Ways to train --------------------------------------------------------------------------------


def accumulate(
    settings: dict[str, object], name: str, rank: int | None
) -> tuple[list[Tensor], list[Tensor]]:
    """Losses and gradient of three micro-batches before one step."""
    case, shards = CASES[name], SHARDS["uneven"]
    model = Network(case.classes, torch.float64)
    replica = model if rank is None else DistributedDataParallel(model)
    loss_fn, losses = case.build(**settings), []
    for step in range(STEPS):
        rows = (t[own_rows(shards, rank)] for t in batch(case, step, shards, torch.float64))
        last = rank is None or step == STEPS - 1
        with nullcontext() if last else replica.no_sync():
            loss = batch_loss(loss_fn, case, replica, rows) / STEPS
            loss.backward()
        losses.append(loss.detach())
    return losses, [p.grad for p in model.parameters()]


def warm_up(rank: int | None) -> tuple[list[Tensor], list[Tensor]]:
    """Warm-up, blend and main phase, all of them with several ranks."""
    case, shards = CASES["smooth_ap"], SHARDS["uneven"]
    model = Network(case.classes, torch.float64)
    replica = model if rank is None else DistributedDataParallel(model)
    loss_fn = LossWarmupWrapper(
        SoftmaxFocalLoss(),
        SmoothAPLoss(3, queue_size=20),
        warmup_steps=2,
        blend_steps=2,
        temp_start=0.3,
        temp_end=0.1,
        temp_decay_steps=4,
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    losses = []
    for step in range(7):
        loss_fn.on_train_batch_start(step)
        rows = (t[own_rows(shards, rank)] for t in batch(case, step, shards, torch.float64))
        loss = batch_loss(loss_fn, case, replica, rows)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses, [p.detach() for p in model.parameters()]


def shard_fully(name: str, rank: int | None) -> tuple[list[Tensor], list[Tensor]]:
    """FSDP2 in place of DDP."""
    case, shards = CASES[name], SHARDS["uneven"]
    model = Network(case.classes, torch.float64)
    if rank is not None:
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        for layer in (model.hidden, model.head, model):
            fully_shard(layer, mesh=mesh)
    loss_fn, losses = case.build(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for step in range(STEPS):
        rows = (t[own_rows(shards, rank)] for t in batch(case, step, shards, torch.float64))
        loss = batch_loss(loss_fn, case, model, rows)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    whole = (p if rank is None else p.full_tensor() for p in model.parameters())
    return losses, [p.detach() for p in whole]


def sum_gradients(name: str, rank: int | None) -> tuple[list[Tensor], list[Tensor]]:
    """A loop that sums the ranks' gradients divides the loss by their number."""
    case, shards = CASES[name], SHARDS["uneven"]
    model = Network(case.classes, torch.float64)
    rows = (t[own_rows(shards, rank)] for t in batch(case, 0, shards, torch.float64))
    loss = batch_loss(case.build(), case, model, rows)
    (loss / (1 if rank is None else dist.get_world_size())).backward()
    if rank is not None:
        for parameter in model.parameters():
            dist.all_reduce(parameter.grad)
    return [loss.detach()], [p.grad for p in model.parameters()]


def in_half_precision(
    name: str, dtype: torch.dtype, rank: int | None
) -> tuple[list[Tensor], list[Tensor]]:
    """Losses, and this rank's part of the gradient that one process would have."""
    case, shards = CASES[name], SHARDS["uneven"]
    loss_fn, losses, gradients = case.build(), [], []
    for step in range(STEPS):
        rows = batch(case, step, shards, torch.float32)
        logits, *rest = (t[own_rows(shards, rank)] for t in rows)
        logits = logits.to(dtype).requires_grad_()
        loss = batch_loss(loss_fn, case, nn.Identity(), (logits, *rest))
        loss.backward()
        losses.append(loss.detach())
        gradients.append(logits.grad / (1 if rank is None else dist.get_world_size()))
    return losses, gradients


def compiled(name: str, rank: int | None) -> tuple[list[Tensor], list[Tensor]]:
    """Through torch.compile, which may break its graph where ranks talk."""
    case, shards = CASES[name], SHARDS["uneven"]
    model = Network(case.classes, torch.float64)
    replica = model if rank is None else DistributedDataParallel(model)
    loss_fn = case.build()
    step_fn = loss_fn if rank is None else torch.compile(loss_fn, backend="eager")
    rows = (t[own_rows(shards, rank)] for t in batch(case, 0, shards, torch.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own
        loss = batch_loss(step_fn, case, replica, rows)
    loss.backward()
    return [loss.detach()], [p.grad for p in model.parameters()]


Way = Callable[[int | None], tuple[list[Tensor], list[Tensor]]]
NAMES = ("smooth_ap", "softmax_focal")
WAYS: dict[str, Way] = {
    "accumulation, ranking": lambda rank: accumulate({"max_pool_size": 50}, "smooth_ap", rank),
    "accumulation, pointwise": lambda rank: accumulate({}, "softmax_focal", rank),
    "accumulation, sum": lambda rank: accumulate(SUMMED, "softmax_focal", rank),
    "warm-up": warm_up,
    **{f"FSDP2, {name}": lambda rank, name=name: shard_fully(name, rank) for name in NAMES},
    **{f"summed, {name}": lambda rank, name=name: sum_gradients(name, rank) for name in NAMES},
    **{f"compiled, {name}": lambda rank, name=name: compiled(name, rank) for name in NAMES},
}
HALVES = list(itertools.product(NAMES, (torch.bfloat16, torch.float16)))


def all_of_two_ranks(rank: int) -> dict[str, dict]:
    return {
        "float64": train_all(rank, OF_TWO, list(VARIANTS)),
        "float32": train_all(rank, ["uneven"], list(VARIANTS), torch.float32),
        "ways": {name: way(rank) for name, way in WAYS.items()},
        "halves": {half: in_half_precision(*half, rank) for half in HALVES},
    }


@pytest.fixture(scope="module")
def two_ranks() -> list[dict[str, dict]]:
    return parallel.run(2, all_of_two_ranks)


@pytest.fixture(scope="module")
def four_ranks() -> list[dict]:
    return parallel.run(4, train_all, OF_FOUR, list(VARIANTS))


@pytest.mark.parametrize("shards", OF_TWO)
@pytest.mark.parametrize("variant", VARIANTS)
def test_two_ranks_equal_one_process(variant, shards, two_ranks) -> None:
    ranks = [rank["float64"][variant, shards] for rank in two_ranks]
    assert_same_training(ranks, train(*VARIANTS[variant], SHARDS[shards]), 1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_ranks_equal_one_process_in_float32(variant, two_ranks) -> None:
    ranks = [rank["float32"][variant, "uneven"] for rank in two_ranks]
    alone = train(*VARIANTS[variant], SHARDS["uneven"], dtype=torch.float32)
    assert_same_training(ranks, alone, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("shards", OF_FOUR)
@pytest.mark.parametrize("variant", VARIANTS)
def test_four_ranks_equal_one_process(variant, shards, four_ranks) -> None:
    ranks = [rank[variant, shards] for rank in four_ranks]
    assert_same_training(ranks, train(*VARIANTS[variant], SHARDS[shards]), 1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_other_ways_to_train_equal_one_process(way, two_ranks) -> None:
    alone = WAYS[way](None)
    assert any(gradient.any() for gradient in alone[1])
    for rank in two_ranks:
        torch.testing.assert_close(rank["ways"][way], alone, rtol=1e-12, atol=1e-12)


def test_a_summed_loss_over_micro_batches_is_that_of_the_whole_batch(two_ranks) -> None:
    """An accumulated mean, or ranking, is that of each micro-batch, with ranks as without."""
    case, shards = CASES["softmax_focal"], SHARDS["uneven"]
    model = Network(case.classes, torch.float64)
    batches = [batch(case, step, shards, torch.float64) for step in range(STEPS)]
    rows = [torch.cat(parts) for parts in zip(*batches, strict=True)]
    (batch_loss(case.build(**SUMMED), case, model, rows) / STEPS).backward()
    for rank in two_ranks:
        _, accumulated = rank["ways"]["accumulation, sum"]
        torch.testing.assert_close(accumulated, [p.grad for p in model.parameters()])


@pytest.mark.parametrize("half", HALVES, ids=str)
def test_half_precision_logits_give_the_same_loss_and_gradient(half, two_ranks) -> None:
    alone_losses, alone_gradients = in_half_precision(*half, None)
    results = [rank["halves"][half] for rank in two_ranks]
    for losses, gradients in results:
        torch.testing.assert_close(losses, alone_losses, rtol=1e-6, atol=1e-7)
        assert all(loss.dtype == torch.float32 for loss in losses)
        assert all(gradient.dtype == half[1] for gradient in gradients)
    joined = [torch.cat(parts) for parts in zip(*(result[1] for result in results), strict=True)]
    # A power of two scales exactly, but for what underflows in half precision.
    torch.testing.assert_close(joined, alone_gradients, rtol=0.02, atol=1e-6)


@pytest.fixture
def group_of_one(tmp_path):
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("name", CASES)
def test_a_group_of_one_changes_nothing(name, group_of_one) -> None:
    case, outcomes = CASES[name], []
    for gathers in (True, False):
        loss_fn = case.build()
        for module in loss_fn.modules():
            if hasattr(module, "gather_distributed"):
                module.gather_distributed = gathers
        logits, targets = case.batch()
        logits.requires_grad_()
        loss_fn(logits, targets).backward()
        outcomes.append(logits.grad)
    torch.testing.assert_close(*outcomes, rtol=0, atol=0)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.mixes])
def test_gathering_without_a_group_is_an_error(name) -> None:
    loss_fn = CASES[name].build(gather_distributed=True)
    with pytest.raises(RuntimeError, match="init_process_group"):
        loss_fn(*CASES[name].batch())
