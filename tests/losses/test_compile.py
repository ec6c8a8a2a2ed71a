"""A batch of changing length under torch.compile, and torch.export."""

import pytest
import torch
from torch import _dynamo as dynamo
from torch._dynamo.testing import CompileCounterWithBackend

from cases import CASES, step

pytestmark = [
    # torch's compiler instantiates autograd functions itself, and warns of it.
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    # What a compiler traces is not executed, and a tracer beside it doubles its time.
    pytest.mark.no_cover,
]

DYNAMIC = [
    "smooth_ap",
    "recall",
    "recall-moving",
    "pauc-pairwise",
    "pairwise_auc",
    "sigmoid_focal",
    "asymmetric",
]


@pytest.mark.parametrize("name", DYNAMIC)
def test_a_batch_marked_dynamic_is_never_specialised(name) -> None:
    case = CASES[name]
    dynamo.reset()
    eager, compiled = case.build(), case.build()
    counter = CompileCounterWithBackend("aot_eager")
    call = torch.compile(compiled, fullgraph=True, backend=counter)
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
    # The engine's scan doubles its step, so a graph serves a range of pool sizes.
    assert counter.frame_count <= 2


@pytest.mark.parametrize("name", [*DYNAMIC, "softmax_focal-dense", "warmup"])
@pytest.mark.parametrize("training", [True, False])
def test_export(name, training) -> None:
    case = CASES[name]
    loss, exported = case.midway().train(training), case.midway().train(training)
    program = torch.export.export(exported, case.batch(1)).module()
    for seed in (1, 2):
        torch.testing.assert_close(program(*case.batch(seed)), loss(*case.batch(seed)))
