"""Focal losses in use: autograd to second order, transforms, compilation, copies and errors."""

import copy
import pickle
import warnings

import pytest
import torch

from imbalanced_losses._ops import focal as kernel
from imbalanced_losses.focal_loss import SigmoidFocalLoss, SoftmaxFocalLoss
from imbalanced_losses.functional import sigmoid_focal_loss, softmax_focal_loss
from reference_focal import each_loss, value_and_grad


def test_long_cpu_tensors_go_through_blocks_unchanged():
    logits = torch.randn(3, kernel._BLOCK // 2 + 5)[:, 3:].requires_grad_()
    targets = torch.rand(logits.shape)
    whole = value_and_grad(sigmoid_focal_loss, logits, targets, reduction="none", gamma=1.5)
    for row in range(3):
        part = sigmoid_focal_loss(logits[row], targets[row], reduction="none", gamma=1.5)
        torch.testing.assert_close(whole[0][row], part, rtol=1e-6, atol=1e-7)
    total = value_and_grad(sigmoid_focal_loss, logits, targets, reduction="sum", gamma=1.5)
    cells = value_and_grad(
        lambda z, t: sigmoid_focal_loss(z, t, reduction="none", gamma=1.5).sum(), logits, targets
    )
    torch.testing.assert_close(total, cells)


def test_many_short_rows_go_through_blocks_unchanged():
    logits = torch.randn(kernel._BLOCK // 3 + 5, 3)
    targets = torch.arange(len(logits)) % 3
    got = value_and_grad(softmax_focal_loss, logits, targets, reduction="none", gamma=0)
    wanted = value_and_grad(torch.nn.functional.cross_entropy, logits, targets, reduction="none")
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("shape", [(4, 3), (3, 17), (2, 3, 2)])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "alpha": [1, 2, 3]}])
def test_softmax_gradcheck_to_second_order(gamma, shape, options):
    if options and shape[1] != 3:
        options = {"label_smoothing": 0.1}
    logits = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(shape[1], (shape[0], *shape[2:]))
    targets.view(-1)[0] = -100

    def loss(z):
        return softmax_focal_loss(z, targets, gamma=gamma, reduction="none", **options)

    assert torch.autograd.gradcheck(loss, logits)
    assert torch.autograd.gradgradcheck(loss, logits)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_sigmoid_gradcheck_to_second_order(gamma, alpha):
    logits = torch.randn(9, dtype=torch.float64)
    logits[::3] = 0
    logits.requires_grad_()
    targets = torch.tensor([0, 0, 0, 1, 1, 1, 0.2, 0.9, -100.0])

    def loss(x):
        return sigmoid_focal_loss(
            x, targets, alpha=alpha, gamma=gamma, ignore_index=-100, reduction="none"
        )

    assert torch.autograd.gradcheck(loss, logits)
    assert torch.autograd.gradgradcheck(loss, logits)


@each_loss
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_retained_graph_gives_the_same_gradient_again(make, target_of, reduction):
    """The last backward pass may write into what it saved, an earlier one may not."""
    logits = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    targets = target_of(logits)
    targets[2] = -7
    loss = make(ignore_index=-7, reduction=reduction)(logits, targets)
    scales = torch.rand(3, *loss.shape, dtype=torch.float64)
    grads = [
        torch.autograd.grad(loss, logits, scales[0], create_graph=create, retain_graph=True)[0]
        for create in (False, True, False)
    ]
    batched = torch.autograd.grad(loss, logits, scales, is_grads_batched=True, retain_graph=True)
    grads += [batched[0][0], torch.autograd.grad(loss, logits, scales[0])[0]]
    for grad in grads[1:]:
        torch.testing.assert_close(grad, grads[0])
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, logits, scales[0])


