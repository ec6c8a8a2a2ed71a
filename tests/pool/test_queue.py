"""The memory queue: what is in it after which batches, and what a checkpoint makes of it."""

import pytest
import torch

from cases import assert_same, state
from imbalanced_losses import PAUCAtBudgetLoss, RecallAtQuantileLoss, SmoothAPLoss

EMPTY = (0.0, -1, 1.0, True)


def content(loss):
    """Rows of a binary loss from the oldest to the newest: score, label, weight, iid."""
    queue = loss.queue
    fields = (queue.scores[0], queue.label[0], queue.weight, queue.iid)
    return list(zip(*(field.tolist() for field in fields), strict=True))


def binary(size=4, **settings):
    return SmoothAPLoss(1, queue_size=size, **settings)


def push(loss, scores, targets=None, **keywords):
    scores = torch.tensor(scores, requires_grad=True)
    if targets is None:
        targets = torch.arange(len(scores)) % 2
    return loss(scores, torch.as_tensor(targets).long(), **keywords)


def scores_of(loss):
    """Scores of the rows that are not ignored."""
    return [row[0] for row in content(loss) if row[1] >= 0]


NAN, INF = torch.nan, torch.inf
HISTORIES = {
    "nothing yet": ([], [None] * 4),
    "shorter than the queue": ([[1, 2, 3]], [None, 1, 2, 3]),
    "as long as the queue": ([[1, 2, 3, 4]], [1, 2, 3, 4]),
    "longer than the queue": ([[1, 2, 3, 4, 5, 6]], [3, 4, 5, 6]),
    "row by row": ([[1], [2], [3], [4], [5], [6]], [3, 4, 5, 6]),
    "round the end": ([[1, 2, 3], [4, 5, 6]], [3, 4, 5, 6]),
    "longer, then shorter": ([[1, 2, 3, 4, 5], [6]], [3, 4, 5, 6]),
    "shorter, then longer": ([[9], [1, 2, 3, 4, 5]], [2, 3, 4, 5]),
    "empty batches": ([[1, 2], [], [3], []], [None, 1, 2, 3]),
    "ignored rows take a slot": ([[1, 2], [-100, 3], [4]], [2, None, 3, 4]),
    "ignored batches take none": ([[1, 2], [-100, -100], [3]], [None, 1, 2, 3]),
    "a long ignored tail": ([[1, 2], [3, -100, -100, -100, -100]], [None] * 4),
    "NaN rows are written as ignored": ([[1, 2], [NAN, 3], [INF, 4, -INF]], [3, None, 4, None]),
    "a batch of NaN too": ([[1, 2, 3], [NAN, NAN]], [2, 3, None, None]),
}


@pytest.mark.parametrize(("batches", "rows"), HISTORIES.values(), ids=HISTORIES)
def test_the_newest_rows_in_order_of_arrival(batches, rows):
    """-100 stands for an ignored row with a score of its own, None for an ignored slot."""
    loss = binary()
    for batch in batches:
        targets = torch.tensor([-100 if x == -100 else 1 for x in batch])
        push(loss, [float(x) for x in batch], targets)
    found = [score if label == 1 else None for score, label, *_ in content(loss)]
    assert found == rows
    loss.reset_queue()
    assert content(loss) == [EMPTY] * 4


def test_a_row_is_kept_with_all_that_is_known_of_it():
    loss = binary()
    weight, iid = torch.tensor([0.5, 2.0, 0.0]), torch.tensor([True, False, False])
    push(loss, [1.0, 2.0, 3.0], [1, 0, -100], sample_weight=weight, iid_mask=iid)
    kept = [(1.0, 1, 0.5, True), (2.0, 0, 2.0, False)]
    assert content(loss)[:3] == [EMPTY, *kept]
    assert content(loss)[3][1] == -1
    push(loss, [4.0, 5.0])
    assert content(loss)[0] == kept[1]
    assert content(loss)[2:] == [(4.0, 0, 1.0, True), (5.0, 1, 1.0, True)]


@pytest.mark.parametrize("cls", [SmoothAPLoss, RecallAtQuantileLoss, PAUCAtBudgetLoss])
def test_queued_rows_count_as_live_ones_do_with_weight_and_iid_flag(cls):
    options = {"beta": 0.5} if cls is PAUCAtBudgetLoss else {}
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(40, 2, generator=generator)
    targets = torch.randint(2, (40,), generator=generator)
    weight = torch.rand(40, generator=generator)
    iid = torch.rand(40, generator=generator) < 0.7
    queued, whole = cls(2, queue_size=30, **options), cls(2, queue_size=0, **options)
    for part in (slice(0, 7), slice(7, 25), slice(25, 40)):
        found = queued(scores[part], targets[part], iid[part], sample_weight=weight[part])
    torch.testing.assert_close(found, whole(scores, targets, iid, sample_weight=weight))


