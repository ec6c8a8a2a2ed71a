"""Temperatures as a share of the spread, and thresholds that carry gradient."""

import copy
import inspect
import pickle
import re

import pytest
import torch
from torch import Tensor

import reference
from cases import FUNCTIONS
from imbalanced_losses import PAUCAtBudgetLoss, RecallAtQuantileLoss, SmoothAPLoss, metrics

SCALED = {
    f"{name}-{tau_scale}": (cls, {**options, "tau_scale": tau_scale})
    for name, (cls, options) in {
        "smooth_ap": (SmoothAPLoss, {"temperature": 0.2}),
        "recall": (RecallAtQuantileLoss, {"quantile": 1 / 8, "temperature": 0.3}),
        "moving": (
            RecallAtQuantileLoss,
            {"quantile": 1 / 8, "temperature": 0.3, "threshold_gradient": True},
        ),
    }.items()
    for tau_scale in ("std", "iqr")
}
every_scaled = pytest.mark.parametrize(("cls", "options"), SCALED.values(), ids=SCALED)

MOVING = {
    "recall": (
        RecallAtQuantileLoss,
        {"quantile": 1 / 8, "temperature": 0.3, "tau_scale": "std", "threshold_gradient": True},
    ),
    "trapezoid": (
        PAUCAtBudgetLoss,
        {"alpha": 1 / 16, "beta": 1 / 2, "n_knots": 3, "threshold_gradient": True},
    ),
    "population": (
        PAUCAtBudgetLoss,
        {"beta": 1 / 4, "budget_basis": "population", "threshold_gradient": True},
    ),
}
every_moving = pytest.mark.parametrize(("cls", "options"), MOVING.values(), ids=MOVING)


def batch(seed: int = 0, rows: int = 24) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(3, (rows,), generator=generator)
    targets[::9] = -100
    return torch.randn(rows, 3, dtype=torch.float64, generator=generator), targets


def with_queue(cls, options, **more):
    """A loss in `eval` mode, whose queue holds a batch and stays as it is."""
    loss = cls(3, queue_size=40, **options, **more).double()
    loss(*batch(1))
    return loss.eval()


def gradient(loss, logits: Tensor, *rest: Tensor, **keywords: Tensor) -> Tensor:
    leaf = logits.detach().clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, *rest, **keywords), leaf)[0]


@every_scaled
def test_scores_times_37_change_nothing_but_the_gradients_unit(cls, options) -> None:
    logits, targets = batch()
    values, gradients = [], []
    for factor in (1, 37):
        loss = cls(3, queue_size=40, **options).double()
        past, past_targets = batch(1)
        loss(factor * past, past_targets)
        values.append(loss.eval()(factor * logits, targets))
        gradients.append(gradient(loss, factor * logits, targets))
    assert gradients[0].abs().max() > 1e-3
    torch.testing.assert_close(values[1], values[0], rtol=1e-10, atol=0)
    torch.testing.assert_close(37 * gradients[1], gradients[0], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(("cls", "options"), [SCALED["smooth_ap-std"], SCALED["recall-std"]])
def test_the_spread_is_that_of_each_classs_own_valid_rows(cls, options) -> None:
    logits, targets = batch()
    kept = logits[targets != -100]
    plain = {key: value for key, value in options.items() if key != "tau_scale"}
    by_hand = [
        FUNCTIONS[cls](
            logits,
            targets,
            reduction="none",
            **{
                **plain,
                "temperature": options["temperature"] * kept[:, c].std(correction=0).item(),
            },
        )[c]
        for c in range(3)
    ]
    found = FUNCTIONS[cls](logits, targets, reduction="none", **options)
    torch.testing.assert_close(found, torch.stack(by_hand))


@every_scaled
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_equal_scores_take_the_temperature_as_it_is(cls, options, dtype) -> None:
    """So that a model that begins with one score for all rows has a gradient to leave it by."""
    logits, targets = torch.full((24, 3), 0.1, dtype=dtype), batch()[1]
    plain = {key: value for key, value in options.items() if key != "tau_scale"}
    results = [
        (FUNCTIONS[cls](logits, targets, **o), gradient(FUNCTIONS[cls], logits, targets, **o))
        for o in (options, plain)
    ]
    torch.testing.assert_close(*results, rtol=0, atol=0)
    assert results[0][1].abs().max() > 0


@every_moving
def test_a_moving_threshold_leaves_the_value_as_it_is_to_the_last_bit(cls, options) -> None:
    logits, targets = batch()
    fixed = {**options, "threshold_gradient": False}
    for dtype in (torch.float32, torch.float64):
        leaf = logits.to(dtype).requires_grad_()
        values = [with_queue(cls, o, reduction="none")(leaf, targets) for o in (options, fixed)]
        torch.testing.assert_close(*values, rtol=0, atol=0)
    assert not torch.equal(
        *(gradient(with_queue(cls, o), logits, targets) for o in (options, fixed))
    )


@every_moving
@pytest.mark.parametrize("more", [{}, {"max_pool_size": 30}], ids=["whole", "subsampled"])
@pytest.mark.filterwarnings("ignore:The pool of")
def test_the_gradient_sums_to_zero_over_the_rows_that_carry_it(cls, options, more) -> None:
    logits, targets = batch()
    weight = torch.linspace(0.1, 2, len(logits), dtype=torch.float64)
    found = gradient(with_queue(cls, options, **more), logits, targets, sample_weight=weight)
    assert (found.abs().sum(0) > 1e-3).all()
    assert found.sum(0).abs().max() < 1e-14
    fixed = with_queue(cls, {**options, "threshold_gradient": False}, **more)
    assert (gradient(fixed, logits, targets, sample_weight=weight).sum(0) < -1e-4).all()


@every_moving
def test_a_common_shift_changes_neither_value_nor_gradient(cls, options) -> None:
    logits, targets = batch()
    found = [gradient(FUNCTIONS[cls], logits + shift, targets, **options) for shift in (0, 5)]
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-13)
    twice = torch.autograd.functional.hessian(
        lambda x: FUNCTIONS[cls](x, targets, **options), logits
    )
    assert twice.abs().max() > 1e-3
    assert twice.sum(2).abs().max() < 1e-14


