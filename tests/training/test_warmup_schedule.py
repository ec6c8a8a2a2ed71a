"""LossWarmupWrapper: which phase, weight and temperature a step has, also in a resumed run."""

import copy
import io
import math
import pickle

import pytest
import torch
from torch import nn

from imbalanced_losses import LossWarmupWrapper
from imbalanced_losses._schedule import Schedule, main_weight_at, temperature_at
from warmup_fakes import (
    ANNEALING,
    CE,
    LOGITS,
    OWN_TEMPERATURE,
    TARGETS,
    FakeMain,
    PlainMain,
    build,
    call,
    run,
    to_phase,
)


@pytest.mark.parametrize(
    ("unit", "blend", "final", "expected"),
    [
        (-1, 0, 1.0, 0),
        (-5, 3, 0.4, 0),
        (0, 0, 1.0, 1),
        (9, 0, 0.4, 0.4),
        (0, 1, 1.0, 1 / 2),
        (0, 3, 1.0, 1 / 4),
        (2, 3, 1.0, 3 / 4),
        (3, 3, 1.0, 1),
        (1, 3, 0.4, 0.4 * 2 / 4),
        (7, 3, 0.4, 0.4),
    ],
)
def test_main_weight_rises_in_equal_parts_over_the_blend(unit, blend, final, expected):
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
def test_temperature_follows_a_geometric_path_and_stays_at_its_end(
    steps, start, end, decay, expected
):
    assert temperature_at(steps, start, end, decay) == pytest.approx(expected, rel=1e-14)


# Two steps per epoch. Each row: settings, main weight at each step, first step after the warm-up.
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
def test_phases_follow_the_settings_step_by_step(case):
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
            assert loss_fn.current_temperature == OWN_TEMPERATURE
            assert loss_fn.main_loss.temperature == OWN_TEMPERATURE
            assert loss.equal(CE)
        else:
            assert loss_fn.current_temperature == pytest.approx(2.0 ** -(step - switch))
            assert loss_fn.main_loss.temperature == loss_fn.current_temperature
    assert loss_fn.main_loss.resets == (switch > 0)


def test_without_temp_start_the_main_loss_keeps_its_own_temperature():
    loss_fn = build(warmup_epochs=1, temp_decay_steps=2)
    trace = [temperature for _, temperature in run(loss_fn, 9)]
    assert trace == [OWN_TEMPERATURE] * 9
    loss_fn.main_loss.temperature = 0.75
    loss_fn.on_train_batch_start(9)
    assert loss_fn.current_temperature == loss_fn.main_loss.temperature == 0.75


def test_without_temp_end_the_temperature_stays_at_temp_start():
    loss_fn = build(warmup_epochs=1, temp_start=0.5, temp_decay_steps=2)
    assert [temperature for _, temperature in run(loss_fn, 9)] == [OWN_TEMPERATURE] * 3 + [0.5] * 6
    assert loss_fn.main_loss.temperature == 0.5


@pytest.mark.parametrize(
    ("settings", "switch"), [({}, 0), ({"blend_epochs": 2}, 0), ({"warmup_steps": 4999}, 4999)]
)
def test_a_switch_that_the_settings_tell_counts_for_a_run_that_starts_late(settings, switch):
    annealing = {"temp_start": 0.5, "temp_end": 0.05, "temp_decay_steps": 10_000}
    loss_fn = build(**settings, **annealing)
    loss_fn.on_train_epoch_start(50)
    loss_fn.on_train_batch_start(5000)
    expected = 0.5 * 0.1 ** ((5000 - switch) / 10_000)
    assert loss_fn.current_temperature == pytest.approx(expected, rel=1e-12)
    # A checkpoint that was written under other settings does not change where the switch is.
    other = build(warmup_epochs=3)
    other.on_train_epoch_start(4)
    other.on_train_batch_start(400)
    loss_fn.load_state_dict(other.state_dict())
    loss_fn.on_train_batch_start(5000)
    assert loss_fn.current_temperature == pytest.approx(expected, rel=1e-12)


def test_after_a_warmup_in_epochs_steps_count_from_the_first_one_that_was_seen():
    loss_fn = build(warmup_epochs=1, **ANNEALING)
    loss_fn.on_train_epoch_start(1)
    assert loss_fn.current_temperature == loss_fn.main_loss.temperature == 1
    for step, expected in ((100, 1), (101, 1 / 2), (108, 2**-8), (9999, 2**-8), (99, 1)):
        loss_fn.on_train_batch_start(step)
        assert loss_fn.current_temperature == expected


@pytest.mark.parametrize(("each_epoch", "resets"), [(False, [0, 1, 1, 1]), (True, [0, 1, 2, 3])])
def test_the_queue_is_emptied_at_the_switch_and_where_asked_in_every_epoch(each_epoch, resets):
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


@pytest.mark.parametrize(
    "settings",
    [
        {"warmup_epochs": 1, "blend_epochs": 2, **ANNEALING},
        {"warmup_steps": 4, "blend_steps": 3, "final_main_weight": 0.5, **ANNEALING},
        {"warmup_steps": 4, "blend_epochs": 2},
        {"warmup_epochs": 1, "reset_queue_each_epoch": True, "temp_start": 0.5},
    ],
)
def test_a_run_resumed_at_any_step_goes_on_identically(settings):
    whole = run(build(**settings), 12)
    for cut in range(1, 12):
        stopped = build(**settings)
        head = run(stopped, cut)
        file = io.BytesIO()
        torch.save(stopped.state_dict(), file)
        file.seek(0)
        resumed = build(**settings)
        resumed.load_state_dict(torch.load(file, weights_only=True))
        for name in ("in_warmup", "in_blend", "main_weight", "current_temperature"):
            assert getattr(resumed, name) == getattr(stopped, name)
        assert resumed.main_loss.temperature == stopped.main_loss.temperature
        assert head + run(resumed, 12, first=cut) == whole


