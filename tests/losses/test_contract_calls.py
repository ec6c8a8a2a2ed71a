"""How every public loss is built, called and compiled: signatures, errors, one graph."""

import inspect

import pytest
import torch
from torch._dynamo import config as dynamo

from cases import CASES, FUNCTIONS, RANKING, assert_same, every, remembered, state, step
from imbalanced_losses import (
    AsymmetricLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    LossWarmupWrapper,
    PairwiseAUCLoss,
    PAUCAtBudgetLoss,
    RecallAtQuantileLoss,
    SigmoidFocalLoss,
    SmoothAPLoss,
    SoftmaxFocalLoss,
)

SHARED = "queue_size=1024, temperature={}, reduction='mean', ignore_index=-100, "
SHARED += "update_queue_in_eval=False, gather_distributed=None, "
SIGNATURES = {
    SigmoidFocalLoss: "alpha=0.25, gamma=2.0, reduction='mean', gather_distributed=None, *, "
    "ignore_index=None",
    SoftmaxFocalLoss: "alpha=None, gamma=2.0, reduction='mean', label_smoothing=0.0, "
    "ignore_index=-100, background_class=0, gather_distributed=None",
    LogitAdjustedLoss: "class_counts, tau=1.0, *, label_smoothing=0.0, reduction='mean', "
    "ignore_index=-100, gather_distributed=None",
    LDAMLoss: "class_counts, max_margin=0.5, scale=30.0, weight=None, *, reduction='mean', "
    "ignore_index=-100, gather_distributed=None",
    AsymmetricLoss: "gamma_neg=4.0, gamma_pos=1.0, clip=0.05, *, reduction='mean', "
    "ignore_index=None, gather_distributed=None",
    SmoothAPLoss: f"num_classes, {SHARED.format(0.01)}max_pool_size=None, *, scores='logits', "
    "tau_scale='none'",
    RecallAtQuantileLoss: f"num_classes, quantile=0.005, {SHARED.format(0.01)}"
    "quantile_interpolation='higher', max_pool_size=None, *, scores='logits', tau_scale='none', "
    "threshold_gradient=False",
    PAUCAtBudgetLoss: "num_classes, alpha=0.0, beta=0.005, surrogate='trapezoid', n_knots=2, "
    f"tau_scale='iqr', pos_numerator='pool', budget_basis='fpr', {SHARED.format(0.1)}"
    "quantile_interpolation='higher', max_pool_size=None, *, scores='logits', "
    "threshold_gradient=False",
    PairwiseAUCLoss: "num_classes, surrogate='squared_hinge', margin=1.0, "
    f"{SHARED.format(1.0)}max_pool_size=None, *, scores='logits'",
    LossWarmupWrapper: "warmup_loss, main_loss, warmup_epochs=0, temp_start=None, temp_end=None, "
    "temp_decay_steps=10000, *, blend_epochs=0, warmup_steps=None, blend_steps=None, "
    "final_main_weight=1.0, reset_queue_each_epoch=False, gather_distributed=None",
    SigmoidFocalLoss.forward: "self, inputs, targets, *, sample_weight=None",
    SoftmaxFocalLoss.forward: "self, inputs, targets, *, sample_weight=None",
    SmoothAPLoss.forward: "self, logits, targets, iid_mask=None, return_per_class=False, *, "
    "sample_weight=None",
    RecallAtQuantileLoss.forward: "self, logits, targets, iid_mask=None, return_per_class=False, "
    "*, sample_weight=None",
    PAUCAtBudgetLoss.forward: "self, logits, targets, iid_mask=None, return_per_class=False, "
    "return_diagnostics=False, *, sample_weight=None",
}


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda f: f.__qualname__)
def test_arguments_their_order_and_defaults(function):
    signature = inspect.signature(function)
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    text = str(inspect.Signature(bare))
    assert text == f"({SIGNATURES[function]})"


# What a setting may not be, for the losses that have it. Those of the focal losses have a table of
# their own.
BAD_SETTINGS = [
    ("num_classes", (0, -1), ValueError),
    ("num_classes", (2.0, True, "3", None), TypeError),
    ("queue_size", (-1,), ValueError),
    ("queue_size", (1.5, None, False), TypeError),
    ("temperature", (0, -0.1, torch.nan, torch.inf), ValueError),
    ("temperature", ("0.1", None, True), TypeError),
    ("reduction", ("avg", None, "mean_positive"), ValueError),
    ("ignore_index", (0.5, None), TypeError),
    ("update_queue_in_eval", (1, None, "yes"), TypeError),
    ("gather_distributed", (1, "auto"), TypeError),
    ("max_pool_size", (0, -5), ValueError),
    ("max_pool_size", (1.5, True), TypeError),
    ("scores", ("probability", None), ValueError),
    ("quantile_interpolation", ("cubic", None), ValueError),
    ("quantile", (0, 1, -0.1, torch.nan), ValueError),
    ("quantile", (None, "0.1"), TypeError),
    ("alpha", (-0.1, 1, torch.nan), ValueError),
    ("alpha", (None,), TypeError),
    ("beta", (0, 1.1, torch.nan), ValueError),
    ("surrogate", ("hinge",), ValueError),
    ("margin", (0, -1.0, torch.nan, torch.inf), ValueError),
    ("margin", (None, "1"), TypeError),
    ("n_knots", (1, 0), ValueError),
    ("n_knots", (2.0,), TypeError),
    ("tau_scale", ("range", None), ValueError),
    ("threshold_gradient", (1, None, "yes"), TypeError),
    ("pos_numerator", ("queue",), ValueError),
    ("budget_basis", ("all",), ValueError),
]


