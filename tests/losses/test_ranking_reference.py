"""The ranking losses against the float64 oracle and the exact metrics, and their identities."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import reference
from cases import FUNCTIONS, STATISTICS
from imbalanced_losses import functional, metrics
from imbalanced_losses.losses import (
    PairwiseAUCLoss,
    PAUCAtBudgetLoss,
    RecallAtQuantileLoss,
    SmoothAPLoss,
)

# Long runs of what other tests cover.
pytestmark = pytest.mark.no_cover

# Of each loss one plain variant, for the tests that need no sweep over its settings.
VARIANTS = {
    "smooth_ap": (SmoothAPLoss, {"temperature": 0.1}),
    "recall": (RecallAtQuantileLoss, {"quantile": 1 / 8, "temperature": 0.1}),
    "trapezoid": (PAUCAtBudgetLoss, {"alpha": 1 / 16, "beta": 1 / 2, "n_knots": 3}),
    "pairwise": (PAUCAtBudgetLoss, {"beta": 1 / 2, "surrogate": "pairwise", "tau_scale": "band"}),
    "auc": (PairwiseAUCLoss, {}),
    "auc, logistic": (PairwiseAUCLoss, {"surrogate": "logistic", "temperature": 0.3}),
}
every_loss = pytest.mark.parametrize("cls", STATISTICS, ids=lambda cls: cls.__name__)
every_variant = pytest.mark.parametrize(("cls", "options"), VARIANTS.values(), ids=VARIANTS)

# Levels that binary fractions hold exactly: the rank of a quantile is then free of rounding.
levels = st.sampled_from([0.0, 1 / 128, 1 / 32, 1 / 8, 1 / 4, 1 / 2])
interpolations = st.sampled_from(["higher", "linear", "lower", "midpoint", "nearest"])


@st.composite
def options_of(draw, cls, tau_scales=("none", "std", "iqr")):
    scaled = {"tau_scale": draw(st.sampled_from(tau_scales))}
    if cls is SmoothAPLoss:
        return {"temperature": draw(st.sampled_from([0.01, 0.1, 1.0])), **scaled}
    if cls is PairwiseAUCLoss:
        return {
            "surrogate": draw(st.sampled_from(["squared_hinge", "logistic"])),
            "margin": draw(st.sampled_from([0.01, 1.0, 5.0])),
            "temperature": draw(st.sampled_from([0.1, 1.0])),
        }
    shared = {"quantile_interpolation": draw(interpolations)}
    if cls is RecallAtQuantileLoss:
        temperature = draw(st.sampled_from([0.01, 0.3]))
        quantile = draw(levels.filter(bool))
        shared |= {"threshold_gradient": draw(st.booleans()), **scaled}
        return {"quantile": quantile, "temperature": temperature, **shared}
    alpha = draw(levels)
    surrogate = draw(st.sampled_from(["trapezoid", "pairwise"]))
    return {
        "alpha": alpha,
        "beta": draw(levels.map(lambda width: min(alpha + max(width, 1 / 64), 1.0))),
        "surrogate": surrogate,
        "threshold_gradient": surrogate == "trapezoid" and draw(st.booleans()),
        "n_knots": draw(st.sampled_from([2, 3, 5])),
        "tau_scale": draw(st.sampled_from(["iqr", "band"])),
        "pos_numerator": draw(st.sampled_from(["pool", "live"])),
        "budget_basis": draw(st.sampled_from(["fpr", "population"])),
        "temperature": draw(st.sampled_from([0.1, 1.0])),
        **shared,
    }


@st.composite
def batches_of(draw, count):
    """`(scores, [(logits, targets, keyword arguments of forward), ...])` of one kind of problem."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    classes = draw(st.integers(1, 4))
    form = draw(st.sampled_from(["index", "column", "multi_hot"]))
    share = draw(st.sampled_from([0.1, 0.5]))
    ignored = draw(st.sampled_from([0.0, 0.2]))
    weighted, masked = draw(st.booleans()), draw(st.booleans())
    log_odds = classes > 1 and form != "multi_hot" and draw(st.booleans())
    # Log-odds that are equal on paper differ in the last bit, which decides who is in a band.
    ties = not log_odds and draw(st.booleans())

    def batch(rows):
        def chance(p, *shape):
            return torch.rand(*shape, generator=generator) < p

        logits = torch.randn(rows, classes, generator=generator)
        logits = ((logits * 2).round() if ties else logits).double()
        if form == "multi_hot" or classes == 1:
            targets = chance(share, rows, classes).long()
        else:
            targets = torch.randint(classes, (rows, 1), generator=generator)
        targets = targets.masked_fill(chance(ignored, *targets.shape), -100)
        keywords = {}
        if weighted:
            weight = torch.rand(rows, generator=generator, dtype=torch.float64)
            keywords["sample_weight"] = weight.masked_fill(chance(0.2, rows), 0)
        if masked:
            keywords["iid_mask"] = chance(0.7, rows)
        return logits, targets[:, 0] if form == "index" else targets, keywords

    scores = "log_odds" if log_odds else "logits"
    return scores, [batch(draw(st.integers(1, 40))) for _ in range(count)]