@every_moving
def test_without_a_live_reference_row_the_threshold_stands_still(cls, options) -> None:
    """Only the recall's threshold knows no iid mask: there all live rows are ignored but one."""
    logits, targets = batch()
    iid = torch.zeros(len(logits), dtype=torch.bool)
    found, fixed = (
        gradient(with_queue(cls, {**options, "threshold_gradient": on}), logits, targets, iid)
        for on in (True, False)
    )
    if cls is PAUCAtBudgetLoss:
        assert fixed.abs().max() > 1e-3
        torch.testing.assert_close(found, fixed, rtol=1e-12, atol=0)
    else:
        assert found.sum(0).abs().max() < 1e-14


@every_moving
def test_a_threshold_far_from_all_live_rows_moves_with_the_nearest(cls, options) -> None:
    """The kernel underflows there, and 0 / 0 would be NaN."""
    past = torch.linspace(-1, 1, 40)[:, None]
    for far in (-40.0, -4e3, -1e30):
        loss = cls(1, queue_size=40, **options)
        loss(past, (torch.arange(40) % 5 == 0).long())
        logits = torch.tensor([[far], [2 * far], [0.9], [far * 1.5]])
        found = gradient(loss, logits, torch.tensor([0, 0, 1, 0]))
        assert found.isfinite().all()
        assert found.sum().abs() < 1e-6
        if cls is PAUCAtBudgetLoss and options.get("budget_basis") != "population":
            assert found[0] > 1e-3
            assert found[1:].flatten()[[0, 2]].abs().max() < 1e-6


def class_pools(logits: Tensor, targets: Tensor, queue: bool) -> list[reference.Class]:
    past, past_targets = batch(1)
    rows = torch.cat((logits, past)) if queue else logits
    labels = torch.cat((targets, past_targets)) if queue else targets
    live = torch.arange(len(rows)) < len(logits)
    return [
        reference.Class(rows[:, c], labels == c, labels != -100, None, None, live) for c in range(3)
    ]


def written_gradient(pool: reference.Class, options: dict, rows: int) -> Tensor:
    """The gradient in the live scores as it is defined, a function that can be differentiated."""

    def quantile(level: float, rows: list[int]) -> Tensor:
        return reference.quantile_of(pool.scores[rows], level, "higher")

    everyone = pool.positives + pool.negatives
    tau = options.get("temperature", 0.1)
    if "quantile" in options:
        members, knots = everyone, [quantile(1 - options["quantile"], everyone)]
        tau *= reference.unit_of(pool, options["tau_scale"])
    else:
        members = everyone if options.get("budget_basis") == "population" else pool.negatives
        alpha, beta, count = (
            options.get(k, d) for k, d in (("alpha", 0), ("beta", 0), ("n_knots", 2))
        )
        rates = [alpha + (beta - alpha) * k / (count - 1) for k in range(count)]
        knots = [quantile(1 - rate, members) for rate in rates]
        tau *= (quantile(0.75, members) - quantile(0.25, members)).item()
    shares = [1.0] if len(knots) == 1 else [0.5, *[1.0] * (len(knots) - 2), 0.5]
    total: list = [torch.zeros((), dtype=torch.float64)] * rows
    for knot, share in zip(knots, shares, strict=True):
        moving = reference.moving_threshold(knot, pool, members, tau)
        live = [j for j in members if pool.live[j]]
        weights = reference.kernel_weights(moving, [pool.scores[j] for j in live], tau)
        for i in (i for i in pool.positives if pool.live[i]):
            step = torch.sigmoid((pool.scores[i] - moving) / tau)
            slope = share / sum(shares) * step * (1 - step) / tau / len(pool.positives)
            total[i] = total[i] - slope
            for j, weight in zip(live, weights, strict=True):
                total[j] = total[j] + slope * weight
    return torch.stack(total)


