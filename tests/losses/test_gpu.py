"""On a CUDA device: no synchronisation, capture in a graph, autocast, the results of the CPU."""

import pytest
import torch

from cases import assert_same, every, state, step

pytestmark = pytest.mark.gpu


@pytest.fixture
def sync_is_an_error():
    """A function from which on a synchronisation raises."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


def on_gpu(*tensors):
    return tuple(tensor.cuda() for tensor in tensors)


@every()
def test_equals_the_cpu_in_float64(case) -> None:
    here, there = case.build(), case.build().cuda()
    for seed in range(3):
        logits, targets = case.batch(seed, rows=70, dtype=torch.float64)
        wanted = step(here, logits, targets)
        found = step(there, *on_gpu(logits, targets))
        torch.testing.assert_close([t.cpu() for t in found], list(wanted), rtol=1e-10, atol=1e-12)


@every()
def test_a_loss_that_was_never_moved_equals_one_that_was(case) -> None:
    moved, left = case.midway().cuda(), case.midway()
    for seed in range(2):
        batch = on_gpu(*case.batch(seed))
        assert_same(step(left, *batch), step(moved, *batch))


@every()
def test_a_step_does_not_wait_for_the_device(case, sync_is_an_error) -> None:
    loss = case.midway().cuda()
    batches = [on_gpu(*case.batch(seed)) for seed in range(3)]
    step(loss, *batches[0])
    sync_is_an_error()
    for batch in batches[1:]:
        step(loss, *batch)


@every()
def test_forward_and_backward_are_captured_in_a_graph(case) -> None:
    captured, eager = case.midway().cuda(), case.midway().cuda()
    logits, targets = on_gpu(*case.batch(0))
    logits.requires_grad_()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            captured(logits, targets).backward()
            logits.grad = None
    torch.cuda.current_stream().wait_stream(stream)
    captured.load_state_dict(eager.state_dict())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = captured(logits, targets)
        loss.backward()
    captured.load_state_dict(eager.state_dict())
    for seed in (1, 2):
        fresh_logits, fresh_targets = on_gpu(*case.batch(seed))
        with torch.no_grad():
            logits.copy_(fresh_logits)
            targets.copy_(fresh_targets)
            logits.grad.zero_()
        graph.replay()
        wanted = step(eager, fresh_logits, fresh_targets)
        torch.testing.assert_close([loss.detach(), logits.grad], list(wanted))
    assert_same(state(captured), state(eager))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every()
def test_autocast_changes_nothing_for_float32_logits(case, dtype) -> None:
    plain, cast = case.midway().cuda(), case.midway().cuda()
    batch = on_gpu(*case.batch(5))
    wanted = step(plain, *batch)
    with torch.autocast("cuda", dtype):
        found = step(cast, *batch)
    torch.testing.assert_close(list(found), list(wanted))


@every()
def test_tf32_changes_nothing(case) -> None:
    plain, lowered = case.midway().cuda(), case.midway().cuda()
    batch = on_gpu(*case.batch(5))
    wanted = step(plain, *batch)
    torch.set_float32_matmul_precision("high")
    try:
        found = step(lowered, *batch)
    finally:
        torch.set_float32_matmul_precision("highest")
    torch.testing.assert_close(list(found), list(wanted))


@every()
def test_deterministic_algorithms(case) -> None:
    loss, repeatable = case.midway().cuda(), case.midway().cuda()
    batch = on_gpu(*case.batch(5, rows=500))
    wanted = step(loss, *batch)
    torch.use_deterministic_algorithms(True)
    try:
        found = step(repeatable, *batch)
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(list(found), list(wanted))