@pytest.mark.parametrize("targets", [torch.tensor([0, 1, -100, 2]), torch.tensor([0, 1, 2, 2])])
def test_softmax_keeps_one_array_of_the_size_of_the_logits(targets):
    logits = torch.randn(4, 3).requires_grad_()
    wanted = value_and_grad(softmax_focal_loss, logits, targets)[1] / 0.5
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        scores = logits * 1
        loss = softmax_focal_loss(scores, targets)
    assert kept.count(logits.shape) == 1
    scores.detach().zero_()  # the logits' memory is free for other use
    loss.backward()
    torch.testing.assert_close(logits.grad, wanted)


@each_loss
def test_bad_logits_at_ignored_rows_leave_second_derivatives_alone(make, target_of):
    logits = torch.randn(6, 4, dtype=torch.float64)
    targets = target_of(logits)
    targets[2] = -7
    loss_fn = make(ignore_index=-7)

    def curvature(z):
        z = z.clone().requires_grad_()
        (grad,) = torch.autograd.grad(loss_fn(z, targets), z, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), z)[0]

    wanted = curvature(logits)
    logits[2] = float("nan")
    torch.testing.assert_close(curvature(logits), wanted)


@each_loss
@pytest.mark.parametrize("ignore_index", [-7, 1])
def test_torch_func_transforms(make, target_of, ignore_index):
    loss_fn = make(ignore_index=ignore_index, reduction="sum")
    logits = torch.randn(6, 4, dtype=torch.float64)
    targets = target_of(logits)
    wanted = value_and_grad(loss_fn, logits, targets)[1] / 0.5

    def row_loss(z, t):
        return loss_fn(z.unsqueeze(0), t.unsqueeze(0))

    torch.testing.assert_close(torch.func.grad(loss_fn)(logits, targets), wanted)
    per_row = torch.func.vmap(torch.func.grad(row_loss))(logits, targets)
    torch.testing.assert_close(per_row, wanted)
    torch.testing.assert_close(torch.func.jacrev(loss_fn)(logits, targets), wanted)
    by_target = torch.func.vmap(loss_fn, (None, 0))(logits, torch.stack((targets, targets.flip(0))))
    torch.testing.assert_close(by_target[1], loss_fn(logits, targets.flip(0)))
    twice = torch.func.jacrev(torch.func.jacrev(lambda z: loss_fn(z, targets)))(logits)
    wanted = torch.autograd.functional.hessian(lambda z: loss_fn(z, targets), logits)
    torch.testing.assert_close(twice, wanted)


@pytest.mark.no_cover  # what a compiler traces is not executed
@each_loss
def test_compiles_to_one_graph(make, target_of):
    """Two settings each: from the second on, the compiler makes their numbers inputs."""
    torch.compiler.reset()
    logits, weight = torch.randn(12, 4), torch.rand(12)
    targets = target_of(logits)
    targets[3] = -7
    for gamma in (0.5, 1.5):
        loss_fn = make(ignore_index=-7, gamma=gamma)
        if isinstance(loss_fn, SigmoidFocalLoss):
            loss_fn.alpha = gamma / 2
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's own
            compiled = torch.compile(loss_fn, fullgraph=True)
            got = value_and_grad(compiled, logits, targets, sample_weight=weight)
        wanted = value_and_grad(loss_fn, logits, targets, sample_weight=weight)
        for ours, theirs in zip(got, wanted, strict=True):
            torch.testing.assert_close(ours, theirs)


@each_loss
def test_pickle_and_deepcopy_keep_the_settings(make, target_of):
    loss_fn = make(gamma=1.5, reduction="sum", ignore_index=2)
    logits = torch.randn(6, 4)
    targets = target_of(logits)
    wanted = loss_fn(logits, targets)
    for clone in (pickle.loads(pickle.dumps(loss_fn)), copy.deepcopy(loss_fn)):
        assert torch.equal(clone(logits, targets), wanted)
        assert repr(clone) == repr(loss_fn)


def test_alpha_is_the_modules_own():
    alpha = torch.ones(3)
    loss_fn = SoftmaxFocalLoss(alpha=alpha)
    alpha.zero_()
    assert (loss_fn.alpha == 1).all()