def assert_gradients_match(actual, expected, relative, absolute=0.0):
    """Compare relative to the largest entry, since small ones are sums that cancel.

    Where the loss is flat all entries are small: a sigmoid is right to an epsilon, which the slope
    1 / tau magnifies, hence an absolute bound.
    """
    error = (actual.double() - expected).abs().max()
    assert error <= relative * expected.abs().max() + absolute


@every_loss
@settings(max_examples=80)
@given(data=st.data())
def test_value_and_gradient_are_the_oracles(cls, data):
    options = data.draw(options_of(cls))
    scores, batches = data.draw(batches_of(3))
    queue_size = data.draw(st.sampled_from([0, 7, 64]))
    reduction = data.draw(st.sampled_from(["mean", "sum", "none"]))
    classes = batches[0][0].shape[1]
    shared = {"queue_size": queue_size, "reduction": reduction, "scores": scores}
    loss = cls(classes, **options, **shared).double()
    oracle = reference.RankingLoss(STATISTICS[cls], options, **shared)

    for logits, targets, keywords in batches:
        inputs = [logits.clone().requires_grad_() for _ in range(2)]
        value, per_class, valid = loss(inputs[0], targets, return_per_class=True, **keywords)
        expected = oracle(inputs[1], targets, **keywords)
        assert valid.tolist() == expected.valid.tolist()
        torch.testing.assert_close(
            per_class[valid], expected.per_class[valid], rtol=1e-9, atol=1e-10
        )
        torch.testing.assert_close(value, expected.loss, rtol=1e-9, atol=1e-10, equal_nan=True)

        direction = torch.linspace(0.5, 1.5, classes).double()[valid]
        for result, leaf in ((value, inputs[0]), (expected.loss, inputs[1])):
            scalar = (result[valid] * direction).sum() if reduction == "none" else result
            (scalar + leaf.sum() * 0).backward()
        assert_gradients_match(inputs[0].grad, inputs[1].grad, 1e-8, 1e-12)


@every_loss
@settings(max_examples=40)
@given(data=st.data())
def test_float32_is_the_oracle_to_rounding(cls, data):
    # A few scores that lie close make a small unit, in which float32 holds few digits of them.
    options = data.draw(options_of(cls, tau_scales=("none",)))
    _, batches = data.draw(batches_of(2))
    loss = cls(batches[0][0].shape[1], queue_size=64, **options)
    oracle = reference.RankingLoss(STATISTICS[cls], options, queue_size=64)
    for logits, targets, keywords in batches:
        ours, theirs = logits.float().requires_grad_(), logits.clone().requires_grad_()
        value, expected = loss(ours, targets, **keywords), oracle(theirs, targets, **keywords)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), expected.loss, rtol=1e-5, atol=2e-6)
        value.backward()
        expected.loss.backward()
        assert_gradients_match(ours.grad, theirs.grad, 3e-5, 1e-5)