@every_moving
@pytest.mark.parametrize("queue", [False, True])
def test_the_second_derivative_is_that_of_the_gradient_as_written(cls, options, queue) -> None:
    logits, targets = batch(rows=12)
    loss = with_queue(cls, options) if queue else cls(3, queue_size=0, **options)

    def expected(x: Tensor) -> Tensor:
        pools = class_pools(x, targets, queue)
        return torch.stack([written_gradient(pool, options, len(x)) for pool in pools], 1) / 3

    torch.testing.assert_close(gradient(loss, logits, targets), expected(logits))
    leaf = logits.clone().requires_grad_()
    (first,) = torch.autograd.grad(loss(leaf, targets), leaf, create_graph=True)
    found = torch.stack(
        [torch.autograd.grad(entry, leaf, retain_graph=True)[0] for entry in first.flatten()]
    )
    wanted = torch.autograd.functional.jacobian(expected, logits).flatten(0, 1)
    assert wanted.abs().max() > 1e-3
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_settings_of_the_cures_can_be_read_and_assigned() -> None:
    assert SmoothAPLoss(1, tau_scale="iqr").tau_scale == "iqr"
    assert "tau_scale='std'" in repr(RecallAtQuantileLoss(1, tau_scale="std"))
    loss = PAUCAtBudgetLoss(1, threshold_gradient=True)
    assert loss.threshold_gradient is True
    with pytest.raises(ValueError, match='threshold_gradient=True needs surrogate="trapezoid"'):
        loss.surrogate = "pairwise"
    loss.threshold_gradient = False
    loss.surrogate = "pairwise"


def train(loss, scale: float, steps: int) -> None:
    """Steps on scores whose unit is `scale`; the positives are not on top."""
    for seed in range(steps):
        logits, targets = batch(seed)
        logits[targets >= 0, targets[targets >= 0]] -= 3
        leaf = (scale * logits).requires_grad_()
        (0.01 * loss(leaf, targets)).backward()
        loss.line = inspect.currentframe().f_lineno - 1


DEAD = {
    "smooth_ap": (SmoothAPLoss(3), 'Pass tau_scale="std"'),
    "recall": (RecallAtQuantileLoss(3), 'temperature=0.01 is too small .* Pass tau_scale="std"'),
    "moving": (RecallAtQuantileLoss(3, threshold_gradient=True), "Pass tau_scale"),
    "trapezoid": (PAUCAtBudgetLoss(3, temperature=1e-6), "of tau_scale='iqr' .* Assign a larger"),
}


@pytest.mark.parametrize(("loss", "words"), DEAD.values(), ids=DEAD)
def test_a_gradient_that_stays_dead_is_said_once_at_the_users_line(loss, words) -> None:
    loss, scale = copy.deepcopy(loss), 1e8
    before = set(loss.state_dict())
    train(loss, scale, 50)
    with pytest.warns(UserWarning, match=words) as caught:
        train(loss, scale, 1)
    assert len(caught) == 1
    assert (caught[0].filename, caught[0].lineno) == (__file__, loss.line)
    spread = float(re.search(r"deviation\) is ([\d.e+]+)", str(caught[0].message))[1])
    assert 0.5 * scale < spread < 2 * scale
    train(loss, scale, 60)
    assert set(loss.state_dict()) == before


def healed(loss) -> None:
    train(loss, 1e8, 45)
    loss.temperature = 1e8
    train(loss, 1e8, 1)
    loss.temperature = 0.01
    train(loss, 1e8, 49)
    loss.temperature = 1e8
    train(loss, 1e8, 1)


def near_its_goal(loss) -> None:
    for _ in range(60):
        scores = torch.arange(24.0)[:, None].requires_grad_()
        loss(1e4 * scores, (torch.arange(24) >= 20).long()).backward()


def without_positives(loss) -> None:
    for _ in range(60):
        scores = torch.randn(24, 1, requires_grad=True)
        loss(1e4 * scores, torch.zeros(24, dtype=torch.long)).backward()


