"""What crosses ranks: the gathers, the bytes of each loss, and calls on which ranks disagree."""

from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import parallel
from cases import CASES, state
from imbalanced_losses import (
    LossWarmupWrapper,
    RecallAtQuantileLoss,
    SmoothAPLoss,
    SoftmaxFocalLoss,
    all_gather_no_grad,
    all_gather_with_grad,
)
from imbalanced_losses.distributed import _assert_agreement, _named

WORLD = 3
MESSAGE = 256  # bytes that a rank sends ahead
ONE_OF_EACH = ("smooth_ap", "recall", "pauc-trapezoid", "softmax_focal", "sigmoid_focal")
RANKING = [name for name in ONE_OF_EACH if CASES[name].ranks]
DTYPES = (
    torch.bool,
    torch.uint8,
    torch.int16,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
)


# The gathers ----------------------------------------------------------------------------------


def gather(rank: int) -> dict[str, object]:
    rows = torch.full((rank + 1, 2), float(rank), requires_grad=True)
    joined = all_gather_with_grad(rows)
    (joined * torch.arange(12.0).view(6, 2)).sum().backward()
    return {
        "joined": joined.detach(),
        "gradient": rows.grad,
        "dtypes": {dtype: all_gather_no_grad(rows.detach().to(dtype)) for dtype in DTYPES},
        "some empty": all_gather_no_grad(torch.arange(rank)),
        "all empty": all_gather_no_grad(torch.empty(0, 4)).shape,
        "no columns": all_gather_no_grad(torch.empty(rank, 0, 2)).shape,
        "strided": all_gather_no_grad(torch.arange(6).view(2, 3).t()),
        "detached": all_gather_no_grad(rows).requires_grad,
    }


ROWS = torch.tensor([[0.0] * 2] + [[1.0] * 2] * 2 + [[2.0] * 2] * 3)


def test_rows_are_joined_in_rank_order(on_ranks) -> None:
    for result in on_ranks["gather"]:
        assert result["joined"].tolist() == ROWS.tolist()
        for dtype, joined in result["dtypes"].items():
            assert joined.dtype == dtype
            assert joined.tolist() == ROWS.to(dtype).tolist()
        assert result["some empty"].tolist() == [0, 0, 1]
        assert result["all empty"] == (0, 4)
        assert result["no columns"] == (3, 0, 2)
        assert result["strided"].tolist() == [[0, 3], [1, 4], [2, 5]] * WORLD
        assert not result["detached"]


def test_the_gradient_of_own_rows_is_scaled_by_the_world_size(on_ranks) -> None:
    own = torch.arange(12.0).view(6, 2).split([1, 2, 3])
    for result, rows in zip(on_ranks["gather"], own, strict=True):
        assert result["gradient"].tolist() == (WORLD * rows).tolist()


@pytest.mark.parametrize("function", [all_gather_with_grad, all_gather_no_grad])
def test_a_gather_needs_a_dimension_to_join_along(function, tmp_path) -> None:
    dist.init_process_group(
        "gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1
    )
    try:
        rows = torch.ones(2, 3, requires_grad=True)
        assert function(rows).tolist() == rows.tolist()
        assert (function(rows) is rows) == (function is all_gather_with_grad)
        with pytest.raises(ValueError, match="dimension 0"):
            function(torch.ones(()))
    finally:
        dist.destroy_process_group()


# Bytes ----------------------------------------------------------------------------------------