@settings(max_examples=60)
@given(data=st.data())
def test_diagnostics_are_the_oracles(data):
    options = data.draw(options_of(PAUCAtBudgetLoss))
    _, batches = data.draw(batches_of(2))
    loss = PAUCAtBudgetLoss(batches[0][0].shape[1], queue_size=64, **options).double()
    oracle = reference.RankingLoss(reference.pauc_at_budget, options, queue_size=64)
    for logits, targets, keywords in batches:
        keywords.pop("sample_weight", None)
        _, _, valid, found = loss(
            logits, targets, return_per_class=True, return_diagnostics=True, **keywords
        )
        expected = oracle(logits, targets, **keywords)
        _, again = loss.eval()(logits, targets, return_diagnostics=True, **keywords)
        loss.train()
        assert set(again) == set(found)
        for c in valid.nonzero()[:, 0].tolist():
            numbers = {key: found[key][c].item() for key in expected.diagnostics[c]}
            assert numbers == pytest.approx(expected.diagnostics[c], rel=1e-9, abs=1e-12)


def problem(classes=3, rows=48, seed=0, positives=0.3):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    targets = torch.randint(classes, (rows,), generator=generator)
    if classes == 1:
        targets = (torch.rand(rows, generator=generator) < positives).long()
    return logits, targets


