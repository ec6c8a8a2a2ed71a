"""LossWarmupWrapper: what it computes, returns, holds and refuses."""

import contextlib
import pickle

import pytest
import torch
import torch._dynamo.testing
import torch.nn.functional as F
from torch import nn

from imbalanced_losses import LossWarmupWrapper, SmoothAPLoss
from warmup_fakes import (
    ANNEALING,
    CE,
    LOGITS,
    TARGETS,
    C,
    FakeMain,
    N,
    PlainMain,
    build,
    call,
    run,
    to_phase,
)


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


def test_classes_of_dense_logits_are_counted_in_dimension_one():
    class Uncounted(nn.Module):
        def forward(self, logits, targets, return_per_class=False):
            raise AssertionError

    loss_fn = LossWarmupWrapper(nn.CrossEntropyLoss(), Uncounted(), warmup_epochs=1)
    _, per_class, valid = loss_fn(
        torch.zeros(2, 5, 4, 4), torch.zeros(2, 4, 4, dtype=torch.int64), return_per_class=True
    )
    assert per_class.shape == valid.shape == (5,)


def test_keyword_arguments_reach_the_main_loss():
    iid, weight = torch.ones(N, dtype=torch.bool), torch.rand(N)
    for phase in ("blend", "main"):
        loss_fn = to_phase(phase)
        call(loss_fn, iid_mask=iid, sample_weight=weight)
        assert loss_fn.main_loss.calls[-1] == (TARGETS, iid, weight)


def test_an_unknown_keyword_is_refused_before_the_main_phase_too():
    for phase in ("warmup", "blend", "main"):
        with pytest.raises(TypeError, match="main_loss takes no argument return_perclass"):
            call(to_phase(phase), return_perclass=True)


def test_a_main_loss_with_open_keywords_takes_anything():
    class Open(nn.Module):
        def forward(self, logits, targets, **kwargs):
            return logits.sum() * kwargs["scale"]

    loss_fn = LossWarmupWrapper(nn.CrossEntropyLoss(), Open(), final_main_weight=0.5)
    torch.testing.assert_close(call(loss_fn, scale=2), LOGITS.sum() + CE / 2)


def test_shapes_that_differ_are_not_broadcast():
    loss_fn = LossWarmupWrapper(
        nn.CrossEntropyLoss(reduction="none"), PlainMain(), final_main_weight=0.5
    )
    with pytest.raises(ValueError, match=r"same shape.*got \[6\] and \[\]"):
        call(loss_fn)


def test_inputs_must_be_tensors():
    with pytest.raises(TypeError, match="targets must be a tensor; got list"):
        build()(LOGITS, [0, 1])
    with pytest.raises(TypeError, match="logits must be a tensor; got list"):
        build(warmup_epochs=1)([0.0, 1.0], TARGETS)


def test_a_frozen_queue_is_that_of_every_loss_that_has_one():
    for loss_fn in (
        LossWarmupWrapper(FakeMain(), FakeMain(), final_main_weight=0.5),
        torch.compile(
            LossWarmupWrapper(FakeMain(), FakeMain(), final_main_weight=0.5), backend="eager"
        ),
    ):
        queues = loss_fn.warmup_loss.queue, loss_fn.main_loss.queue
        with contextlib.ExitStack() as stack:
            stack.enter_context(loss_fn.frozen_queue())
            frozen = call(loss_fn)
            assert all(queue == 0 for queue in queues)
        assert call(loss_fn) == frozen
        assert all(queue == LOGITS.mean() for queue in queues)


def test_a_frozen_queue_thaws_after_an_error_and_is_nothing_where_there_is_no_queue():
    loss_fn = build()
    with pytest.raises(ValueError, match="must be class"), loss_fn.frozen_queue():
        raise ValueError("targets must be class indices")
    assert not loss_fn.main_loss.frozen
    with LossWarmupWrapper(F.cross_entropy, PlainMain()).frozen_queue():
        assert call(LossWarmupWrapper(F.cross_entropy, PlainMain())).equal(LOGITS.mean())


def test_every_setting_can_be_read_as_an_attribute():
    settings = {
        "warmup_steps": 3,
        "temp_start": 0.5,
        "temp_end": 0.1,
        "temp_decay_steps": 7,
        "blend_steps": 2,
        "final_main_weight": 0.75,
        "reset_queue_each_epoch": True,
        "gather_distributed": False,
    }
    defaults = {"warmup_epochs": 0, "blend_epochs": 0}
    numbers = {name: torch.tensor(value) for name, value in settings.items() if value is not False}
    numbers["reset_queue_each_epoch"] = True  # a flag is no number
    for given in (settings, settings | numbers):
        loss_fn = build(**given)
        for name, value in (settings | defaults).items():
            read = getattr(loss_fn, name)
            assert read == pytest.approx(value)
            assert type(read) is type(value)
    for name in ("temp_start", "temp_end", "warmup_steps", "blend_steps", "gather_distributed"):
        assert getattr(build(), name) is None


def test_a_setting_that_is_assigned_is_checked_and_followed():
    loss_fn = build(temp_start=0.5)
    loss_fn.on_train_batch_start(10)
    loss_fn.temp_end = 0.125
    loss_fn.temp_decay_steps = 20
    assert loss_fn.main_loss.temperature == 0.25
    loss_fn.final_main_weight = 0.75
    main = (LOGITS**2).mean() / 0.25
    torch.testing.assert_close(call(loss_fn), 0.75 * main + 0.25 * CE, check_dtype=False)
    with pytest.raises(ValueError, match="final_main_weight must be above 0"):
        loss_fn.final_main_weight = 0
    assert loss_fn.final_main_weight == 0.75


