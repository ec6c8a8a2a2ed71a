"""The operating-point losses: value, gradient and multipliers against loops, and their promise."""

import copy
import math

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

import parallel
from imbalanced_losses import PrecisionAtRecallLoss, RecallAtPrecisionLoss, TPRAtFPRLoss

POINTS = {
    "precision": (RecallAtPrecisionLoss, {"precision": 0.6}),
    "recall": (PrecisionAtRecallLoss, {"recall": 0.7}),
    "fpr": (TPRAtFPRLoss, {"fpr": 0.4}),
}
every_point = pytest.mark.parametrize(("cls", "goal"), POINTS.values(), ids=POINTS)


class Oracle:
    """One loss as its docstring reads, with loops over classes and rows, in float64."""

    def __init__(self, goal, classes, queue_size, surrogate="logistic", temperature=1.0):
        ((self.name, self.goal),) = goal.items()
        self.surrogate, self.temperature, self.queue_size = surrogate, temperature, queue_size
        self.past = []
        self.multipliers, self.reached = [1.0] * classes, [math.nan] * classes

    def bound(self, score):
        if self.surrogate == "hinge":
            return (1 - score / self.temperature).clamp(min=0)
        return torch.log2(1 + torch.exp(-score / self.temperature))

    def __call__(self, logits, targets, iid, weight, dual_rate=0.02, largest=1000.0):
        live = list(zip(logits, targets.tolist(), iid.tolist(), weight.tolist(), strict=True))
        pool = self.past + live
        losses = []
        for c in range(logits.shape[1]):
            rows = [(z[c], t == c, i, w) for z, t, i, w in pool if t != -100]
            positives, negatives = [r for r in rows if r[1]], [r for r in rows if not r[1]]
            iid_positives, iid_negatives = (
                [r for r in side if r[2]] for side in (positives, negatives)
            )
            mass = sum(w for _, _, _, w in iid_positives)
            if not mass or not iid_negatives:
                continue

            def missed(side, what):
                return sum(w * what(z) for z, _, _, w in side) / sum(w for *_, w in side)

            def alarmed(side, what):
                return sum(what(-z) for z, *_ in side) / len(side)

            def share(z):
                return float(z <= 0)

            def share_above(z):
                return float(z < 0)

            r = len(iid_negatives) / len(iid_positives)
            m, f = missed(iid_positives, self.bound), alarmed(iid_negatives, self.bound)
            exact_m, exact_f = missed(iid_positives, share), alarmed(iid_negatives, share_above)
            objective = missed(positives, self.bound)
            if self.name == "precision":
                a, b, allowed = 1, r * self.goal / (1 - self.goal), 1
                found = 1 - exact_m
                wrong = r * exact_f
                reached = found / (found + wrong) if found + wrong else math.nan
                use = 0 if math.isnan(reached) else (1 - reached) / (1 - self.goal)
            elif self.name == "recall":
                objective = alarmed(negatives, self.bound)
                a, b, allowed = 1, 0, 1 - self.goal
                reached, use = 1 - exact_m, exact_m / (1 - self.goal)
            else:
                a, b, allowed = 0, 1, self.goal
                reached, use = exact_f, exact_f / self.goal
            multiplier = self.multipliers[c]
            broken = a * m + b * f - allowed
            losses.append((objective + multiplier * broken) / (1 + multiplier * (a + b)))
            if any(t != -100 for _, t, _, _ in live):
                moved = multiplier * math.exp(dual_rate * min(max(use - 1, -1), 1))
                self.multipliers[c] = min(max(moved, 1 / largest), largest)
                self.reached[c] = reached
        if any(t != -100 for _, t, _, _ in live):
            self.past = [(z.detach(), *rest) for z, *rest in pool][-self.queue_size :]
        return sum(losses) / len(losses)


def batch(seed, rows=18, classes=3):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(rows) % classes
    logits = torch.randn(rows, classes, generator=generator, dtype=torch.float64) - 0.3
    logits = logits + nn.functional.one_hot(targets, classes)
    targets[::7] = -100
    iid = torch.rand(rows, generator=generator) < 0.8
    return logits, targets, iid, torch.rand(rows, generator=generator, dtype=torch.float64)