@every_variant
def test_the_function_is_the_module_without_a_queue(cls, options):
    logits, targets = problem()
    weight = torch.rand(len(logits), dtype=torch.float64)
    module = cls(3, queue_size=0, reduction="none", ignore_index=1, scores="log_odds", **options)
    expected = module(logits, targets, sample_weight=weight)
    settings = {"reduction": "none", "ignore_index": 1, "scores": "log_odds", **options}
    value = FUNCTIONS[cls](logits, targets, sample_weight=weight, **settings)
    torch.testing.assert_close(value, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("scores", ["logits", "log_odds"])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_gradcheck_smooth_ap(scores, temperature):
    logits, targets = problem(rows=20)
    weight = torch.rand(20, dtype=torch.float64)

    def loss(x):
        return functional.smooth_ap_loss(
            x,
            targets,
            temperature=temperature,
            reduction="none",
            scores=scores,
            sample_weight=weight,
        )

    assert torch.autograd.gradcheck(loss, logits.requires_grad_())


@pytest.mark.parametrize("variant", ["recall", "trapezoid", "pairwise"])
def test_gradcheck_where_the_queue_holds_the_thresholds(variant):
    """A threshold carries no gradient, so finite differences must not move it."""
    cls, options = VARIANTS[variant]
    loss = cls(1, queue_size=64, **options).double()
    past = torch.linspace(-2, 2, 64, dtype=torch.float64)[:, None]
    loss(past, (torch.arange(64) % 5 == 0).long())
    loss.eval()
    # The upper threshold of the recall is a row of the queue: few live rows, none next to it.
    logits = torch.tensor([[-1.01], [0.02], [0.51], [1.013], [3.0]], dtype=torch.float64)
    targets = torch.tensor([0, 1, 0, 1, 0])
    iid_mask = torch.zeros(5, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda x: loss(x, targets, iid_mask), logits.requires_grad_())


@pytest.mark.parametrize("seed", range(3))
def test_smooth_ap_tends_to_average_precision(seed):
    logits, targets = problem(seed=seed)
    logits = logits.argsort(0).argsort(0).double()
    loss = functional.smooth_ap_loss(logits, targets, temperature=0.01, reduction="none")
    torch.testing.assert_close(1 - loss, metrics.average_precision(logits, targets))


@pytest.mark.parametrize("seed", range(3))
def test_recall_tends_to_recall_at_quantile(seed):
    logits, targets = problem(seed=seed)
    logits = logits.argsort(0).argsort(0).double()
    level = {"quantile": 0.13}
    loss = functional.recall_at_quantile_loss(
        logits,
        targets,
        temperature=1e-3,
        reduction="none",
        quantile_interpolation="linear",
        **level,
    )
    exact = metrics.recall_at_quantile(logits, targets, interpolation="linear", **level)
    torch.testing.assert_close(1 - loss, exact)


@pytest.mark.parametrize("seed", range(3))
def test_pairwise_pauc_tends_to_the_partial_auc(seed):
    """With 64 negatives and a band up to 1/8 the band holds the top 8 of them."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randperm(80, generator=generator).double()
    targets = torch.arange(80) < 16
    band = {"alpha": 0.0, "beta": 1 / 8}
    loss = functional.pauc_at_budget_loss(
        logits, targets, surrogate="pairwise", temperature=1e-5, **band
    )
    torch.testing.assert_close(1 - loss, metrics.partial_auc(logits, targets, **band))


@every_variant
def test_the_order_of_the_rows_does_not_matter(cls, options):
    logits, targets = problem()
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(1))
    inputs = [logits.clone().requires_grad_(), logits[order].clone().requires_grad_()]
    function = FUNCTIONS[cls]
    losses = [
        function(inputs[0], targets, **options),
        function(inputs[1], targets[order], **options),
    ]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(inputs[0].grad[order], inputs[1].grad)


SAME = {
    "shift": (VARIANTS, lambda x: x + 3.0),
    "shift per class": (VARIANTS, lambda x: x + torch.tensor([1.0, -20.0, 5.0])),
    "scale": (("trapezoid", "pairwise"), lambda x: 7.0 * x),
}


@pytest.mark.parametrize(
    ("variant", "change"),
    [
        pytest.param(variant, change, id=f"{name}-{variant}")
        for name, (variants, change) in SAME.items()
        for variant in variants
    ],
)
def test_shift_and_scale_change_nothing(variant, change):
    cls, options = VARIANTS[variant]
    logits, targets = problem()
    function = FUNCTIONS[cls]
    torch.testing.assert_close(
        function(change(logits), targets, **options), function(logits, targets, **options)
    )


@every_variant
def test_weights_count_relative_to_each_other_and_only_on_positives(cls, options):
    logits, targets = problem(classes=1)
    weight = torch.rand(len(logits), dtype=torch.float64) + 0.1
    function = FUNCTIONS[cls]
    base = function(logits, targets, sample_weight=weight, **options)
    on_negatives = weight.where(targets == 1, 9.0)
    for same in (2 * weight, on_negatives):
        torch.testing.assert_close(function(logits, targets, sample_weight=same, **options), base)
    torch.testing.assert_close(
        function(logits, targets, sample_weight=torch.full_like(weight, 0.3), **options),
        function(logits, targets, **options),
    )
    assert not torch.isclose(base, function(logits, targets, **options))


@every_variant
def test_an_ignored_row_is_an_absent_row(cls, options):
    logits, targets = problem()
    kept = torch.arange(len(logits)) % 4 != 0
    function = FUNCTIONS[cls]
    ours = function(logits, targets.masked_fill(~kept, -100), **options)
    torch.testing.assert_close(ours, function(logits[kept], targets[kept], **options))


@every_variant
def test_log_odds_are_what_the_ranked_scores_would_be(cls, options):
    logits, targets = problem()
    function = FUNCTIONS[cls]
    ours = function(logits, targets, scores="log_odds", **options)
    torch.testing.assert_close(ours, function(reference.log_odds(logits), targets, **options))


@every_variant
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_logits_are_ranked_in_float32(cls, options, dtype):
    logits, targets = problem()
    half = logits.to(dtype).requires_grad_()
    exact = half.detach().double().requires_grad_()
    loss = FUNCTIONS[cls](half, targets, **options)
    expected = reference.RankingLoss(STATISTICS[cls], options)(exact, targets).loss
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    loss.backward()
    expected.backward()
    assert half.grad.dtype == dtype
    assert_gradients_match(half.grad, exact.grad, 2 * torch.finfo(dtype).eps)


def edge(scores, targets, **keywords):
    return torch.tensor(scores, dtype=torch.float64), torch.tensor(targets), keywords


EDGES = {
    "no positive": edge([1.0, 2.0, 3.0], [0, 0, 0]),
    "no negative": edge([1.0, 2.0, 3.0], [1, 1, 1]),
    "one positive": edge([1.0, 2.0, 3.0, 0.5], [0, 1, 0, 0]),
    "one row": edge([1.0], [1]),
    "all ignored": edge([1.0, 2.0], [-100, -100]),
    "empty": edge([], []),
    "all tied": edge([1.0] * 6, [0, 1, 0, 1, 0, 0]),
    "tied pairs": edge([1.0, 1.0, 2.0, 2.0, 3.0, 3.0], [0, 1, 0, 1, 0, 0]),
    "extreme": edge([1e4, -1e4, 9e3, -9e3, 0.0, 1.0], [1, 0, 0, 1, 0, 0]),
    "no weight": edge([1.0, 2.0, 3.0], [1, 0, 0], sample_weight=torch.zeros(3)),
    "no iid row": edge([1.0, 2.0, 3.0], [1, 0, 0], iid_mask=torch.zeros(3).bool()),
}


@every_variant
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", EDGES)
def test_edge_cases(cls, options, name, dtype):
    scores, targets, keywords = EDGES[name]
    ours, theirs = (scores.to(d)[:, None].requires_grad_() for d in (dtype, torch.float64))
    loss: nn.Module = cls(1, queue_size=0, **options)
    value, _, valid = loss(ours, targets.long(), return_per_class=True, **keywords)
    value.backward()
    if not len(scores):
        assert (value.item(), valid.tolist(), ours.grad.shape) == (0, [False], (0, 1))
        return
    expected = reference.RankingLoss(STATISTICS[cls], options)(theirs, targets, **keywords)
    expected.loss.backward()
    assert valid.tolist() == expected.valid.tolist()
    torch.testing.assert_close(value.double(), expected.loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("surrogate", ["trapezoid", "pairwise"])
def test_population_budget_needs_an_iid_negative_too(surrogate):
    """Iid positives alone would give thresholds and a scale, and a budget without a meaning."""
    loss = PAUCAtBudgetLoss(
        1, beta=0.5, surrogate=surrogate, budget_basis="population", queue_size=0
    )
    logits, targets = torch.tensor([3.0, 2.5, 1.0, 2.7, 0.0]), torch.tensor([1, 1, 1, 0, 0])
    for iid_mask, expected in ((targets == 1, False), (torch.ones(5).bool(), True)):
        _, _, valid = loss(logits, targets, iid_mask, return_per_class=True)
        assert valid.tolist() == [expected]


@every_variant
def test_a_row_that_is_not_finite_never_enters_the_queue(cls, options):
    loss = cls(1, queue_size=16, **options).double()
    oracle = reference.RankingLoss(STATISTICS[cls], options, queue_size=16)
    logits, targets = problem(classes=1, rows=40)
    logits[[3, 14, 15], 0] = torch.tensor([torch.nan, torch.inf, -torch.inf]).double()
    for rows in (slice(0, 10), slice(10, 20)):
        loss(logits[rows], targets[rows])
        oracle(logits[rows], targets[rows])
    value, expected = (f(logits[20:], targets[20:]) for f in (loss, oracle))
    torch.testing.assert_close(value, expected.loss)
