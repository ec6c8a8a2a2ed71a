"""The warm-up schedule and LossWarmupWrapper."""

import copy
import io
import math
import pickle

import pytest
import torch
import torch._dynamo.testing
import torch.nn.functional as F
from imbalanced_losses.ranking_loss import PAUCAtBudgetLoss, SmoothAPLoss
from torch import nn

from imbalanced_losses._schedule import Schedule, main_weight_at, temperature_at
from imbalanced_losses.focal_loss import SigmoidFocalLoss, SoftmaxFocalLoss
from imbalanced_losses.warmup import LossWarmupWrapper

N, C = 6, 3
LOGITS = torch.randn(N, C, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 1, 2, 0, 0, 1])
CE = F.cross_entropy(LOGITS, TARGETS)


class FakeMain(nn.Module):
    """What the wrapper knows of a ranking loss: temperature, queue, tuples, keyword arguments.

    The value depends on the temperature and on every batch since the last reset.
    """

    def __init__(self, num_classes=C):
        super().__init__()
        self.num_classes = num_classes
        self.gather_distributed = None
        self.register_buffer("_temperature", torch.tensor(0.01))
        self.register_buffer("queue", torch.zeros(()))
        self.calls = []
        self.resets = 0

    @property
    def temperature(self):
        return self._temperature.item()

    @temperature.setter
    def temperature(self, value):
        self._temperature.fill_(value)

    def reset_queue(self):
        self.resets += 1
        self.queue.zero_()

    def forward(
        self,
        logits,
        targets,
        iid_mask=None,
        return_per_class=False,
        return_diagnostics=False,
        *,
        sample_weight=None,
    ):
        self.calls.append((targets, iid_mask, sample_weight))
        loss = (logits**2).mean() / self._temperature + self.queue
        if self.training:
            self.queue += logits.detach().mean()
        extra = (torch.arange(3.0), torch.ones(3, dtype=torch.bool)) if return_per_class else ()
        extra += ({"tau_eff": torch.ones(3)},) if return_diagnostics else ()
        return (loss, *extra) if extra else loss


class PlainMain(nn.Module):
    def forward(self, logits, targets):
        return logits.mean()


class WeighingWarmup(nn.Module):
    def forward(self, logits, targets, *, sample_weight=None):
        self.seen = sample_weight
        return F.cross_entropy(logits, targets)


def build(**kwargs):
    return LossWarmupWrapper(nn.CrossEntropyLoss(), FakeMain(), **kwargs)


def call(loss_fn, **kwargs):
    return loss_fn(LOGITS, TARGETS, **kwargs)


def to_phase(phase, **kwargs):
    """A wrapper in the given phase, with weight 1/2 for the main loss in the blend."""
    loss_fn = build(warmup_epochs=1, blend_epochs=1, **kwargs)
    loss_fn.on_train_epoch_start({"warmup": 0, "blend": 1, "main": 2}[phase])
    loss_fn.on_train_batch_start(0)
    return loss_fn


@pytest.mark.parametrize(
    ("unit", "blend", "final", "expected"),
    [
        (-1, 0, 1.0, 0),
        (-5, 3, 0.4, 0),
        (0, 0, 1.0, 1),
        (9, 0, 0.4, 0.4),
        (0, 1, 1.0, 1 / 2),
        (0, 3, 1.0, 1 / 4),
        (1, 3, 1.0, 2 / 4),
        (2, 3, 1.0, 3 / 4),
        (3, 3, 1.0, 1),
        (1, 3, 0.4, 0.4 * 2 / 4),
        (7, 3, 0.4, 0.4),
    ],
)
def test_main_weight(unit, blend, final, expected):
    assert main_weight_at(unit, blend, final) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    ("steps", "start", "end", "decay", "expected"),
    [
        (0, 0.05, 0.005, 100, 0.05),
        (50, 0.05, 0.005, 100, 0.05 / math.sqrt(10)),
        (100, 0.05, 0.005, 100, 0.005),
        (10**9, 0.05, 0.005, 100, 0.005),
        (-3, 0.05, 0.005, 100, 0.05),
        (1, 0.05, 0.005, 1, 0.005),
        (1, 0.01, 0.04, 2, 0.02),
        (7, 0.03, 0.03, 100, 0.03),
    ],
)
def test_temperature(steps, start, end, decay, expected):
    assert temperature_at(steps, start, end, decay) == pytest.approx(expected, rel=1e-14)


