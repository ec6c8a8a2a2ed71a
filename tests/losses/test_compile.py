"""Graphs: of a batch of changing length, with a statistic as one operator, and exported."""

from dataclasses import replace

import pytest
import torch
from torch import _dynamo as dynamo
from torch._dynamo.testing import (
    AotEagerAndRecordGraphs,
    CompileCounterWithBackend,
    EagerAndRecordGraphs,
)

from cases import CASES, assert_same, step
from imbalanced_losses import SmoothAPLoss
from imbalanced_losses._pool.memory import Memory
from imbalanced_losses._pool.rows import finite_rows, slope_of_rows
from imbalanced_losses.functional import smooth_ap_loss
from imbalanced_losses.losses._operator import arguments, measure

# torch's compiler instantiates autograd functions itself, and warns of it.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*should not be instantiated:DeprecationWarning",
    "ignore:There is a performance drop:UserWarning",
)
# What a compiler traces is not executed, and a tracer beside it doubles its time.
traced = pytest.mark.no_cover


def operators_in(graph) -> int:
    """How often a graph calls the operator that measures a statistic."""
    return sum(
        node.target is torch.ops.imbalanced_losses.measure.default for node in graph.graph.nodes
    )


DYNAMIC = [
    "smooth_ap",
    "recall",
    "recall-moving",
    "pauc-pairwise",
    "pairwise_auc",
    "sigmoid_focal",
    "asymmetric",
]


@traced
@pytest.mark.parametrize("name", DYNAMIC)
def test_a_batch_marked_dynamic_is_never_specialised(name) -> None:
    case = CASES[name]
    dynamo.reset()
    eager, compiled = case.build(), case.build()
    counter = CompileCounterWithBackend("aot_eager")
    call = torch.compile(compiled, fullgraph=True, backend=counter)
    graphs = set()
    for seed, rows in enumerate((80, 100, 90)):
        logits, targets = case.batch(seed, rows)
        wanted = step(eager, logits, targets)
        logits.requires_grad_()
        dynamo.mark_dynamic(logits, 0)
        dynamo.mark_dynamic(targets, 0)
        loss = call(logits, targets)
        loss.backward()
        found = loss.detach(), logits.grad
        torch.testing.assert_close(found, wanted)
        graphs.add(counter.frame_count)
    assert len(graphs) == 1, "the first call, which may try twice, is the last that compiles"


@traced
@pytest.mark.parametrize("name", [*DYNAMIC, "softmax_focal-dense", "warmup"])
@pytest.mark.parametrize("training", [True, False])
def test_export(name, training) -> None:
    case = CASES[name]
    loss, exported = case.midway().train(training), case.midway().train(training)
    program = torch.export.export(exported, case.batch(1)).module()
    assert not operators_in(program), "it runs where this package is not"
    for seed in (1, 2):
        torch.testing.assert_close(program(*case.batch(seed)), loss(*case.batch(seed)))


@traced
@pytest.mark.parametrize(
    ("name", "operators"),
    [
        ("smooth_ap", 1),
        ("recall-moving", 1),
        ("pairwise_auc", 1),
        ("eight_lines", 0),  # autograd has to see the operations
    ],
)
def test_on_a_cpu_a_statistic_with_a_slope_is_one_operator(name, operators) -> None:
    dynamo.reset()
    case, backend = CASES[name], EagerAndRecordGraphs()
    loss = torch.compile(case.build(), fullgraph=True, backend=backend)
    batch = case.batch()
    found = step(loss, *batch)
    torch.testing.assert_close(found, step(case.build(), *batch))
    (graph,) = backend.graphs
    assert operators_in(graph) == operators


@traced
def test_a_compiled_loss_tells_of_its_classes_and_its_band_what_an_eager_one_tells() -> None:
    case = CASES["pauc-trapezoid"]
    logits, targets = case.batch()
    logits[3] = torch.nan  # a row of class 0, the only one
    logits[5], targets[5] = torch.inf, -100  # ignored: it takes no gradient and spoils nothing
    outcomes = []
    for compiles in (False, True):
        loss, mine = case.build(), logits.clone().requires_grad_()
        call = torch.compile(loss, fullgraph=True, backend="aot_eager") if compiles else loss
        _, per_class, valid, band = call(mine, targets, None, True, True)
        per_class[1:].sum().backward()
        outcomes.append((per_class, valid, band, mine.grad))
    eager, compiled = outcomes
    torch.testing.assert_close(compiled, eager, equal_nan=True)
    assert eager[2]["band_neg_count"].dtype == torch.int64
    assert eager[0][0].isnan()
    assert_same(compiled[3][5], torch.zeros(logits.shape[1]))


