"""Rules of the ranking losses around their formulas: validity, returns, temperature, NaN."""

import pytest
import torch

from cases import assert_same, every, state, step
from imbalanced_losses import PairwiseAUCLoss, PAUCAtBudgetLoss, RecallAtQuantileLoss, SmoothAPLoss

BAND = {"alpha": 0.0, "beta": 0.5}
PAIRWISE = {**BAND, "surrogate": "pairwise"}
LIVE = {**BAND, "pos_numerator": "live"}
# Of four negatives the band [0, 1/2] begins at the third; quartiles are the second and the fourth.
NEGATIVES = [-1.0, 0.0, 1.0, 2.0]


def rows(scores, positives=1, **keywords):
    """Scores of which the first are positives."""
    targets = [1] * positives + [0] * (len(scores) - positives)
    keywords = {key: torch.tensor(value) for key, value in keywords.items()}
    return torch.tensor(scores), torch.tensor(targets), keywords


ALL = (SmoothAPLoss, RecallAtQuantileLoss, PAUCAtBudgetLoss, PairwiseAUCLoss)
NEED_BOTH = (SmoothAPLoss, PAUCAtBudgetLoss, PairwiseAUCLoss)
TIED = [0.5, 1.0, 1.0, 1.0, 1.0]
# The rule, the losses, their settings, an earlier batch, the batch, and whether it is valid.
VALIDITY = [
    ("ordinary", ALL, {}, None, rows([0.5, *NEGATIVES]), True),
    ("no positive", ALL, {}, None, rows(NEGATIVES, 0), False),
    ("no negative", NEED_BOTH, {}, None, rows(NEGATIVES, 4), False),
    ("no negative, recall", (RecallAtQuantileLoss,), {}, None, rows(NEGATIVES, 4), True),
    ("positive in the queue", ALL, {}, rows([0.5]), rows(NEGATIVES, 0), True),
    ("negatives in the queue", ALL, {}, rows(NEGATIVES, 0), rows([0.5]), True),
    ("no live positive", (PAUCAtBudgetLoss,), LIVE, rows([0.5]), rows(NEGATIVES, 0), False),
    ("live positive", (PAUCAtBudgetLoss,), LIVE, rows(NEGATIVES, 0), rows([0.5]), True),
    *[
        (f"{surrogate}: {name}", (PAUCAtBudgetLoss,), {**options, **settings}, None, batch, valid)
        for surrogate, options in (("trapezoid", BAND), ("pairwise", PAIRWISE))
        for name, settings, batch, valid in [
            ("no iid negative", {}, rows([0.5, 1.0, 2.0], iid_mask=[True, False, False]), False),
            ("one iid negative", {}, rows([0.5, 1.0, 2.0], iid_mask=[False, True, False]), False),
            (
                "four iid negatives",
                {},
                rows([0.5, *NEGATIVES], iid_mask=[False] + 4 * [True]),
                True,
            ),
            (
                "no iid negative in the population",
                {"budget_basis": "population"},
                rows([0.1, 0.3, 0.5, 0.7, 0.9, 1.0, 2.0], 5, iid_mask=[True] * 5 + [False] * 2),
                False,
            ),
            ("no scale", {}, rows(TIED), False),
            (
                "no scale of the population",
                {"budget_basis": "population"},
                rows([1.0, *TIED[1:]]),
                False,
            ),
            ("tiny scale", {}, rows([0.0, 0.0, 0.0, 9e-13, 9e-13]), False),
            ("small scale", {}, rows([0.0, 0.0, 0.0, 2e-12, 2e-12]), True),
            ("no band width", {"tau_scale": "band"}, rows([0.5, -1.0, 1.0, 1.0, 1.0]), False),
            ("iqr without band width", {}, rows([0.5, -2.0, -1.0, 1.0, 1.0, 1.0]), True),
        ]
    ],
    *[
        (
            f"band holds positives only, {surrogate}",
            (PAUCAtBudgetLoss,),
            {"beta": 0.25, "surrogate": surrogate, "budget_basis": "population"},
            None,
            rows([3.0, 4.0, 5.0, 6.0, *NEGATIVES, -2.0, -3.0], 4),
            surrogate == "trapezoid",
        )
        for surrogate in ("trapezoid", "pairwise")
    ],
    (
        "no positive has weight",
        ALL,
        {},
        None,
        rows([0.5, *NEGATIVES], sample_weight=[0.0, 1.0, 1.0, 1.0, 1.0]),
        False,
    ),
    (
        "weight in the queue",
        ALL,
        {},
        rows([0.5]),
        rows([0.6, *NEGATIVES], sample_weight=[0.0] * 5),
        True,
    ),
    (
        "weight in the queue, live",
        (PAUCAtBudgetLoss,),
        LIVE,
        rows([0.5]),
        rows([0.6, *NEGATIVES], sample_weight=[0.0] * 5),
        False,
    ),
]