# Two steps per epoch; temperature 1 -> 2^-8 in 8 steps, so that t steps after the switch it is
# 2^-t. Each row: settings, main weight at each step, first step after the warm-up.
ANNEALING = {"temp_start": 1.0, "temp_end": 2.0**-8, "temp_decay_steps": 8}
TRACES = {
    "nothing set": ({}, [1] * 6, 0),
    "warm-up epochs": ({"warmup_epochs": 2}, [0, 0, 0, 0, 1, 1], 4),
    "warm-up steps": ({"warmup_steps": 3}, [0, 0, 0, 1, 1, 1], 3),
    "no warm-up, in steps": ({"warmup_steps": 0}, [1] * 6, 0),
    "blend epochs": (
        {"warmup_epochs": 1, "blend_epochs": 2},
        [0, 0, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 1],
        2,
    ),
    "blend steps": (
        {"warmup_steps": 2, "blend_steps": 3},
        [0, 0, 1 / 4, 2 / 4, 3 / 4, 1, 1],
        2,
    ),
    "blend at once": ({"blend_epochs": 1}, [1 / 2, 1 / 2, 1, 1], 0),
    "blend steps at once": ({"warmup_steps": 0, "blend_steps": 1}, [1 / 2, 1], 0),
    "permanent mix": (
        {"warmup_epochs": 1, "blend_epochs": 1, "final_main_weight": 0.5},
        [0, 0, 1 / 4, 1 / 4, 1 / 2, 1 / 2],
        2,
    ),
    "only a mix": ({"final_main_weight": 0.3}, [0.3] * 4, 0),
    # The switch falls into epoch 1, which is blend unit 0.
    "blend epochs after warm-up steps": (
        {"warmup_steps": 3, "blend_epochs": 2},
        [0, 0, 0, 1 / 3, 2 / 3, 2 / 3, 1, 1],
        3,
    ),
}


