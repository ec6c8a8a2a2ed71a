"""A run that is killed and resumed equals the run that never stopped, to the last bit."""

import io
import os
import signal
from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import parallel
from cases import state
from imbalanced_losses import (
    LossWarmupWrapper,
    PAUCAtBudgetLoss,
    RecallAtPrecisionLoss,
    RecallAtQuantileLoss,
    SmoothAPLoss,
    SoftmaxFocalLoss,
)

# Long runs of what other tests cover.
pytestmark = [pytest.mark.no_cover, pytest.mark.filterwarnings("ignore:The pool of")]

CLASSES, ROWS, STEPS, EPOCH = 3, 16, 14, 4
EVERY, KILLED_AT = 3, 11  # the last checkpoint is two steps before the end, in mid-epoch


def wrapped(main: nn.Module, **schedule: object) -> LossWarmupWrapper:
    annealing = {"temp_start": 0.5, "temp_end": 0.1, "temp_decay_steps": 9}
    return LossWarmupWrapper(SoftmaxFocalLoss(), main, **annealing, **schedule)


LOSSES: dict[str, Callable[[], nn.Module]] = {
    "smooth_ap": lambda: SmoothAPLoss(CLASSES, 40, temperature=0.3),
    "smooth_ap, subsampled": lambda: SmoothAPLoss(CLASSES, 40, 0.3, max_pool_size=24),
    "smooth_ap, log-odds": lambda: SmoothAPLoss(CLASSES, 40, 0.3, scores="log_odds"),
    "recall": lambda: RecallAtQuantileLoss(CLASSES, 0.3, 40, 0.3),
    "recall, subsampled": lambda: RecallAtQuantileLoss(CLASSES, 0.3, 40, 0.3, max_pool_size=24),
    "pauc": lambda: PAUCAtBudgetLoss(CLASSES, beta=0.4, queue_size=40),
    "pauc, pairwise, subsampled": lambda: PAUCAtBudgetLoss(
        CLASSES, beta=0.4, surrogate="pairwise", queue_size=40, max_pool_size=30
    ),
    "recall at precision": lambda: RecallAtPrecisionLoss(CLASSES, 0.5, 40, dual_rate=0.3),
    "wrapper, epochs": lambda: wrapped(
        SmoothAPLoss(CLASSES, 40), warmup_epochs=1, blend_epochs=1, reset_queue_each_epoch=True
    ),
    "wrapper, steps": lambda: wrapped(
        RecallAtQuantileLoss(CLASSES, 0.3, 40, max_pool_size=24), warmup_steps=3, blend_steps=5
    ),
    "wrapper, steps then epochs": lambda: wrapped(
        PAUCAtBudgetLoss(CLASSES, beta=0.4, queue_size=40), warmup_steps=5, blend_epochs=2
    ),
}
ON_TWO = [
    "smooth_ap, subsampled",
    "recall",
    "pauc",
    "recall at precision",
    "wrapper, epochs",
    "wrapper, steps",
]