def test_the_schedule_survives_a_round_trip_through_its_four_numbers():
    schedule = Schedule(warmup_epochs=3, blend_epochs=2)
    for epoch, step in ((0, 2), (4, 3), (5, 9)):
        schedule.start_epoch(epoch)
        schedule.start_step(step)
        other = Schedule(warmup_epochs=3, blend_epochs=2)
        other.progress = schedule.progress
        assert other == schedule


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_go_on_alone(clone):
    for steps in (2, 5, 9):
        original = build(warmup_epochs=1, blend_epochs=1, **ANNEALING)
        run(original, steps)
        copied = clone(original)
        assert run(copied, 12, first=steps) == run(original, 12, first=steps)


@pytest.mark.parametrize(
    ("settings", "epoch", "warns"),
    [
        (ANNEALING, 0, True),
        ({**ANNEALING, "warmup_epochs": 1}, 0, False),
        ({**ANNEALING, "warmup_epochs": 1, "final_main_weight": 0.5}, 1, True),
        ({"warmup_steps": 5}, 0, True),
        # Nothing depends on the step:
        ({"warmup_epochs": 1}, 1, False),
        ({"warmup_epochs": 1, "temp_start": 0.5}, 1, False),
        ({"warmup_epochs": 1, "temp_start": 0.5, "temp_end": 0.5}, 1, False),
    ],
)
def test_a_forgotten_batch_hook_warns_once(settings, epoch, warns):
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


def test_a_batch_hook_forgotten_after_resuming_warns_too():
    loss_fn = build(**ANNEALING)
    loss_fn.load_state_dict(to_phase("main").state_dict())
    with pytest.warns(UserWarning, match="on_train_batch_start"):
        call(loss_fn)


def test_the_epoch_hook_is_not_missed_in_the_middle_of_a_resumed_epoch():
    loss_fn = build(warmup_epochs=1, blend_epochs=1)
    loss_fn.load_state_dict(to_phase("blend").state_dict())
    loss_fn.on_train_batch_start(3)
    assert loss_fn.in_blend


@pytest.mark.parametrize(
    "settings",
    [
        {"warmup_epochs": 1},
        {"warmup_steps": 1, "blend_epochs": 1},
        {"reset_queue_each_epoch": True},
    ],
)
def test_a_forgotten_epoch_hook_warns_once(settings):
    loss_fn = build(**settings)
    with pytest.warns(UserWarning, match="on_train_epoch_start is never called"):
        loss_fn.on_train_batch_start(0)
    loss_fn.on_train_batch_start(1)
    build(warmup_steps=1, blend_steps=1).on_train_batch_start(0)


def line_of(function) -> int:
    """Line of the only statement of a function."""
    return function.__code__.co_firstlineno + 1


def test_every_warning_points_at_the_line_of_the_user():
    torch._dynamo.reset()  # of the other wrappers that this process has compiled
    hooked, compiled = (build(warmup_steps=1) for _ in range(2))
    hooked.register_forward_hook(lambda module, arguments, returned: None)
    compiled = torch.compile(compiled, backend="eager", fullgraph=True)

    def forgets_the_batch_hook():
        build(warmup_steps=1)(LOGITS, TARGETS)

    def forgets_it_with_a_hook_of_torch():
        hooked(LOGITS, TARGETS)

    def forgets_it_compiled():
        compiled(LOGITS, TARGETS)

    def forgets_the_epoch_hook():
        build(warmup_epochs=1).on_train_batch_start(0)

    def anneals_nothing():
        LossWarmupWrapper(nn.CrossEntropyLoss(), PlainMain(), temp_start=0.5)

    for function in (
        forgets_the_batch_hook,
        forgets_it_with_a_hook_of_torch,
        forgets_it_compiled,
        forgets_the_epoch_hook,
        anneals_nothing,
    ):
        with pytest.warns(UserWarning, match="never called|has no effect") as caught:
            function()
        assert [(w.filename, w.lineno) for w in caught] == [(__file__, line_of(function))]


def test_a_setting_that_the_main_loss_cannot_follow_is_said_once():
    with pytest.warns(UserWarning, match="temp_start has no.*a PlainMain, has no temperature"):
        loss_fn = LossWarmupWrapper(nn.CrossEntropyLoss(), PlainMain(), 1, 0.5, 0.1)
    run(loss_fn, 6)
    assert loss_fn.current_temperature is None
    assert not hasattr(loss_fn.main_loss, "temperature")
    main = torch.compile(PlainMain(), backend="eager")
    with pytest.warns(UserWarning, match="reset_queue_each_epoch has no.*has no reset_queue"):
        loss_fn = LossWarmupWrapper(nn.CrossEntropyLoss(), main, reset_queue_each_epoch=True)
    for epoch in range(3):
        loss_fn.on_train_epoch_start(epoch)
    run(LossWarmupWrapper(nn.CrossEntropyLoss(), PlainMain(), 1), 6)
    LossWarmupWrapper(nn.CrossEntropyLoss(), FakeMain(), temp_start=0.5).on_train_batch_start(0)


@pytest.mark.parametrize("hook", ["on_train_epoch_start", "on_train_batch_start"])
def test_hooks_refuse_what_is_no_position(hook):
    with pytest.raises(ValueError, match="must be at least 0; got -1"):
        getattr(build(), hook)(-1)
    with pytest.raises(TypeError, match="must be an int"):
        getattr(build(), hook)(0.5)
    getattr(build(), hook)(torch.tensor(3))