@pytest.mark.parametrize("case", TRACES)
def test_trace(case):
    settings, weights, switch = TRACES[case]
    loss_fn = build(**settings, **ANNEALING)
    blend = settings.get("blend_epochs") or settings.get("blend_steps")
    final = settings.get("final_main_weight", 1.0)
    for step, weight in enumerate(weights):
        if step % 2 == 0:
            loss_fn.on_train_epoch_start(step // 2)
        loss_fn.on_train_batch_start(step)
        assert loss_fn.main_weight == pytest.approx(weight, rel=1e-15)
        assert loss_fn.in_warmup == (step < switch)
        assert loss_fn.in_blend == bool(blend and step >= switch and weight < final)

        before = len(loss_fn.main_loss.calls)
        loss = call(loss_fn)
        assert len(loss_fn.main_loss.calls) - before == (weight > 0)
        if step < switch:
            assert loss_fn.current_temperature is None
            assert loss_fn.main_loss.temperature == pytest.approx(0.01)
            assert loss.equal(CE)
        else:
            assert loss_fn.current_temperature == pytest.approx(2.0 ** -(step - switch))
            assert loss_fn.main_loss.temperature == loss_fn.current_temperature
    assert loss_fn.main_loss.resets == (switch > 0)


def test_steps_are_counted_from_the_first_one_after_the_warmup():
    loss_fn = build(warmup_epochs=1, **ANNEALING)
    loss_fn.on_train_epoch_start(1)
    assert loss_fn.current_temperature == loss_fn.main_loss.temperature == 1
    for step, expected in ((100, 1), (101, 1 / 2), (108, 2**-8), (9999, 2**-8), (99, 1)):
        loss_fn.on_train_batch_start(step)
        assert loss_fn.current_temperature == expected


@pytest.mark.parametrize(("phase", "weight"), [("warmup", 0), ("blend", 0.5), ("main", 1)])
def test_value_and_gradient_are_the_weighted_sum(phase, weight):
    loss_fn = to_phase(phase)
    logits = LOGITS.clone().requires_grad_()
    loss_fn(logits, TARGETS).backward()
    expected = LOGITS.clone().requires_grad_()
    main = (expected**2).mean() / loss_fn.main_loss.temperature
    loss = weight * main + (1 - weight) * F.cross_entropy(expected, TARGETS)
    loss.backward()
    torch.testing.assert_close(logits.grad, expected.grad)


def test_a_loss_without_weight_is_not_evaluated():
    class Never(nn.Module):
        def forward(self, logits, targets):
            raise AssertionError

    LossWarmupWrapper(nn.CrossEntropyLoss(), Never(), warmup_epochs=1)(LOGITS, TARGETS)
    LossWarmupWrapper(Never(), PlainMain())(LOGITS, TARGETS)


def test_loss_without_temperature_or_queue():
    loss_fn = LossWarmupWrapper(nn.CrossEntropyLoss(), PlainMain(), warmup_epochs=1)
    loss_fn.on_train_epoch_start(1)
    assert loss_fn.current_temperature is None
    assert call(loss_fn).equal(LOGITS.mean())
    assert not hasattr(loss_fn.main_loss, "temperature")


@pytest.mark.parametrize(("each_epoch", "resets"), [(False, [0, 1, 1, 1]), (True, [0, 1, 2, 3])])
def test_queue_resets(each_epoch, resets):
    loss_fn = build(warmup_epochs=1, reset_queue_each_epoch=each_epoch)
    for epoch, expected in enumerate(resets):
        for _ in range(2):  # telling the same epoch twice, as a resumed run does, resets once
            loss_fn.on_train_epoch_start(epoch)
        assert loss_fn.main_loss.resets == expected


def test_going_back_to_epoch_zero_starts_the_schedule_afresh():
    loss_fn = build(warmup_epochs=1, **ANNEALING)
    for start in (0, 10):
        loss_fn.on_train_epoch_start(0)
        assert loss_fn.in_warmup
        loss_fn.on_train_epoch_start(1)
        loss_fn.on_train_batch_start(start)
        assert loss_fn.current_temperature == 1
    assert loss_fn.main_loss.resets == 2


def run(loss_fn, steps, per_epoch=3, first=0):
    """Train from step `first`, with the hooks; the value and temperature of every step."""
    trace = []
    for step in range(first, steps):
        if step % per_epoch == 0 or step == first:
            loss_fn.on_train_epoch_start(step // per_epoch)
        loss_fn.on_train_batch_start(step)
        scaled = LOGITS * (1 + step)
        trace.append((loss_fn(scaled, TARGETS).item(), loss_fn.current_temperature))
    return trace


@pytest.mark.parametrize("cut", range(1, 12))
@pytest.mark.parametrize(
    "settings",
    [
        {"warmup_epochs": 1, "blend_epochs": 2},
        {"warmup_steps": 4, "blend_steps": 3, "final_main_weight": 0.5},
        {"warmup_steps": 4, "blend_epochs": 2},
        {"warmup_epochs": 1, "reset_queue_each_epoch": True},
    ],
)
def test_resumed_run_goes_on_identically(settings, cut):
    whole = run(build(**settings, **ANNEALING), 12)
    stopped = build(**settings, **ANNEALING)
    head = run(stopped, cut)
    file = io.BytesIO()
    torch.save(stopped.state_dict(), file)
    file.seek(0)
    resumed = build(**settings, **ANNEALING)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for name in ("in_warmup", "in_blend", "main_weight", "current_temperature"):
        assert getattr(resumed, name) == getattr(stopped, name)
    assert resumed.main_loss.temperature == stopped.main_loss.temperature
    assert head + run(resumed, 12, first=cut) == whole


def test_state_is_one_tensor_beside_that_of_the_losses():
    state = build(warmup_epochs=1).state_dict()
    assert set(state) == {"_extra_state", "main_loss._temperature", "main_loss.queue"}
    assert all(isinstance(value, torch.Tensor) for value in state.values())


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@pytest.mark.parametrize("steps", [2, 5, 9])
def test_copies_go_on_alone(clone, steps):
    original = build(warmup_epochs=1, blend_epochs=1, **ANNEALING)
    run(original, steps)
    copied = clone(original)
    assert run(copied, 12, first=steps) == run(original, 12, first=steps)


@pytest.mark.parametrize(
    ("settings", "epoch", "warns"),
    [
        ({}, 0, True),
        ({"warmup_epochs": 1}, 0, False),
        ({"warmup_epochs": 1}, 1, True),
        ({"warmup_epochs": 1, "final_main_weight": 0.5}, 1, True),
        ({"warmup_steps": 5}, 0, True),
    ],
)
def test_forgotten_batch_hook_warns_once(settings, epoch, warns):
    def forgetful():
        loss_fn = build(**settings)
        loss_fn.on_train_epoch_start(epoch)
        return loss_fn

    call(forgetful().eval())
    loss_fn = forgetful()
    if warns:
        with pytest.warns(UserWarning, match="on_train_batch_start is never called"):
            call(loss_fn)
    for _ in range(3):
        call(loss_fn)
    loss_fn = forgetful()
    loss_fn.on_train_batch_start(0)
    call(loss_fn)


def test_batch_hook_forgotten_after_resuming_warns_too():
    loss_fn = build()
    loss_fn.load_state_dict(to_phase("main").state_dict())
    with pytest.warns(UserWarning, match="on_train_batch_start"):
        call(loss_fn)


def test_epoch_hook_is_not_missed_in_the_middle_of_a_resumed_epoch():
    loss_fn = build(warmup_epochs=1, blend_epochs=1)
    loss_fn.load_state_dict(to_phase("blend").state_dict())
    loss_fn.on_train_batch_start(3)
    assert loss_fn.in_blend


def test_batch_hook_is_not_missed_where_nothing_depends_on_it():
    loss_fn = LossWarmupWrapper(nn.CrossEntropyLoss(), PlainMain(), warmup_epochs=1)
    loss_fn.on_train_epoch_start(1)
    call(loss_fn)


@pytest.mark.parametrize(
    "settings",
    [
        {"warmup_epochs": 1},
        {"warmup_steps": 1, "blend_epochs": 1},
        {"reset_queue_each_epoch": True},
    ],
)
def test_forgotten_epoch_hook_warns_once(settings):
    loss_fn = build(**settings)
    with pytest.warns(UserWarning, match="on_train_epoch_start is never called"):
        loss_fn.on_train_batch_start(0)
    loss_fn.on_train_batch_start(1)
    build(warmup_steps=1, blend_steps=1).on_train_batch_start(0)


@pytest.mark.parametrize(("phase", "weight"), [("warmup", 0), ("blend", 0.5), ("main", 1)])
def test_tuples_keep_their_form_in_every_phase(phase, weight):
    loss_fn = to_phase(phase).eval()
    scalar = call(loss_fn)
    loss, per_class, valid = call(loss_fn, return_per_class=True)
    assert loss.equal(scalar)
    assert per_class.shape == valid.shape == (C,)
    assert valid.dtype == torch.bool
    assert valid.all() == per_class.isfinite().all() == (weight > 0)
    assert not (weight == 0 and valid.any())

    loss, diagnostics = call(loss_fn, return_diagnostics=True)
    assert loss.equal(scalar)
    assert diagnostics["tau_eff"].shape == (C,)
    assert len(call(loss_fn, return_per_class=True, return_diagnostics=True)) == 4


def test_keyword_arguments_reach_the_main_loss():
    iid, weight = torch.ones(N, dtype=torch.bool), torch.rand(N)
    for phase in ("blend", "main"):
        loss_fn = to_phase(phase)
        call(loss_fn, iid_mask=iid, sample_weight=weight)
        assert loss_fn.main_loss.calls[-1] == (TARGETS, iid, weight)


@pytest.mark.parametrize("phase", ["warmup", "blend", "main"])
def test_unknown_keyword_is_refused_before_the_main_phase_too(phase):
    with pytest.raises(TypeError, match="main_loss takes no argument return_perclass"):
        call(to_phase(phase), return_perclass=True)


def test_main_loss_with_open_keywords_takes_anything():
    class Open(nn.Module):
        def forward(self, logits, targets, **kwargs):
            return logits.sum() * kwargs["scale"]

    loss_fn = LossWarmupWrapper(nn.CrossEntropyLoss(), Open(), final_main_weight=0.5)
    torch.testing.assert_close(call(loss_fn, scale=2), LOGITS.sum() + CE / 2)


def test_sample_weight_reaches_a_warmup_loss_that_takes_it():
    weight = torch.rand(N)
    for epoch in (0, 1):
        loss_fn = LossWarmupWrapper(WeighingWarmup(), FakeMain(), warmup_epochs=1, blend_epochs=1)
        loss_fn.on_train_epoch_start(epoch)
        loss_fn.on_train_batch_start(0)
        call(loss_fn, sample_weight=weight)
        assert loss_fn.warmup_loss.seen is weight
        call(loss_fn)
        assert loss_fn.warmup_loss.seen is None
        compiled = torch.compile(WeighingWarmup(), backend="eager")
        assert LossWarmupWrapper(compiled, FakeMain())._warmup_weighs


BINARY = torch.tensor([0, 1, 1, 0, 0, 1])


@pytest.mark.parametrize("phase", ["warmup", "blend"])
@pytest.mark.parametrize(
    ("logits", "targets"),
    [
        (LOGITS[:, :1], BINARY),
        (LOGITS[:, :1], BINARY.unsqueeze(1)),
        (LOGITS[:, :1], BINARY.float()),
        (LOGITS[:, :1], BINARY.bool()),
        (LOGITS[:, 0], BINARY),
        (LOGITS[:, 0], BINARY.unsqueeze(1)),
        (LOGITS[:, 0].double(), BINARY.int()),
    ],
)
def test_binary_targets_work_for_a_bce_warmup(phase, logits, targets):
    loss_fn = to_phase(phase)
    loss_fn.warmup_loss = nn.BCEWithLogitsLoss()
    expected = F.binary_cross_entropy_with_logits(logits.flatten(), BINARY.to(logits.dtype))
    if phase == "blend":
        expected = (expected + (logits**2).mean() / loss_fn.main_loss.temperature) / 2
    torch.testing.assert_close(loss_fn(logits, targets), expected)
    assert all(seen[0] is targets for seen in loss_fn.main_loss.calls)


@pytest.mark.parametrize(
    ("logits", "targets", "expected"),
    [
        (LOGITS, TARGETS.int(), CE),
        (LOGITS, TARGETS.unsqueeze(1), CE),
        (LOGITS, F.one_hot(TARGETS), CE),
        (LOGITS, F.one_hot(TARGETS).float(), CE),
        (LOGITS.T.unsqueeze(0), TARGETS.unsqueeze(0), CE),
        (LOGITS[:0], TARGETS[:0], torch.tensor(math.nan)),
    ],
)
def test_class_targets_work_for_a_cross_entropy_warmup(logits, targets, expected):
    got = to_phase("warmup")(logits, targets)
    torch.testing.assert_close(got, expected, equal_nan=True)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("bad", [-100, 2])
def test_bce_warmup_refuses_what_it_would_take_for_a_label(bad, compiled):
    bce = nn.BCEWithLogitsLoss()
    bce = torch.compile(bce, backend="eager") if compiled else bce
    loss_fn = LossWarmupWrapper(bce, FakeMain(1), warmup_epochs=1)
    with pytest.raises(ValueError, match=rf"\[0, 1\].*got {bad}.*ignore_index"):
        loss_fn(LOGITS[:2, :1], torch.tensor([0, bad]))


def test_bce_targets_are_not_looked_at_on_an_accelerator():
    loss_fn = LossWarmupWrapper(nn.BCEWithLogitsLoss(), FakeMain(1), warmup_epochs=1)
    loss = loss_fn(LOGITS[:2, :1].to("meta"), torch.tensor([0, -100], device="meta"))
    assert loss.is_meta


def test_shapes_that_differ_are_not_broadcast():
    loss_fn = LossWarmupWrapper(
        nn.CrossEntropyLoss(reduction="none"), PlainMain(), final_main_weight=0.5
    )
    with pytest.raises(ValueError, match=r"same shape.*got \[6\] and \[\]"):
        call(loss_fn)


@pytest.mark.parametrize("value", [None, False, True])
def test_gather_distributed_is_set_where_there_is_such_a_setting(value):
    loss_fn = LossWarmupWrapper(FakeMain(), FakeMain(), gather_distributed=value)
    assert loss_fn.warmup_loss.gather_distributed is value
    assert loss_fn.main_loss.gather_distributed is value
    assert not hasattr(build(gather_distributed=value).warmup_loss, "gather_distributed")


def test_compiled_inner_losses():
    def compiled(**kwargs):
        return LossWarmupWrapper(
            torch.compile(nn.CrossEntropyLoss(), backend="eager"),
            torch.compile(FakeMain(), backend="eager"),
            **kwargs,
        )

    settings = {"warmup_epochs": 1, "blend_epochs": 1, **ANNEALING}
    assert run(compiled(**settings), 9) == run(build(**settings), 9)


@pytest.mark.parametrize(
    "settings", [{"warmup_steps": 3, "blend_steps": 20}, {"warmup_epochs": 2, "blend_epochs": 4}]
)
def test_compiled_as_a_whole_it_does_not_recompile_at_every_step(settings):
    class Quiet(FakeMain):
        def forward(self, logits, targets):
            return (logits**2).mean() / self._temperature

    loss_fn = LossWarmupWrapper(nn.CrossEntropyLoss(), Quiet(), **settings)
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(loss_fn, backend=counter, fullgraph=True)
    for step in range(30):
        loss_fn.on_train_epoch_start(step // 3)
        loss_fn.on_train_batch_start(step)
        torch.testing.assert_close(compiled(LOGITS, TARGETS), call(loss_fn))
    # Warm-up, main phase, and the blend twice: its weight becomes an input when it first changes.
    assert counter.frame_count <= 4


def test_repr_shows_the_settings():
    text = repr(build(warmup_steps=7, final_main_weight=0.25, reset_queue_each_epoch=True))
    for part in ("warmup_steps=7", "final_main_weight=0.25", "reset_queue_each_epoch=True"):
        assert part in text


@pytest.mark.parametrize(
    ("error", "words", "kwargs"),
    [
        (TypeError, "warmup_loss must be an nn.Module", {"warmup_loss": F.cross_entropy}),
        (TypeError, "main_loss must be an nn.Module", {"main_loss": None}),
        (ValueError, "warmup_epochs must be at least 0; got -1", {"warmup_epochs": -1}),
        (TypeError, "warmup_epochs must be an int", {"warmup_epochs": 1.5}),
        (ValueError, "temp_start must be above 0", {"temp_start": 0.0}),
        (ValueError, "temp_end must be above 0", {"temp_end": -0.1}),
        (ValueError, "temp_decay_steps must be at least 1", {"temp_decay_steps": 0}),
        (ValueError, "blend_epochs must be at least 0", {"blend_epochs": -1}),
        (ValueError, "warmup_steps must be at least 0", {"warmup_steps": -1}),
        (ValueError, "blend_steps must be at least 0", {"warmup_steps": 1, "blend_steps": -1}),
        (
            ValueError,
            "warmup_epochs and warmup_steps are mutually exclusive; got 1 and 5",
            {"warmup_epochs": 1, "warmup_steps": 5},
        ),
        (
            ValueError,
            "blend_epochs and blend_steps are mutually exclusive; got 2 and 3",
            {"warmup_steps": 5, "blend_epochs": 2, "blend_steps": 3},
        ),
        (ValueError, "blend_steps needs warmup_steps", {"blend_steps": 3}),
        (ValueError, "blend_steps needs warmup_steps", {"warmup_epochs": 1, "blend_steps": 3}),
        (ValueError, "final_main_weight must be above 0", {"final_main_weight": 0.0}),
        (ValueError, "final_main_weight must be.*at most 1", {"final_main_weight": 1.5}),
        (TypeError, "reset_queue_each_epoch must be True or False", {"reset_queue_each_epoch": 1}),
        (TypeError, "gather_distributed must be True, False or None", {"gather_distributed": "no"}),
    ],
)
def test_constructor_errors(error, words, kwargs):
    losses = {"warmup_loss": nn.CrossEntropyLoss(), "main_loss": FakeMain()}
    with pytest.raises(error, match=words):
        LossWarmupWrapper(**{**losses, **kwargs})


@pytest.mark.parametrize("hook", ["on_train_epoch_start", "on_train_batch_start"])
def test_hooks_refuse_what_is_no_position(hook):
    with pytest.raises(ValueError, match="must be at least 0; got -1"):
        getattr(build(), hook)(-1)
    with pytest.raises(TypeError, match="must be an int"):
        getattr(build(), hook)(0.5)


def test_progress_survives_a_round_trip():
    schedule = Schedule(warmup_steps=3, blend_epochs=2)
    for epoch, step in ((0, 2), (4, 3), (5, 9)):
        schedule.start_epoch(epoch)
        schedule.start_step(step)
        other = Schedule(warmup_steps=3, blend_epochs=2)
        other.progress = schedule.progress
        assert other == schedule


def blobs(n, classes, generator):
    """Rows of `classes` Gaussian clouds, the later ones rarer."""
    counts = torch.tensor([n // 2**c for c in range(1, classes)] + [n // 2 ** (classes - 1)])
    targets = torch.arange(classes).repeat_interleave(counts)
    centres = 2 * torch.randn(classes, 4, generator=generator)
    return centres[targets] + torch.randn(len(targets), 4, generator=generator), targets


def train(loss_fn, model, epochs, inputs, targets, optimizer):
    """The loop of a tutorial: both hooks, one batch of 16 rows per step, in a fixed order."""
    steps = len(inputs) // 16
    losses = []
    for epoch in epochs:
        loss_fn.on_train_epoch_start(epoch)
        order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(epoch))
        for i, rows in enumerate(order[: steps * 16].split(16)):
            loss_fn.on_train_batch_start(epoch * steps + i)
            loss = loss_fn(model(inputs[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def five_classes():
    inputs, targets = blobs(160, 5, torch.Generator().manual_seed(3))
    torch.manual_seed(0)
    model = nn.Linear(4, 5)
    loss_fn = LossWarmupWrapper(
        warmup_loss=nn.CrossEntropyLoss(),
        main_loss=SmoothAPLoss(num_classes=5, queue_size=64),
        warmup_epochs=2,
        blend_epochs=2,
        temp_start=0.5,
        temp_end=0.05,
        temp_decay_steps=40,
    )
    return loss_fn, model, torch.optim.Adam(model.parameters(), lr=0.05), inputs, targets


def test_cross_entropy_then_smooth_ap_learns_to_rank():
    loss_fn, model, optimizer, inputs, targets = five_classes()
    exact = SmoothAPLoss(num_classes=5, queue_size=0, temperature=1e-4)
    before = exact(model(inputs), targets).item()
    train(loss_fn, model, range(8), inputs, targets, optimizer)
    after = exact(model(inputs), targets).item()
    assert not loss_fn.in_warmup
    assert not loss_fn.in_blend
    assert loss_fn.current_temperature == pytest.approx(0.05)
    assert loss_fn.main_loss.temperature == pytest.approx(0.05)
    assert after < before / 2


@pytest.mark.parametrize("cut", [1, 2, 3, 5])
def test_training_resumed_from_a_checkpoint_is_the_same_bit_for_bit(cut):
    loss_fn, model, optimizer, *data = five_classes()
    whole = train(loss_fn, model, range(6), *data, optimizer)

    loss_fn, model, optimizer, *data = five_classes()
    head = train(loss_fn, model, range(cut), *data, optimizer)
    file = io.BytesIO()
    torch.save([part.state_dict() for part in (loss_fn, model, optimizer)], file)
    file.seek(0)
    loss_fn, model, optimizer, *data = five_classes()
    for part, state in zip(
        (loss_fn, model, optimizer), torch.load(file, weights_only=True), strict=True
    ):
        part.load_state_dict(state)
    assert head + train(loss_fn, model, range(cut, 6), *data, optimizer) == whole


@pytest.mark.parametrize(
    "warmup_loss", [nn.BCEWithLogitsLoss(), SigmoidFocalLoss()], ids=["bce", "focal"]
)
@pytest.mark.parametrize("shape", [(N,), (N, 1)])
def test_binary_targets_work_in_every_phase(warmup_loss, shape):
    loss_fn = LossWarmupWrapper(
        warmup_loss, SmoothAPLoss(num_classes=1), warmup_epochs=1, blend_epochs=1
    )
    logits = LOGITS[:, 0].reshape(shape).requires_grad_()
    for epoch in range(3):
        loss_fn.on_train_epoch_start(epoch)
        loss_fn.on_train_batch_start(epoch)
        loss = loss_fn(logits, BINARY)
        assert torch.autograd.grad(loss, logits)[0].isfinite().all()


@pytest.mark.parametrize("epoch", range(3))
def test_real_losses_take_every_keyword_and_return_one_form(epoch):
    loss_fn = LossWarmupWrapper(
        SoftmaxFocalLoss(), PAUCAtBudgetLoss(num_classes=C, beta=0.5), 1, blend_epochs=1
    )
    loss_fn.on_train_epoch_start(epoch)
    loss_fn.on_train_batch_start(epoch)
    weight = torch.rand(N, generator=torch.Generator().manual_seed(1))
    loss, per_class, valid, diagnostics = call(
        loss_fn,
        iid_mask=torch.ones(N, dtype=torch.bool),
        return_per_class=True,
        return_diagnostics=True,
        sample_weight=weight,
    )
    assert loss.shape == ()
    assert loss.isfinite()
    assert per_class.shape == valid.shape == diagnostics["band_neg_count"].shape == (C,)
    if epoch == 0:
        assert loss.equal(SoftmaxFocalLoss()(LOGITS, TARGETS, sample_weight=weight))


def test_targets_must_be_a_tensor() -> None:
    loss_fn = LossWarmupWrapper(nn.CrossEntropyLoss(), SmoothAPLoss(3), warmup_epochs=1)
    with pytest.raises(TypeError, match="targets must be a tensor; got list"):
        loss_fn(torch.zeros(2, 3), [0, 1])