class Run:
    """The training of one loss, at the start of a step."""

    def __init__(self, name: str) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(4, CLASSES)
        self.loss_fn = LOSSES[name]()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.1)
        self.resumed = True

    def parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        return {"model": self.model, "loss": self.loss_fn, "optimizer": self.optimizer}

    def state(self) -> dict[str, object]:
        return {name: part.state_dict() for name, part in self.parts().items()}

    def load(self, saved: dict[str, object]) -> None:
        for name, part in self.parts().items():
            part.load_state_dict(saved[name])

    def forward_backward(self, step: int) -> Tensor:
        """The loss of this rank's rows of the batch, half of them each."""
        if isinstance(self.loss_fn, LossWarmupWrapper):
            if self.resumed or step % EPOCH == 0:
                self.loss_fn.on_train_epoch_start(step // EPOCH)
            self.loss_fn.on_train_batch_start(step)
        self.resumed = False
        generator = torch.Generator().manual_seed(step)
        features = torch.randn(ROWS, 4, generator=generator)
        targets = torch.randint(0, CLASSES, (ROWS,), generator=generator)
        model = self.model
        if dist.is_initialized() and dist.get_world_size() == 2:
            model = DistributedDataParallel(model)
            features, targets = (t.chunk(2)[dist.get_rank()] for t in (features, targets))
        self.optimizer.zero_grad()
        loss = self.loss_fn(model(features), targets)
        loss.backward()
        return loss.detach()

    def train(self, steps: range) -> list[Tensor]:
        """Losses of these steps, and the parameters after them."""
        losses = []
        for step in steps:
            losses.append(self.forward_backward(step))
            self.optimizer.step()
        return [*losses, *(p.detach().clone() for p in self.model.parameters())]


def assert_same_run(resumed: list[Tensor], whole: list[Tensor]) -> None:
    """Whether `resumed` ended as `whole` did."""
    torch.testing.assert_close(resumed, whole[-len(resumed) :], rtol=0, atol=0)


# With SIGKILL ---------------------------------------------------------------------------------


def train_until_killed(rank: int, folder: str, names: list[str]) -> None:
    """Train all losses side by side, with checkpoints, and die between backward and update."""
    runs = {name: Run(name) for name in names}
    for step in range(KILLED_AT + 1):
        if step % EVERY == 0 and rank == 0:
            saved = {name: run.state() for name, run in runs.items()}
            torch.save({"step": step, "runs": saved}, f"{folder}/new.pt")
            os.replace(f"{folder}/new.pt", f"{folder}/last.pt")  # whole or not at all
        for run in runs.values():
            run.forward_backward(step)
        if step == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)
        for run in runs.values():
            run.optimizer.step()


def resume_and_repeat(rank: int, folder: str, names: list[str]) -> dict[str, tuple[list, list]]:
    """What the resumed run makes of the rest of the steps, and what a whole run does."""
    checkpoint = torch.load(f"{folder}/last.pt", weights_only=True)
    results = {}
    for name in names:
        resumed = Run(name)
        resumed.load(checkpoint["runs"][name])
        rest = resumed.train(range(checkpoint["step"], STEPS))
        results[name] = rest, Run(name).train(range(STEPS))
    return results


@pytest.fixture(scope="module")
def after_kill(tmp_path_factory) -> Callable[[int], list[dict[str, tuple[list, list]]]]:
    results: dict[int, list] = {}

    def of(world_size: int) -> list[dict[str, tuple[list, list]]]:
        if world_size not in results:
            arguments = str(tmp_path_factory.mktemp("run")), list(LOSSES)
            if world_size == 2:
                arguments = arguments[0], ON_TWO
            codes = parallel.exit_codes(world_size, train_until_killed, *arguments)
            # The first death may take the other rank with it in another way.
            assert -signal.SIGKILL in codes
            assert 0 not in codes
            results[world_size] = parallel.run(world_size, resume_and_repeat, *arguments)
        return results[world_size]

    return of


@pytest.mark.parametrize(
    ("name", "world_size"), [*((name, 1) for name in LOSSES), *((name, 2) for name in ON_TWO)]
)
def test_a_killed_run_goes_on_as_if_it_had_never_stopped(name, world_size, after_kill) -> None:
    for rank in after_kill(world_size):
        resumed, whole = rank[name]
        assert len(whole) - len(resumed) == KILLED_AT // EVERY * EVERY
        assert_same_run(resumed, whole)


# At every step, and through other formats -------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_resume_at_every_step(name) -> None:
    whole = Run(name).train(range(STEPS))
    for stop in range(STEPS):
        first = Run(name)
        first.train(range(stop))
        file = io.BytesIO()
        torch.save(first.state(), file)
        file.seek(0)
        second = Run(name)
        second.load(torch.load(file, weights_only=True))
        assert_same_run(second.train(range(stop, STEPS)), whole)


def test_the_queue_matters_to_the_resumed_run() -> None:
    """So the comparisons above can fail."""
    whole = Run("smooth_ap").train(range(STEPS))
    first = Run("smooth_ap")
    first.train(range(9))
    first.loss_fn.reset_queue()
    with pytest.raises(AssertionError):
        assert_same_run(first.train(range(9, STEPS)), whole)