@every_point
@pytest.mark.parametrize("surrogate", ["logistic", "hinge"])
def test_value_gradient_and_multipliers_are_those_of_the_loops(cls, goal, surrogate):
    settings = {"surrogate": surrogate, "temperature": 0.7}
    rates = {"dual_rate": 0.2, "max_multiplier": 1.5}
    loss = cls(3, **goal, queue_size=30, **settings, **rates).double()
    oracle = Oracle(goal, 3, 30, **settings)
    seen = set()
    for seed in range(8):
        logits, targets, iid, weight = batch(seed)
        ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        value = loss(ours, targets, iid, sample_weight=weight)
        expected = oracle(theirs, targets, iid, weight, 0.2, 1.5)
        assert_close(value, expected, rtol=1e-10, atol=1e-12)
        value.backward()
        expected.backward()
        assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-13)
        assert_close(loss.multipliers, torch.tensor(oracle.multipliers, dtype=torch.float64))
        assert_close(loss.reached, torch.tensor(oracle.reached, dtype=torch.float64))
        seen.update(oracle.multipliers)
    assert len(seen) > 3  # they moved


@every_point
def test_the_second_derivative_is_that_of_the_loops(cls, goal):
    logits, targets, iid, weight = batch(0)
    loss = cls(3, **goal, queue_size=0).eval()
    found = torch.autograd.functional.hessian(
        lambda z: loss(z, targets, iid, sample_weight=weight), logits
    )
    wanted = torch.autograd.functional.hessian(
        lambda z: Oracle(goal, 3, 1)(z, targets, iid, weight), logits
    )
    assert wanted.abs().max() > 1e-3
    assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def overlapping(seed=0, rows=2000, share=0.1):
    """Two Gaussians in two dimensions that no line parts."""
    generator = torch.Generator().manual_seed(seed)
    targets = (torch.rand(rows, generator=generator) < share).long()
    shift = targets[:, None] * torch.tensor([1.5, 0.75])
    return torch.randn(rows, 2, generator=generator) + shift, targets


def rates(scores, targets):
    alarms, positive = scores > 0, targets == 1
    return {
        "precision": (alarms & positive).sum() / alarms.sum(),
        "recall": (alarms & positive).sum() / positive.sum(),
        "fpr": (alarms & ~positive).sum() / (~positive).sum(),
    }


def trained(loss, steps=400):
    features, targets = overlapping()
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model(features)[:, 0], targets).backward()
        optimizer.step()
    return rates(model(features)[:, 0].detach(), targets)


@pytest.mark.parametrize(
    ("cls", "goal", "worse"),
    [
        (RecallAtPrecisionLoss, {"precision": 0.8}, lambda found: found < 0.75),
        (PrecisionAtRecallLoss, {"recall": 0.9}, lambda found: found < 0.5),
        (TPRAtFPRLoss, {"fpr": 0.05}, lambda found: found < 0.03),
    ],
)
def test_training_settles_where_the_constraint_just_holds_and_cross_entropy_does_not(
    cls, goal, worse
):
    ((name, wanted),) = goal.items()
    loss = cls(1, **goal, queue_size=0)
    found = trained(loss)
    assert abs(found[name] - wanted) < 0.03
    assert abs(loss.reached.item() - wanted) < 0.03

    def plain(scores, targets):
        return nn.functional.binary_cross_entropy_with_logits(scores, targets.float())

    assert worse(trained(plain)[name])


def test_a_model_without_any_alarm_is_not_stuck_there():
    """Such a model keeps every precision: its multiplier has to fall all the same."""
    loss = RecallAtPrecisionLoss(1, 0.8, queue_size=0, dual_rate=0.1)
    for _ in range(3):
        loss(torch.tensor([-1.0, -2.0, -3.0]), torch.tensor([1, 0, 0]))
    assert loss.reached.isnan().all()
    assert_close(loss.multipliers, torch.tensor([math.exp(-0.3)]).double())


@every_point
def test_multipliers_stand_still_outside_of_training(cls, goal):
    loss = cls(3, **goal, queue_size=40)
    loss(*batch(0)[:2])
    before = loss.get_extra_state()
    with loss.frozen_queue():
        loss(*batch(1)[:2])
    loss.eval()(*batch(1)[:2])
    assert loss.get_extra_state().equal(before)
    loss.train()
    loss(batch(1)[0], torch.full((18,), -100))
    loss(batch(1)[0][:0], torch.zeros(0).long())
    assert loss.get_extra_state().equal(before)
    moved = loss.multipliers
    assert (moved != 1).any()
    loss.reset_queue()
    assert loss.multipliers.equal(moved)
    only_evaluates = cls(3, **goal, queue_size=40, update_queue_in_eval=True).eval()
    only_evaluates(*batch(0)[:2])
    assert (only_evaluates.multipliers == 1).all()
    assert (only_evaluates.queue.label >= 0).any()