def takes(function, name):
    return name in inspect.signature(function).parameters


@pytest.mark.parametrize(
    ("cls", "name", "values", "error"),
    [(cls, *bad) for cls in RANKING for bad in BAD_SETTINGS if takes(cls, bad[0])],
)
def test_bad_settings_fail_at_construction_and_in_functions(cls, name, values, error):
    function = FUNCTIONS[cls]
    for value in values:
        with pytest.raises(error, match=f"{name} must .*got"):
            cls(**{"num_classes": 3, name: value})
        if takes(function, name):
            with pytest.raises(error, match=f"{name} must .*got"):
                function(torch.zeros(4, 3), torch.arange(4) % 3, **{name: value})


@pytest.mark.parametrize("cls", RANKING)
def test_settings_that_do_not_go_together(cls):
    with pytest.raises(ValueError, match=r"scores.*num_classes >= 2.*num_classes=1.*Use"):
        cls(1, scores="log_odds")
    with pytest.raises(ValueError, match=r"scores.*num_classes >= 2"):
        FUNCTIONS[cls](torch.zeros(3), torch.tensor([0, 1, 0]), scores="log_odds")
    if cls is PAUCAtBudgetLoss:
        with pytest.raises(ValueError, match=r"beta must be above 0.5.*got 0.5"):
            cls(3, alpha=0.5, beta=0.5)


INDEX, CELLS = ("index", "dense"), ("binary", "multi_hot", "soft")
EVERY = (*INDEX, *CELLS, "probabilities")


def first(targets, value):
    return targets.flatten().index_fill(0, torch.tensor(0), value).view(targets.shape)


# What is wrong, in which forms of targets, the changed logits and targets, the error and its words.
BAD_BATCHES = {
    "one target short": (EVERY, lambda z, t: (z, t[1:]), ValueError, "targets .*shape"),
    "one target for all": (EVERY, lambda z, t: (z, t[:1]), ValueError, "targets .*shape"),
    "no targets": (EVERY, lambda z, t: (z, t[:0]), ValueError, "targets .*shape"),
    "one logit for all": (EVERY, lambda z, t: (z[:1], t), ValueError, "targets .*shape"),
    "transposed targets": (
        ("multi_hot", "soft"),
        lambda z, t: (z, t.T),
        ValueError,
        "targets .*sh",
    ),
    "a dimension more": (CELLS, lambda z, t: (z, t[..., None, None]), ValueError, "targets .*sh"),
    "class id C": (INDEX, lambda z, t: (z, first(t, 3)), ValueError, r"targets .*\[0, .*got 3"),
    "class id -1": (INDEX, lambda z, t: (z, first(t, -1)), ValueError, "targets .*got -1"),
    "label 2": (CELLS, lambda z, t: (z, first(t, 2)), ValueError, "targets .*1.*got 2"),
    "label -1": (CELLS, lambda z, t: (z, first(t, -1)), ValueError, "targets .*got -1"),
    "NaN label": (CELLS, lambda z, t: (z, first(t.float(), torch.nan)), ValueError, "got nan"),
    "float class ids": (INDEX, lambda z, t: (z, t.float()), TypeError, r"targets .*long\(\)"),
    "bool class ids": (INDEX, lambda z, t: (z, t.bool()), TypeError, "targets .*bool"),
    "complex targets": (
        ("dense", *CELLS),
        lambda z, t: (z, t.cfloat()),
        TypeError,
        "targets .*complex",
    ),
    "integer logits": (EVERY, lambda z, t: (z.long(), t), TypeError, "logits .*int64"),
    "complex logits": (EVERY, lambda z, t: (z.cfloat(), t), TypeError, "logits .*complex"),
}


@pytest.mark.parametrize(
    ("case", "change", "error", "words"),
    [
        pytest.param(case, *bad, id=f"{name}-{what}")
        for name, case in CASES.items()
        for what, (forms, *bad) in BAD_BATCHES.items()
        if case.form in forms
    ],
)
def test_bad_batches_are_refused_and_leave_no_trace(case, change, error, words):
    assert_refused(case, *change(*case.batch()), {}, error, words)


@every(mixes=False)
def test_what_is_no_tensor_is_refused(case):
    logits, targets = case.batch()
    assert_refused(case, logits.tolist(), targets, {}, TypeError, "logits must be a tensor")
    assert_refused(case, logits, targets.tolist(), {}, TypeError, "targets must be a tensor")
    assert_refused(case, logits, None, {}, TypeError, "targets must be a tensor")