@pytest.mark.parametrize(
    "alpha",
    [
        [1, 2, 4],
        (1.0, 2.0, 4.0),
        torch.tensor([1.0, 2, 4]).half(),
        torch.tensor([1.0, 2, 4]).double(),
    ],
)
def test_alpha_of_any_form(alpha):
    np = pytest.importorskip("numpy")
    logits, targets = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    wanted = softmax_focal_loss(logits, targets, alpha=torch.tensor([1.0, 2.0, 4.0]))
    for form in (alpha, np.asarray(alpha)):
        loss_fn = SoftmaxFocalLoss(alpha=form)
        assert torch.equal(loss_fn(logits, targets), wanted)
        assert not [*loss_fn.buffers(), *loss_fn.state_dict()]
        dtype = loss_fn.alpha.dtype
        assert dtype in (torch.float32, torch.float64)
        assert loss_fn.half().alpha.dtype == dtype


Z = torch.zeros(4, 3)
Y = torch.tensor([0, 1, 2, 0])
T = torch.zeros(4, 3)
NAN = torch.full((4, 3), float("nan"))
BAD_CALLS = [
    (softmax_focal_loss, Z, torch.tensor([0, 1, 3, 0]), {}, ValueError, r"\[0, 2\].*got 3"),
    (softmax_focal_loss, Z, torch.tensor([0, -1, 2, 0]), {}, ValueError, "ignore_index=-100"),
    (softmax_focal_loss, Z, Y[:3], {}, ValueError, "targets"),
    (softmax_focal_loss, Z, Y[:, None], {}, ValueError, r"shape \[4\]"),
    (softmax_focal_loss, Z, Y.float(), {}, TypeError, r"targets\.long\(\)"),
    (softmax_focal_loss, Z, Y.bool(), {}, TypeError, "targets"),
    (softmax_focal_loss, Z, T.long(), {}, ValueError, "probabilities as floats"),
    (softmax_focal_loss, Z, T, {}, ValueError, "sum to 1"),
    (softmax_focal_loss, Z, T + 2, {}, ValueError, r"\[0, 1\]"),
    (softmax_focal_loss, Z, NAN, {}, ValueError, "got nan"),
    (softmax_focal_loss, Z.long(), Y, {}, TypeError, "logits"),
    (softmax_focal_loss, Z[0], Y[:3], {}, ValueError, "logits"),
    (softmax_focal_loss, Z[:, :0], Y, {}, ValueError, "C >= 1"),
    (softmax_focal_loss, [[0.0]], Y, {}, TypeError, "logits must be a tensor"),
    (softmax_focal_loss, Z, [0, 1, 2, 0], {}, TypeError, "targets must be a tensor"),
    (softmax_focal_loss, Z, Y, {"alpha": [1.0, 2.0]}, ValueError, "it has 2.*have 3"),
    (
        softmax_focal_loss,
        Z,
        Y,
        {"background_class": 3, "reduction": "mean_positive"},
        ValueError,
        "background_class",
    ),
    (softmax_focal_loss, Z, Y, {"sample_weight": torch.ones(4, 1)}, ValueError, "sample_weight"),
    (softmax_focal_loss, Z, Y, {"sample_weight": torch.ones(3)}, ValueError, "sample_weight"),
    (softmax_focal_loss, Z, Y, {"sample_weight": -torch.ones(4)}, ValueError, "sample_weight"),
    (softmax_focal_loss, Z, Y, {"sample_weight": NAN[:, 0]}, ValueError, "sample_weight"),
    (softmax_focal_loss, Z, Y, {"gather_distributed": True}, RuntimeError, "process group"),
    (sigmoid_focal_loss, Z, T + 2, {}, ValueError, r"\[0, 1\]; got 2"),
    (sigmoid_focal_loss, Z, T - 1, {"ignore_index": -100}, ValueError, "ignore_index=-100"),
    (sigmoid_focal_loss, Z, NAN, {}, ValueError, "got nan"),
    (sigmoid_focal_loss, Z, T[:, :1], {}, ValueError, r"\[4, 3\].*\[4, 1\]"),
    (sigmoid_focal_loss, Z, T.to(torch.complex64), {}, TypeError, "targets"),
    (sigmoid_focal_loss, Z.int(), T, {}, TypeError, "logits"),
    (sigmoid_focal_loss, Z, T, {"sample_weight": torch.ones(3)}, ValueError, "sample_weight"),
    (sigmoid_focal_loss, Z, T, {"sample_weight": torch.ones(1, 3)}, ValueError, r"N, 1.*\[1, 3\]"),
    (sigmoid_focal_loss, Z, T, {"sample_weight": torch.ones(1, 1)}, ValueError, "sample_weight"),
    (sigmoid_focal_loss, Z, T, {"alpha": [0.5, 0.5]}, ValueError, "it has 2.*have 3"),
    (sigmoid_focal_loss, Z, T, {"alpha": [0.5]}, ValueError, "it has 1.*have 3"),
    (sigmoid_focal_loss, Z[0], T[0], {"alpha": [0.5] * 3}, ValueError, "it has 3.*have none"),
]