def test_gather_distributed_is_set_where_there_is_such_a_setting():
    for value in (None, False, True):
        loss_fn = LossWarmupWrapper(FakeMain(), FakeMain(), gather_distributed=value)
        assert loss_fn.warmup_loss.gather_distributed is value
        assert loss_fn.main_loss.gather_distributed is value
        assert not hasattr(build(gather_distributed=value).warmup_loss, "gather_distributed")
    nested = LossWarmupWrapper(FakeMain(), loss_fn, gather_distributed=False)
    assert loss_fn.main_loss.gather_distributed is False
    nested.gather_distributed = None  # leaves the losses what they have
    assert loss_fn.main_loss.gather_distributed is False


def test_state_is_one_tensor_beside_that_of_the_losses():
    state = build(warmup_epochs=1).state_dict()
    assert set(state) == {"_extra_state", "main_loss._temperature", "main_loss.queue"}
    assert all(isinstance(value, torch.Tensor) for value in state.values())


class NumberedMain(nn.Module):
    """A main loss whose temperature is a plain number."""

    temperature = 0.5

    def forward(self, logits, targets, return_per_class=False):
        raise AssertionError


@pytest.mark.parametrize("main", [NumberedMain, lambda: SmoothAPLoss(3)])
def test_default_dtype_and_default_device_leave_the_wrapper_whole(main):
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            loss_fn = LossWarmupWrapper(nn.CrossEntropyLoss(), main(), 1, 0.3, 0.1)
            loss_fn.on_train_epoch_start(257)
            loss_fn.on_train_batch_start(100_003)
            assert "temp_start=0.3" in repr(loss_fn)
            position = loss_fn.state_dict()["_extra_state"]
            loss_fn.load_state_dict(loss_fn.state_dict())
        loss_fn.on_train_epoch_start(0)
        _, per_class, _ = call(loss_fn, return_per_class=True)
    finally:
        torch.set_default_dtype(previous)
    assert position.device.type == "cpu"
    assert position.tolist() == [257, 100_003, 257, 100_003]
    assert position.dtype == torch.int64
    assert loss_fn.current_temperature == 0.3
    assert per_class.dtype == torch.float32


def test_a_position_that_a_cast_has_rounded_is_refused():
    loss_fn = build()
    with pytest.raises(ValueError, match=r"four integers.*strict=False"):
        loss_fn.set_extra_state(loss_fn.get_extra_state().bfloat16())


def test_compiled_inner_losses_compute_the_same():
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
    torch._dynamo.reset()  # of the other wrappers that this process has compiled

    class Quiet(FakeMain):
        def forward(self, logits, targets):
            return (logits**2).mean() / self._temperature

    loss_fn = LossWarmupWrapper(F.cross_entropy, Quiet(), **settings, **ANNEALING)
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(loss_fn, backend=counter, fullgraph=True)
    for step in range(30):
        loss_fn.on_train_epoch_start(step // 3)
        loss_fn.on_train_batch_start(step)
        torch.testing.assert_close(compiled(LOGITS, TARGETS), call(loss_fn))
    # Warm-up, main phase, and the blend twice: its weight becomes an input when it first changes.
    assert counter.frame_count <= 4


def test_repr_shows_the_settings_and_a_warmup_loss_that_is_no_module():
    text = repr(build(warmup_steps=7, final_main_weight=0.25, reset_queue_each_epoch=True))
    for part in ("warmup_steps=7", "final_main_weight=0.25", "reset_queue_each_epoch=True"):
        assert part in text
    assert text.count("warmup_loss") == 1
    loss_fn = LossWarmupWrapper(F.cross_entropy, PlainMain())
    assert "warmup_loss=cross_entropy, " in repr(loss_fn)
    assert repr(pickle.loads(pickle.dumps(loss_fn))) == repr(loss_fn)


@pytest.mark.parametrize(
    ("error", "words", "kwargs"),
    [
        (TypeError, "warmup_loss must be an nn.Module or a function", {"warmup_loss": 0.5}),
        (TypeError, "warmup_loss must be.*got <class", {"warmup_loss": nn.CrossEntropyLoss}),
        (TypeError, "main_loss must be an nn.Module", {"main_loss": None}),
        (TypeError, "main_loss must be an nn.Module", {"main_loss": F.cross_entropy}),
        (ValueError, "warmup_epochs must be at least 0; got -1", {"warmup_epochs": -1}),
        (TypeError, "warmup_epochs must be an int", {"warmup_epochs": 1.5}),
        (ValueError, "temp_start must be above 0", {"temp_start": 0.0}),
        (ValueError, "temp_end must be above 0", {"temp_start": 1, "temp_end": -0.1}),
        (ValueError, "temp_end needs temp_start; got temp_end=0.1 alone", {"temp_end": 0.1}),
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
def test_wrong_settings_are_refused(error, words, kwargs):
    losses = {"warmup_loss": nn.CrossEntropyLoss(), "main_loss": FakeMain()}
    with pytest.raises(error, match=words):
        LossWarmupWrapper(**{**losses, **kwargs})