@every(ranks=True)
@pytest.mark.parametrize("shape", [(), (16, 2), (16, 4), (16, 2, 3), (16, 4, 1), (1, 16)], ids=str)
def test_logits_of_another_shape_are_refused(case, shape):
    _, targets = case.batch()
    assert_refused(case, torch.zeros(shape), targets, {}, ValueError, "logits .*shape.*got")


BAD_KEYWORDS = {
    "sample_weight": [
        (torch.ones(15), ValueError, "shape"),
        (torch.ones(1), ValueError, "shape"),
        (torch.ones(()), ValueError, "shape"),
        (torch.ones(16, 2, 2), ValueError, "shape"),
        (torch.ones(16, 4), ValueError, "shape"),
        (-torch.ones(16), ValueError, "not negative; got -1"),
        (torch.full((16,), torch.nan), ValueError, "finite.*got nan"),
        (torch.full((16,), torch.inf), ValueError, "finite.*got inf"),
        (torch.ones(16).bool(), TypeError, "bool"),
        (torch.ones(16).cfloat(), TypeError, "complex"),
        ([1.0] * 16, TypeError, "tensor"),
    ],
    "iid_mask": [
        (torch.ones(15).bool(), ValueError, "shape"),
        (torch.ones(1).bool(), ValueError, "shape"),
        (torch.ones(16, 1).bool(), ValueError, "shape"),
        (torch.ones(16), TypeError, "bool"),
        (torch.ones(16).long(), TypeError, "bool"),
        ([True] * 16, TypeError, "tensor"),
    ],
}


@pytest.mark.parametrize(
    ("case", "name"),
    [
        pytest.param(case, name, id=f"{key}-{name}")
        for key, case in CASES.items()
        for name in BAD_KEYWORDS
        if name == "sample_weight" or case.ranks or case.mixes
    ],
)
def test_bad_keywords_are_refused_and_leave_no_trace(case, name):
    for value, error, words in BAD_KEYWORDS[name]:
        assert_refused(case, *case.batch(), {name: value}, error, f"{name} .*{words}")


def assert_refused(case, logits, targets, keywords, error, words):
    loss = case.midway()
    before = state(loss)
    with pytest.raises(error, match=f"(?s){words}"):
        loss(logits, targets, **keywords)
    assert_same(state(loss), before)


@every(ranks=True)
def test_gathering_without_a_process_group_is_refused(case):
    with pytest.raises(RuntimeError, match="init_process_group"):
        case.build(gather_distributed=True)(*case.batch())


@pytest.mark.no_cover  # what a compiler traces is not executed
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("name", "backend", "changes"),
    [
        ("smooth_ap-log_odds", "inductor", {}),
        ("pauc-trapezoid", "aot_eager", {}),
        ("smooth_ap-binary", "aot_eager", {"max_pool_size": 20}),
        ("smooth_ap-multi_hot", "aot_eager", {"reduction": "none"}),
        ("recall", "aot_eager", {}),
        ("pauc-pairwise", "aot_eager", {}),
        ("pairwise_auc", "aot_eager", {}),
        ("pairwise_auc-logistic", "aot_eager", {}),
        ("recall_at_precision", "aot_eager", {}),
        ("recall-moving", "aot_eager", {"max_pool_size": 20}),
        ("softmax_focal-dense", "aot_eager", {}),
        ("sigmoid_focal-soft", "aot_eager", {}),
        ("logit_adjusted", "aot_eager", {}),
        ("ldam", "aot_eager", {}),
        ("asymmetric", "aot_eager", {}),
        ("warmup", "aot_eager", {}),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("pauc-population-log_odds", "aot_eager", {}),
                ("precision_at_recall", "aot_eager", {}),
                ("pauc-trapezoid-moving", "aot_eager", {"max_pool_size": 20}),
                ("softmax_focal-probabilities", "aot_eager", {}),
                ("logit_adjusted-dense", "aot_eager", {}),
                ("ldam-probabilities", "aot_eager", {}),
                ("recall", "inductor", {}),
                ("recall-moving", "inductor", {}),
                ("pairwise_auc", "inductor", {}),
                ("recall_at_precision", "inductor", {}),
            )
        ),
    ],
)
def test_one_graph_serves_every_step(name, backend, changes):
    """Also where the temperature changes from step to step."""
    case = CASES[name]
    eager, loss = case.build(**changes), case.build(**changes)
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend=backend)
    with dynamo.patch(error_on_recompile=True):
        for number in range(3):
            for each in (eager, loss):
                if case.ranks:
                    each.temperature = 0.1 / (1 + number)
                elif case.mixes:
                    each.on_train_batch_start(number)
            weight = torch.linspace(0, 2, 16).roll(number)
            expected = step(eager, *case.batch(number), sample_weight=weight)
            found = step(compiled, *case.batch(number), sample_weight=weight)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(remembered(loss), remembered(eager))