@pytest.mark.parametrize(
    ("cls", "settings", "before", "batch", "valid"),
    [
        pytest.param(cls, settings, before, batch, valid, id=f"{name}-{cls.__name__}")
        for name, losses, settings, before, batch, valid in VALIDITY
        for cls in losses
    ],
)
def test_when_a_class_is_valid(cls, settings, before, batch, valid):
    if cls is PAUCAtBudgetLoss:
        settings = {**BAND, **settings}
    for reduction in ("mean", "sum", "none"):
        loss = cls(1, queue_size=8, reduction=reduction, **settings)
        if before:
            loss(*before[:2])
        scores, targets, keywords = batch
        scores = scores.clone().requires_grad_()
        value, per_class, found = loss(scores, targets, return_per_class=True, **keywords)
        assert found.tolist() == [valid]
        assert per_class.isnan().tolist() == [not valid]
        if reduction == "none":
            assert_same(value, per_class)
        else:
            assert_same(value, per_class[0] if valid else torch.tensor(0.0))
        value.sum().backward()
        assert scores.grad.isfinite().all()
        assert valid or (scores.grad == 0).all()


@pytest.mark.parametrize("cls", ALL)
def test_classes_that_are_not_valid_take_no_part(cls):
    """Class 1 is absent and class 3 has the ignored rows: the others are as they are alone."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 4, generator=generator)
    targets = torch.tensor([0, 2, 0, 3, 2, 0, 2, 0, 2, 0, 2, 3])
    loss = cls(4, ignore_index=3, **({"beta": 0.5} if cls is PAUCAtBudgetLoss else {}))
    leaf = logits.requires_grad_()
    value, per_class, valid = loss(leaf, targets, return_per_class=True)
    assert valid.tolist() == [True, False, True, False]
    torch.testing.assert_close(value, per_class[[0, 2]].mean())
    value.backward()
    assert leaf.grad.isfinite().all()
    assert (leaf.grad[:, [1, 3]] == 0).all()
    assert (leaf.grad[targets == 3] == 0).all()
    assert (leaf.grad[:, [0, 2]] != 0).any()


DIAGNOSTICS = ["t_alpha", "t_beta", "tau_eff", "band_neg_count", "pauc_var", "grad_pos_count"]


@every(loss=PAUCAtBudgetLoss)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_returns_unpack_in_one_order(case, reduction):
    logits, targets = case.batch()
    logits.requires_grad_()

    def call(**keywords):
        return case.midway(reduction=reduction)(logits, targets, **keywords)

    alone = call()
    loss, per_class, valid, diagnostics = call(return_per_class=True, return_diagnostics=True)
    pair = call(return_diagnostics=True)
    triple = call(return_per_class=True)
    for found in (loss, pair[0], triple[0]):
        assert_same(found, alone)
    assert (len(pair), len(triple)) == (2, 3)
    assert loss.shape == (per_class.shape if reduction == "none" else ())
    assert per_class.shape == valid.shape == (case.classes,)
    assert valid.dtype == torch.bool
    assert list(diagnostics) == DIAGNOSTICS
    for number in diagnostics.values():
        assert number.shape == (case.classes,)
        assert not number.requires_grad
    assert not valid.requires_grad
    assert_same(pair[1], diagnostics)
    assert_same(triple[1:], (per_class, valid))


@pytest.mark.parametrize("surrogate", ["trapezoid", "pairwise"])
def test_diagnostics_of_a_class_without_rows(surrogate):
    loss = PAUCAtBudgetLoss(2, beta=0.5, surrogate=surrogate)
    _, found = loss(torch.zeros(0, 2), torch.zeros(0).long(), return_diagnostics=True)
    numbers = [found[key].tolist() for key in DIAGNOSTICS]
    nan = pytest.approx([torch.nan] * 2, nan_ok=True)
    assert numbers == [nan, nan, nan, [0, 0], nan, [0, 0]]


def test_live_positives_are_counted_in_the_batch_only():
    loss = PAUCAtBudgetLoss(1, beta=0.5)
    for positives in (1, 3, 0, 2):
        scores, targets, _ = rows([*NEGATIVES, *NEGATIVES], positives)
        _, diagnostics = loss(scores, targets, return_diagnostics=True)
        assert diagnostics["grad_pos_count"].tolist() == [positives]


@every(ranks=True)
def test_temperature_may_be_read_and_assigned(case):
    loss = case.build(temperature=0.25)
    assert loss.temperature == 0.25
    loss.temperature = 0.07
    assert loss.temperature == 0.07
    for bad, error in (
        (0, ValueError),
        (-1.0, ValueError),
        (torch.nan, ValueError),
        (torch.inf, ValueError),
        ("0.1", TypeError),
        (None, TypeError),
    ):
        with pytest.raises(error, match="temperature must"):
            loss.temperature = bad
        assert loss.temperature == 0.07
    assert_same(loss(*case.batch()), case.build(temperature=0.07)(*case.batch()))
    assert loss(*case.batch()) != case.build(temperature=0.25)(*case.batch())
    other = case.build()
    other.load_state_dict(state(loss))
    assert other.temperature == 0.07
    assert loss.half().temperature == 0.07


@every(ranks=True)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_only_the_classes_with_a_score_that_is_not_finite_are_nan(case, bad):
    log_odds = case.settings.get("scores") == "log_odds"
    everywhere = log_odds and bad != -torch.inf
    concerned = [everywhere or c == case.classes - 1 for c in range(case.classes)]
    logits, targets = case.batch()
    loss = case.midway()
    expected, per_class, _ = case.midway()(logits, targets, return_per_class=True)
    logits[4, -1] = bad
    leaf = logits.requires_grad_()
    value, found, valid = loss(leaf, targets, return_per_class=True)
    assert value.isnan()
    assert valid.all()
    assert found.isnan().tolist() == concerned
    if not log_odds:
        assert_same(found[:-1], per_class[:-1])
    value.backward()
    assert leaf.grad[:, -1].isnan().any()
    assert expected.isfinite()


@every(ranks=True)
def test_a_batch_is_written_after_its_own_loss(case):
    """So the first batch sees an empty queue, and itself only once."""
    torch.testing.assert_close(
        step(case.build(queue_size=50), *case.batch()),
        step(case.build(queue_size=0), *case.batch()),
    )


@every(ranks=True)
def test_the_queue_moves_the_loss_and_carries_no_gradient(case):
    loss = case.build(queue_size=50)
    past = case.batch(9)[0].requires_grad_()
    loss(past, case.batch(9)[1])
    value, _ = step(loss, *case.batch())
    assert past.grad is None
    assert not any(buffer.requires_grad for buffer in loss.buffers())
    assert not torch.isclose(value, case.build(queue_size=0)(*case.batch()))


@every(ranks=True)
def test_an_empty_batch_reads_the_queue(case):
    loss = case.midway(**({"pos_numerator": "pool"} if "pos_numerator" in case.settings else {}))
    before = state(loss)
    logits, targets = case.batch()
    value, per_class, valid = loss(logits[:0].requires_grad_(), targets[:0], return_per_class=True)
    assert valid.all()
    assert value != 0  # as that of an empty pool would be
    assert per_class.isfinite().all()
    value.backward()
    assert_same(state(loss), before)


def test_repr_tells_the_settings():
    assert "quantile=0.1" in repr(RecallAtQuantileLoss(2, quantile=0.1))
    assert "beta=0.02, surrogate='pairwise'" in repr(
        PAUCAtBudgetLoss(2, beta=0.02, surrogate="pairwise")
    )