def switched_off(loss) -> None:
    """A weight of 0 in front of the loss, in eval mode, and without a backward pass."""
    logits, targets = batch()
    for step in range(180):
        leaf = logits.clone().requires_grad_()
        if step < 60:
            (0 * loss(leaf, targets)).backward()
        elif step < 120:
            loss.eval()(1e8 * leaf, targets).backward()
        else:
            loss.train()(1e8 * leaf, targets)


def diverging(loss) -> None:
    for _ in range(60):
        leaf = torch.full((24, 1), torch.nan, requires_grad=True)
        loss(leaf, torch.arange(24) % 2).backward()


@pytest.mark.parametrize(
    ("classes", "run"),
    [(3, healed), (1, near_its_goal), (1, without_positives), (3, switched_off), (1, diverging)],
)
@pytest.mark.parametrize("cls", [SmoothAPLoss, RecallAtQuantileLoss])
def test_nothing_is_said_of_a_gradient_that_is_not_dead(cls, classes, run) -> None:
    """Warnings are errors in this test run."""
    loss = cls(classes, queue_size=0)
    run(loss)
    assert loss._watch.finding is None


def test_a_look_at_the_gradient_is_in_nobodys_way() -> None:
    logits, targets = batch()
    loss = RecallAtQuantileLoss(3, quantile=1 / 8, temperature=0.3, queue_size=0)
    leaf = logits.requires_grad_()
    value = loss(leaf, targets, return_per_class=True)[0]
    upstream = torch.ones(2, dtype=torch.float64)
    batched = torch.autograd.grad(value, leaf, upstream, is_grads_batched=True, retain_graph=True)
    (first,) = torch.autograd.grad(value, leaf, create_graph=True)
    torch.testing.assert_close(batched[0][1], first)
    (second,) = torch.autograd.grad(first.square().sum(), leaf)
    assert second.abs().max() > 0
    assert pickle.loads(pickle.dumps(loss))._watch.dead_steps == 0


BUDGET = 0.02


def contested_top(seed: int) -> tuple[Tensor, Tensor]:
    """2 % positives that share their second mark with two and a half times as many negatives."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(3000, 6, generator=generator, dtype=torch.float64)
    targets = (torch.arange(3000) < 60).long()
    features[:60, :2] += 1.5
    features[60:210, 1] += 2.5
    return torch.cat((features, torch.ones(3000, 1, dtype=torch.float64)), 1), targets


def cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    return torch.nn.functional.binary_cross_entropy_with_logits(scores, targets.double())


def trained_from_the_optimum(features, targets, ratio: float, moving: bool) -> tuple[float, float]:
    """Recall at the budget, and mean probability, on the training rows of a linear head.

    Trained on cross-entropy and `ratio` times as much of the recall loss, by their gradients on the
    scores, from the optimum of cross-entropy.
    """
    weight = torch.zeros(features.shape[1], dtype=torch.float64, requires_grad=True)
    newton = torch.optim.LBFGS([weight], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        newton.zero_grad()
        value = cross_entropy(features @ weight, targets)
        value.backward()
        return value

    newton.step(closure)
    loss = RecallAtQuantileLoss(
        1, BUDGET, queue_size=0, temperature=0.2, tau_scale="std", threshold_gradient=moving
    )
    adam = torch.optim.Adam([weight], lr=0.05)
    for _ in range(120 if ratio else 0):
        scores = features @ weight
        leaf = scores.detach().requires_grad_()
        (pointwise,) = torch.autograd.grad(cross_entropy(leaf, targets), leaf)
        (ranking,) = torch.autograd.grad(loss(leaf, targets), leaf)
        adam.zero_grad()
        scores.backward(pointwise + ratio * pointwise.norm() / ranking.norm() * ranking)
        adam.step()
    scores = (features @ weight).detach()
    recall = metrics.recall_at_quantile(scores, targets, quantile=BUDGET)
    return recall.item(), scores.sigmoid().mean().item()


@pytest.mark.parametrize("moving", [False, True], ids=["fixed", "moving"])
def test_more_weight_serves_the_goal_only_if_the_threshold_moves(moving) -> None:
    """Positives-only gradients are the fault: they are served by raising every score."""
    gained = []
    for seed in range(3):
        problem = contested_top(seed)
        before, _ = trained_from_the_optimum(*problem, 0, moving)
        recall, probability = trained_from_the_optimum(*problem, 10, moving)
        gained.append(recall - before)
        assert (probability < 0.05) if moving else (probability > 0.3)
    if moving:
        assert min(gained) >= 0
        assert sum(gained) / 3 > 0.02
    else:
        assert max(gained) <= 0
        assert sum(gained) / 3 < -0.03