def test_the_queue_holds_what_is_ranked():
    loss = SmoothAPLoss(2, queue_size=2, scores="log_odds")
    loss(torch.tensor([[3.0, 1.0], [-1.0, 1.0]]), torch.tensor([0, 1]))
    assert loss.queue.scores.tolist() == [[2.0, -2.0], [-2.0, 2.0]]


def test_cells_of_multi_hot_rows_are_ignored_one_by_one():
    loss = SmoothAPLoss(2, queue_size=3)
    nan = torch.tensor([[1.0, 2.0], [3.0, NAN], [NAN, 5.0]])
    loss(nan, torch.tensor([[1, -100], [0, -100], [1, 0]]))
    assert loss.queue.label.tolist() == [[1, 0, -1], [-1, -1, -1]]
    assert loss.queue.scores[0].tolist() == [1.0, 3.0, 0.0]


@pytest.mark.parametrize("in_eval", [False, True])
def test_eval_freezes_the_queue_unless_told_otherwise(in_eval):
    loss = binary(update_queue_in_eval=in_eval)
    push(loss, [1.0, 2.0])
    push(loss.eval(), [3.0])
    assert scores_of(loss) == ([1.0, 2.0, 3.0] if in_eval else [1.0, 2.0])
    push(loss.train(), [4.0])
    assert scores_of(loss)[-1] == 4.0
    with torch.no_grad():
        push(loss, [5.0])
    assert scores_of(loss)[-1] == 5.0


@pytest.mark.parametrize("size", [0, 1])
def test_the_smallest_queues(size):
    loss = binary(size)
    values = [push(loss, [2.0, 1.0, 3.0], [1, 1, 0]) for _ in range(2)]
    assert loss.queue_size == size
    assert scores_of(loss) == [3.0][:size]
    assert torch.equal(*values) is (size == 0)
    fresh = binary(size)
    fresh.load_state_dict(state(loss))
    assert content(fresh) == content(loss)


@pytest.mark.parametrize(("saved", "size"), [(4, 2), (4, 6), (2, 4), (0, 4), (4, 0), (4, 1)])
def test_another_size_warns_and_keeps_the_newest_rows_that_fit(saved, size):
    old, new = binary(saved), binary(size)
    push(old, [1.0, 2.0, 3.0], [1, 0, 1], sample_weight=torch.tensor([1.0, 2.0, 3.0]))
    push(new, [7.0, 8.0])
    checkpoint = state(old)
    with pytest.warns(UserWarning, match=f"queue of {saved} rows.*of {size}"):
        new.load_state_dict(checkpoint)
    kept = min(saved, size)
    assert content(new) == [EMPTY] * (size - kept) + content(old)[saved - kept :]
    assert_same(checkpoint, state(old))
    push(new, [4.0])
    assert scores_of(new)[-1:] == [4.0][:size]


def test_a_checkpoint_of_another_number_of_classes_is_refused():
    for size in (4, 6):
        loss = SmoothAPLoss(3, queue_size=size)
        with pytest.raises(ValueError, match=r"does not fit num_classes=3.*is of num_classes=1"):
            loss.load_state_dict(state(binary(size)))


@pytest.mark.filterwarnings("ignore:The checkpoint holds")
@pytest.mark.parametrize("size", [4, 6])
def test_a_checkpoint_in_float64_stays_float64(size):
    old, new = binary(), binary(size)
    old(torch.tensor([0.1, 0.2], dtype=torch.float64), torch.tensor([1, 0]))
    new.load_state_dict(state(old))
    assert new.queue.scores.dtype == torch.float64
    assert scores_of(new) == [0.1, 0.2]


def test_a_checkpoint_without_the_queue_is_refused():
    with pytest.raises(RuntimeError, match=r"Missing key.*_extra_state"):
        binary().load_state_dict({})


def test_the_state_is_no_view_of_the_batch():
    loss = binary(2)
    scores = torch.tensor([1.0, 2.0])
    loss(scores, torch.tensor([0, 1]))
    scores.fill_(9.0)
    assert scores_of(loss) == [1.0, 2.0]
    kept = loss.state_dict()
    push(loss, [3.0])
    loss.load_state_dict(kept)
    assert scores_of(loss) == [1.0, 2.0]