def through_dcp(rank: int, folder: str, names: list[str]) -> dict[str, tuple[list, list]]:
    """The loss of each run through torch.distributed.checkpoint; the rest in memory."""
    results = {}
    for name in names:
        first, second = Run(name), Run(name)
        first.train(range(9))
        path = f"{folder}/{name}"
        alone = not dist.is_initialized()
        dcp.save({"loss": first.loss_fn.state_dict()}, checkpoint_id=path, no_dist=alone)
        loaded = {"loss": second.loss_fn.state_dict()}
        dcp.load(loaded, checkpoint_id=path, no_dist=alone)
        second.load({**first.state(), **loaded})
        results[name] = second.train(range(9, STEPS)), Run(name).train(range(STEPS))
    return results


@pytest.mark.filterwarnings("ignore:torch.distributed is")
@pytest.mark.parametrize("name", LOSSES)
def test_distributed_checkpoint_in_one_process(name, tmp_path) -> None:
    assert_same_run(*through_dcp(0, str(tmp_path), [name])[name])


def test_distributed_checkpoint_on_two_ranks(tmp_path) -> None:
    for rank in parallel.run(2, through_dcp, str(tmp_path), ON_TWO):
        for resumed, whole in rank.values():
            assert_same_run(resumed, whole)


# Checkpoints that do not fit --------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 7, 100])
@pytest.mark.parametrize("wrap", [False, True])
def test_a_resized_queue_loads_with_a_warning(size, wrap) -> None:
    old, new = SmoothAPLoss(CLASSES, 40), SmoothAPLoss(CLASSES, size)
    for _ in range(3):
        old(torch.randn(9, CLASSES), torch.randint(0, CLASSES, (9,)))
    outer = [wrapped(loss) for loss in (old, new)] if wrap else [old, new]
    with pytest.warns(UserWarning, match=f"a queue of 40 rows, this loss one of {size}"):
        outer[1].load_state_dict(state(outer[0]))
    kept = min(size, 40)
    if kept:
        assert new.queue.scores[:, -kept:].equal(old.queue.scores[:, -kept:])
        assert new.queue.label[:, -kept:].equal(old.queue.label[:, -kept:])
    assert (new.queue.label == -1).all(0).sum() == size - min(size, 27)


REFUSED: dict[str, tuple[type[Exception], str, Callable[[Tensor], dict]]] = {
    "another module": (RuntimeError, "Missing key", lambda saved: nn.Linear(2, 2).state_dict()),
    "another loss": (RuntimeError, "Missing key", lambda saved: SoftmaxFocalLoss().state_dict()),
    "a wrapper": (
        ValueError,
        "another object",
        lambda saved: wrapped(SmoothAPLoss(CLASSES, 4)).state_dict(),
    ),
    "other classes": (ValueError, "num_classes=5", lambda saved: SmoothAPLoss(5, 4).state_dict()),
    "a part of it": (ValueError, "num_classes=3", lambda saved: {"_extra_state": saved[:-1]}),
    "its first bytes": (ValueError, "another object", lambda saved: {"_extra_state": saved[:9]}),
    "another version": (
        ValueError,
        "another version",
        lambda saved: {"_extra_state": torch.cat((saved[8:16], saved[8:]))},
    ),
    "other things": (ValueError, "another object", lambda saved: {"_extra_state": "text"}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_checkpoint_that_does_not_fit_is_refused_with_a_sentence(name) -> None:
    error, sentence, change = REFUSED[name]
    loss_fn = SmoothAPLoss(CLASSES, 4, temperature=0.7)
    loss_fn(torch.randn(9, CLASSES), torch.arange(9) % CLASSES)
    saved = state(loss_fn)
    with pytest.raises(error, match=sentence):
        loss_fn.load_state_dict(change(saved["_extra_state"]))
    torch.testing.assert_close(state(loss_fn), saved, rtol=0, atol=0)


def test_a_checkpoint_without_the_loss_loads_where_asked_to() -> None:
    loss_fn = SmoothAPLoss(CLASSES, 4, temperature=0.7)
    loss_fn.load_state_dict({}, strict=False)
    assert loss_fn.temperature == 0.7


@pytest.mark.parametrize("position", [torch.zeros(2, dtype=torch.int64), {"epoch": 3}])
def test_a_foreign_schedule_is_refused_with_a_sentence(position) -> None:
    loss_fn = wrapped(SmoothAPLoss(CLASSES, 4))
    with pytest.raises(ValueError, match=r"four integers.*strict=False"):
        loss_fn.load_state_dict({**state(loss_fn), "_extra_state": position})