class SentBytes(TorchDispatchMode):
    """Bytes that this rank hands to collectives, of any kind: all of them pass the dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.count: list[int] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "c10d":
            # Of a gather the inputs alone: its outputs are what others send.
            sent = args[1] if "gather" in func.name() else args[0]
            tensors = [leaf for leaf in tree_leaves(sent) if isinstance(leaf, Tensor)]
            self.count.append(sum(t.numel() * t.itemsize for t in tensors))
        return func(*args, **(kwargs or {}))


def count_bytes(rank: int) -> dict[tuple[str, int], list[int]]:
    counts = {}
    for name in CASES:
        for rows in (15, 600):
            loss_fn = CASES[name].build()
            logits, targets = CASES[name].batch(rows=rows + rank)
            with SentBytes() as sent:
                loss_fn(logits.requires_grad_(), targets).sum().backward()
            counts[name, rows] = sent.count
    return counts


@pytest.mark.parametrize("rows", [15, 600])
@pytest.mark.parametrize("name", CASES)
def test_bytes_that_a_rank_sends(name, rows, on_ranks) -> None:
    """Pointwise losses send scalars, whatever the batch; ranking losses one padded message more."""
    case, longest = CASES[name], rows + WORLD - 1
    pooled = [MESSAGE, 4 * (2 * case.classes + 2) * longest]
    wanted = pooled if case.ranks else [MESSAGE]
    if case.mixes:
        wanted = [*pooled, MESSAGE]
    for counts in on_ranks["count_bytes"]:
        assert sorted(counts[name, rows]) == sorted(wanted)


def test_a_loss_of_single_cells_sends_nothing(on_ranks) -> None:
    assert all(sent == [] for sent in on_ranks["single_cells"])


def single_cells(rank: int) -> list[int]:
    with SentBytes() as sent:
        CASES["softmax_focal"].build(reduction="none")(*CASES["softmax_focal"].batch(rows=rank))
    return sent.count


# Mistakes -------------------------------------------------------------------------------------

# Each is made by rank 1 alone. A call that the others cannot tell from a hang is one that waits
# for the timeout of the group, whose message would not match.
Call = Callable[[bool], object]


def call(name: str, rows: int = 12, dtype=torch.float32, settings=None, **keywords) -> object:
    loss_fn = CASES[name].build(**(settings or {}))
    logits, targets = CASES[name].batch(rows=rows, dtype=dtype)
    return loss_fn(logits, targets, **keywords)


def weights(wrong: bool, name: str) -> object:
    return call(name, sample_weight=torch.ones(12) if wrong else None)


def dtypes(wrong: bool, name: str) -> object:
    return call(name, dtype=torch.float64 if wrong else torch.float32)


def half(wrong: bool, name: str) -> object:
    return call(name, dtype=torch.bfloat16 if wrong else torch.float32)


def classes(wrong: bool, name: str) -> object:
    width = 4 if wrong else 3
    settings = {"num_classes": width} if CASES[name].ranks else {"alpha": [1.0] * width}
    return CASES[name].build(**settings)(torch.randn(12, width), torch.arange(12) % 3)


def length(wrong: bool, name: str) -> object:
    logits, targets = CASES[name].batch(rows=12)
    return CASES[name].build()(logits, targets[:-1] if wrong else targets)


def value(wrong: bool, name: str) -> object:
    logits, targets = CASES[name].batch(rows=12)
    return CASES[name].build()(logits, targets + 7 if wrong else targets)


def iid(wrong: bool, name: str) -> object:
    return call(name, iid_mask=torch.ones(12, dtype=torch.bool) if wrong else None)


def schedule(wrong: bool) -> object:
    loss_fn = LossWarmupWrapper(SoftmaxFocalLoss(), SmoothAPLoss(3), warmup_steps=1)
    loss_fn.on_train_batch_start(0 if wrong else 1)
    return loss_fn(*CASES["smooth_ap"].batch())


def order(wrong: bool) -> object:
    loss = (RecallAtQuantileLoss if wrong else SmoothAPLoss)(3)
    return loss(*CASES["smooth_ap"].batch())


def gathered(wrong: bool, right: Tensor, other: Tensor) -> object:
    return all_gather_with_grad(other if wrong else right)


MISTAKES: dict[str, tuple[Call, type[Exception], tuple[str, str]]] = {}
for name in ONE_OF_EACH:
    for mistake, words in {
        weights: ("sample_weight missing", "sample_weight given"),
        dtypes: ("float32", "float64"),
        half: ("float32", "bfloat16"),
        classes: ("[n, 3]", "[n, 4]"),
        iid: ("iid_mask missing", "iid_mask given"),
        length: ("stopped: ValueError", "targets must"),
        value: ("stopped: ValueError", "targets must"),
    }.items():
        if (mistake is iid and name not in RANKING) or (mistake, name) == (
            classes,
            "sigmoid_focal",
        ):
            continue  # sigmoid focal loss takes any shape
        kind = RuntimeError if mistake in (length, value) else ValueError
        MISTAKES[f"{mistake.__name__}: {name}"] = (
            lambda wrong, mistake=mistake, name=name: mistake(wrong, name),
            kind,
            words,
        )
MISTAKES |= {
    "schedule": (schedule, ValueError, ("SmoothAPLoss", "SoftmaxFocal")),
    "order": (order, ValueError, ("SmoothAPLoss", "RecallAtQuantileLoss")),
    "gather, dtype": (
        lambda wrong: gathered(wrong, torch.ones(2, 3), torch.ones(2, 3, dtype=torch.int32)),
        ValueError,
        ("float32 [n, 3]", "int32 [n, 3]"),
    ),
    "gather, columns": (
        lambda wrong: gathered(wrong, torch.ones(2, 3), torch.ones(2, 4)),
        ValueError,
        ("[n, 3]", "[n, 4]"),
    ),
    "gather, dimensions": (
        lambda wrong: gathered(wrong, torch.ones(2, 6), torch.ones(2, 2, 3)),
        ValueError,
        ("[n, 6]", "[n, 2, 3]"),
    ),
}


def outcome(make: Call, wrong: bool) -> tuple[type, str]:
    try:
        return type(None), str(make(wrong))
    except Exception as error:
        return type(error), str(error)


def make_mistakes(rank: int) -> dict[str, tuple[type, str]]:
    errors = {name: outcome(make, rank == 1) for name, (make, _, _) in MISTAKES.items()}
    errors["everyone"] = outcome(lambda wrong: length(wrong, "smooth_ap"), True)
    # All messages have been met: the ranks still understand each other.
    errors["afterwards"] = outcome(lambda wrong: call("smooth_ap"), False)
    return errors


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_of_one_rank_is_an_error_on_every_rank(name, on_ranks) -> None:
    _, kind, words = MISTAKES[name]
    errors = [errors[name] for errors in on_ranks["make_mistakes"]]
    for rank, (raised, message) in enumerate(errors):
        if kind is RuntimeError and rank == 1:
            assert raised is ValueError  # its own, whole
            assert "rank" not in message
            continue
        assert raised is kind, message
        lines = message.splitlines()[1:]
        assert len(lines) == 2
        ours = next(line for line in lines if line.startswith("  ranks 0, 2:"))
        theirs = next(line for line in lines if line.startswith("  rank 1:"))
        assert words[-1] in theirs
        assert words[0] in (theirs if kind is RuntimeError else ours)


def test_a_mistake_of_all_ranks_is_reported_by_each_itself(on_ranks) -> None:
    for errors in on_ranks["make_mistakes"]:
        kind, message = errors["everyone"]
        assert kind is ValueError
        assert message.startswith("targets must have shape")


def test_many_ranks_are_named_briefly() -> None:
    assert _named([3]) == "rank 3"
    assert _named(list(range(4, 14))) == "ranks 4, 5, 6, 7, 8, 9, 10, 11 and 2 more"


def test_ranks_go_on_together_after_a_mistake(on_ranks) -> None:
    assert len({errors["afterwards"] for errors in on_ranks["make_mistakes"]}) == 1
    assert on_ranks["make_mistakes"][0]["afterwards"][0] is type(None)


def test_what_an_accelerator_asserts() -> None:
    """There a second look at equal calls costs no stall, and so names no rank."""
    messages = torch.randint(0, 9, (3, 32))
    messages[:, 2:] = messages[0, 2:]
    _assert_agreement(messages, "this")
    messages[1, 5] += 1
    with pytest.raises(RuntimeError, match=r"same call, as here this; they differ"):
        _assert_agreement(messages, "this")


def fail_in_part(rank: int) -> tuple[bool, bool]:
    """Whether a batch that rank 1 refuses fails here, and leaves the queue as it was."""
    loss_fn = CASES["smooth_ap"].build()
    logits, targets = CASES["smooth_ap"].batch()
    loss_fn(logits, targets)
    before = state(loss_fn)
    raised, _ = outcome(
        lambda wrong: loss_fn(logits, targets[:-1] if wrong else targets), rank == 1
    )
    after = state(loss_fn)
    return issubclass(raised, Exception), all(torch.equal(after[key], before[key]) for key in after)


def test_a_refused_batch_leaves_the_queue_as_it_was(on_ranks) -> None:
    assert on_ranks["fail_in_part"] == [(True, True)] * WORLD


# All of it in one start of the ranks ----------------------------------------------------------

JOBS = (gather, count_bytes, single_cells, make_mistakes, fail_in_part)


def do_all(rank: int) -> dict[str, object]:
    return {job.__name__: job(rank) for job in JOBS}


@pytest.fixture(scope="module")
def on_ranks() -> dict[str, list]:
    results = parallel.run(WORLD, do_all)
    return {job.__name__: [result[job.__name__] for result in results] for job in JOBS}