@pytest.mark.parametrize(("loss", "logits", "targets", "options", "error", "words"), BAD_CALLS)
def test_bad_calls_say_what_is_wrong(loss, logits, targets, options, error, words):
    with pytest.raises(error, match=words):
        loss(logits, targets, **options)


BAD_SETTINGS = [
    (SigmoidFocalLoss, {"alpha": 1.5}, ValueError),
    (SigmoidFocalLoss, {"alpha": "0.25"}, TypeError),
    (SigmoidFocalLoss, {"alpha": True}, TypeError),
    (SigmoidFocalLoss, {"alpha": torch.tensor(1.5)}, ValueError),
    (SigmoidFocalLoss, {"alpha": torch.tensor([0.5, 1.5])}, ValueError),
    (SigmoidFocalLoss, {"alpha": [0.5, -1]}, ValueError),
    (SigmoidFocalLoss, {"alpha": [float("nan")]}, ValueError),
    (SigmoidFocalLoss, {"alpha": []}, ValueError),
    (SigmoidFocalLoss, {"alpha": [[0.5, 0.5]]}, ValueError),
    (SigmoidFocalLoss, {"alpha": ["0.5"]}, TypeError),
    (SigmoidFocalLoss, {"ignore_index": 0.5}, TypeError),
    (SoftmaxFocalLoss, {"alpha": 0.25}, ValueError),
    (SoftmaxFocalLoss, {"alpha": "balanced"}, TypeError),
    (SoftmaxFocalLoss, {"alpha": []}, ValueError),
    (SoftmaxFocalLoss, {"alpha": [[1.0, 2.0]]}, ValueError),
    (SoftmaxFocalLoss, {"alpha": [1.0, -2.0]}, ValueError),
    (SoftmaxFocalLoss, {"alpha": [1.0, float("nan")]}, ValueError),
    (SoftmaxFocalLoss, {"label_smoothing": 1.5}, ValueError),
    (SoftmaxFocalLoss, {"ignore_index": None}, TypeError),
    (SoftmaxFocalLoss, {"background_class": -1}, ValueError),
    *[
        (loss, setting, error)
        for loss in (SigmoidFocalLoss, SoftmaxFocalLoss)
        for setting, error in [
            ({"gamma": -1}, ValueError),
            ({"gamma": float("inf")}, ValueError),
            ({"gamma": "2"}, TypeError),
            ({"reduction": "batchmean"}, ValueError),
            ({"gather_distributed": 1}, TypeError),
        ]
    ],
]


@pytest.mark.parametrize(("make", "settings", "error"), BAD_SETTINGS)
def test_bad_settings_fail_at_construction(make, settings, error):
    with pytest.raises(error, match=next(iter(settings))):
        make(**settings)


def test_class_weights_keep_their_digits_in_half_precision():
    loss_fn = SoftmaxFocalLoss(alpha=[0.7, 0.3]).half()
    assert loss_fn.alpha.tolist() == torch.tensor([0.7, 0.3]).tolist()