@traced
@pytest.mark.parametrize("scores", ["logits", "log_odds"])
def test_the_operator_reads_maps_in_half_precision_with_masks_and_weights(scores) -> None:
    settings = {"num_classes": 3, "queue_size": 50, "temperature": 0.3, "scores": scores}
    logits = torch.randn(2, 3, 4, 4, dtype=torch.bfloat16)
    targets = torch.arange(32).view(2, 4, 4) % 3
    targets[0, 0] = -100
    about = {"iid_mask": torch.tensor([True, False]), "sample_weight": torch.rand(2, 4, 4)}
    eager, loss = SmoothAPLoss(**settings), SmoothAPLoss(**settings)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for _ in range(2):  # the second time with a queue
        found = step(compiled, logits, targets, **about)
        torch.testing.assert_close(found, step(eager, logits, targets, **about))
    assert_same(loss.queue.rows, eager.queue.rows)


@traced
def test_autocast_around_a_compiled_loss_does_not_reach_its_products() -> None:
    case = CASES["smooth_ap"]
    compiled = torch.compile(case.build(), fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        found = step(compiled, *case.batch())
    torch.testing.assert_close(found, step(case.build(), *case.batch()))


@traced
def test_a_transform_inside_a_graph_sees_the_operations_of_a_statistic() -> None:
    logits, targets = torch.randn(3, 8, 2), torch.arange(8) % 2
    backend = AotEagerAndRecordGraphs()
    several = torch.func.vmap(lambda scores: smooth_ap_loss(scores, targets, temperature=0.1))
    found = torch.compile(several, fullgraph=True, backend=backend)(logits)
    torch.testing.assert_close(found, several(logits))
    assert not operators_in(backend.fw_graphs[0])


@pytest.mark.parametrize(
    ("name", "max_pool_size", "wants_slope"),
    [("smooth_ap", None, True), ("pauc-pairwise-multi_hot", 25, True), ("recall", None, False)],
)
def test_the_operator_keeps_the_promises_that_a_compiler_relies_on(
    name, max_pool_size, wants_slope
) -> None:
    case = CASES[name]
    loss, other = case.midway(), case.midway()
    logits, targets = case.batch(rows=24)
    tau = torch.tensor(0.1)

    def given(loss):
        rows, batch = loss.settings.read(logits, targets, None, None)
        memory = Memory(loss.queue, max_pool_size, loss.draws, True)
        return rows, (loss.statistic, batch, memory, tau)

    torch.library.opcheck(measure, arguments(*given(case.midway())[1], wants_slope=wants_slope))
    logits[5] = torch.inf
    values, valid, slope, _ = measure(*arguments(*given(other)[1], wants_slope=wants_slope))
    rows, (statistic, _, memory, _) = given(loss)
    live, nonfinite = finite_rows(rows)
    pool = memory.pooled(live, nonfinite)
    found = statistic.measured(pool, tau)
    assert_same([values, valid], [found.loss, found.valid])
    wanted = torch.empty(3, 0)
    if wants_slope:
        wanted = slope_of_rows(pool.of_live(found.slope), rows, nonfinite)
    assert_same(slope, wanted)
    assert_same(other.queue.rows, loss.queue.rows)


def test_diagnostics_leave_the_operator_in_one_tensor() -> None:
    case = CASES["pauc-trapezoid"]
    loss = case.midway()
    statistic = replace(loss.statistic, diagnose=True)
    live, batch = loss.settings.read(*case.batch(), None, None)
    memory = Memory(loss.queue, None, loss.draws, False)
    given = arguments(statistic, batch, memory, torch.tensor(0.1), wants_slope=True)
    torch.library.opcheck(measure, given)
    told = measure(*given)[3]
    wanted = statistic.measured(memory.pooled(live, None), torch.tensor(0.1)).diagnostics
    assert_same(told.unbind(), tuple(values.double() for values in wanted))