@every_point
def test_a_score_that_is_not_finite_moves_no_multiplier_of_its_class(cls, goal):
    loss, twin = (cls(3, **goal, queue_size=0) for _ in range(2))
    logits, targets, *_ = batch(0)
    twin(logits.clone(), targets)
    logits[1, 2] = torch.nan
    assert loss(logits, targets).isnan()
    assert loss.multipliers[2] == 1
    assert loss.reached[2].isnan()
    assert loss.multipliers[:2].equal(twin.multipliers[:2])


@pytest.mark.parametrize("queue_size", [0, 20])
def test_a_recomputation_inside_a_backward_pass_is_refused(queue_size):
    loss = TPRAtFPRLoss(3, 0.2, queue_size=queue_size)
    logits, targets, *_ = batch(0)
    value = checkpoint(loss, logits.requires_grad_(), targets, use_reentrant=False)
    moved = loss.multipliers
    with pytest.raises(RuntimeError, match="frozen_queue"):
        value.backward()
    assert loss.multipliers.equal(moved)


@every_point
def test_a_resumed_run_has_the_multipliers_bit_for_bit(cls, goal):
    loss = cls(3, **goal, queue_size=20)
    for seed in range(3):
        loss(*batch(seed)[:2])
    twin = cls(3, **goal, queue_size=20)
    twin.load_state_dict(copy.deepcopy(loss.state_dict()))
    assert twin.multipliers.equal(loss.multipliers)
    assert twin.reached.equal(loss.reached)
    for seed in range(3, 6):
        assert loss(*batch(seed)[:2]).equal(twin(*batch(seed)[:2]))
    assert twin.get_extra_state().equal(loss.get_extra_state())


def multipliers_of(rank):
    """Multipliers and rates after each step, on the rows of one rank of two or on all."""
    losses = [cls(3, **goal, queue_size=30, dual_rate=0.3) for cls, goal in POINTS.values()]
    record = []
    for seed in range(4):
        own = slice(None)
        if dist.is_initialized():
            own = (slice(0, 13), slice(13, None))[rank]
        logits, targets, *_ = batch(seed)
        for loss in losses:
            value = loss(logits[own], targets[own])
            record.append(torch.cat((value[None], loss.multipliers, loss.reached)))
    return torch.stack(record)


def test_two_ranks_have_the_multipliers_of_one_process():
    first, second = parallel.run(2, multipliers_of)
    assert first.equal(second)
    assert_close(first, multipliers_of(0), rtol=1e-6, atol=1e-9)


BAD = [
    ("precision", (0, 1, -0.1, torch.nan), ValueError),
    ("recall", (0, 1), ValueError),
    ("fpr", (0, 1), ValueError),
    ("precision", (None, "0.5", True), TypeError),
    ("surrogate", ("squared", None), ValueError),
    ("dual_rate", (-0.1, torch.inf), ValueError),
    ("max_multiplier", (0.5, torch.inf), ValueError),
    ("max_multiplier", (None,), TypeError),
]


@pytest.mark.parametrize(("name", "values", "error"), BAD)
def test_bad_settings_are_refused_by_name(name, values, error):
    cls, goal = POINTS.get(name, POINTS["precision"])
    for value in values:
        with pytest.raises(error, match=f"{name} must .*got"):
            cls(3, **{**goal, name: value})
        with pytest.raises(error, match=f"{name} must .*got"):
            setattr(cls(3, **goal), name, value)


@every_point
def test_the_settings_can_be_read_assigned_and_seen(cls, goal):
    ((name, wanted),) = goal.items()
    loss = cls(3, **goal)
    assert getattr(loss, name) == wanted
    setattr(loss, name, 0.25)
    assert f"{name}=0.25" in repr(loss)
    assert (loss.surrogate, loss.dual_rate, loss.max_multiplier) == ("logistic", 0.02, 1000.0)
