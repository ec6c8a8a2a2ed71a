"""What a loss holds (settings, temperature, queue) through everything that is done to a model."""

import copy

import pytest
import torch
from torch import nn
from torch.func import jacrev, vjp
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

import parallel
from cases import CASES, RANKING, assert_same, every, remembered, state, step
from imbalanced_losses import (
    LossWarmupWrapper,
    PAUCAtBudgetLoss,
    RecallAtQuantileLoss,
    SmoothAPLoss,
    SoftmaxFocalLoss,
)


class Model(nn.Module):
    """A head with losses inside, as many models have them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.focal = SoftmaxFocalLoss(alpha=[1, 257, 3.5])
        self.ranking = SmoothAPLoss(3, queue_size=8, temperature=0.3)

    def forward(self, features, targets):
        logits = self.layer(features)
        return self.focal(logits, targets) + self.ranking(logits, targets)


def batch(seed=0, rows=9):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 4, generator=generator), torch.arange(rows) % 3


def assert_intact(model: Model) -> None:
    assert model.focal.alpha.tolist() == [1, 257, 3.5]
    assert model.focal.alpha.dtype == torch.float32
    assert model.ranking.temperature == 0.3
    assert model.ranking.queue.scores.dtype == torch.float32
    assert model.ranking.queue.label.device.type == "cpu"


# Construction ---------------------------------------------------------------------------------


def test_no_loss_has_buffers_or_parameters() -> None:
    """So neither a buffer dtype of FSDP nor a broadcast of DDP reaches it."""
    assert not [*Model().focal.buffers(), *Model().ranking.buffers(), *Model().ranking.parameters()]


def test_a_model_built_on_the_meta_device_has_whole_losses() -> None:
    with torch.device("meta"):
        model = Model()
        wrapper = LossWarmupWrapper(nn.CrossEntropyLoss(), SmoothAPLoss(3), 1, temp_start=0.5)
    assert "SmoothAPLoss" in repr(wrapper)
    model.to_empty(device="cpu")
    assert_intact(model)
    with torch.no_grad():
        model.layer.weight.normal_()
        model.layer.bias.zero_()
    assert model(*batch()).isfinite()
    assert_intact(model)


@every()
def test_a_forward_pass_on_meta_tensors_has_the_right_shape_and_writes_nothing(case) -> None:
    loss = case.midway()
    before = state(loss)
    value = loss(*(given.to("meta") for given in case.batch()))
    assert value.is_meta
    assert value.shape == loss(*case.batch()).shape
    if case.ranks:
        fresh = case.midway()
        fresh(*(given.to("meta") for given in case.batch()))
        assert_same(state(fresh), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_the_default_dtype_at_construction_is_no_matter(dtype) -> None:
    expected = Model()
    torch.set_default_dtype(dtype)
    try:
        model = Model()
    finally:
        torch.set_default_dtype(torch.float32)
    assert_intact(model)
    model.layer = expected.layer
    for seed in range(2):
        assert_same(model(*batch(seed)), expected(*batch(seed)))


@every(ranks=True)
def test_a_loss_that_is_on_another_device_moves_to_that_of_the_batch(case, monkeypatch) -> None:
    """The meta device stands for the other one; `tests/test_gpu.py` has the real thing."""
    loss, expected = case.midway(), step(case.midway(), *case.batch())
    moves, draws = [], loss.draws

    def move(device):
        moves.append(device)
        loss.draws = draws

    monkeypatch.setattr(loss, "_move", move)
    loss.draws = draws.to("meta")
    assert_same(step(loss, *case.batch()), expected)
    assert moves == [torch.device("cpu")]


# A model's own ways ---------------------------------------------------------------------------


def test_hugging_face_fills_only_the_model(tmp_path) -> None:
    transformers = pytest.importorskip("transformers")

    class Config(transformers.PretrainedConfig):
        model_type = "with_losses"

    class Pretrained(transformers.PreTrainedModel):
        config_class = Config

        def __init__(self, config):
            super().__init__(config)
            self.body = Model()
            self.wrapper = LossWarmupWrapper(
                nn.CrossEntropyLoss(), RecallAtQuantileLoss(3, 0.3, 8), warmup_steps=3
            )
            self.post_init()

        def _init_weights(self, module):
            pass

    class Backbone(transformers.PreTrainedModel):
        config_class = Config

        def __init__(self, config):
            super().__init__(config)
            self.body = nn.ModuleDict({"layer": nn.Linear(4, 3)})
            self.post_init()

    whole = Pretrained(Config())
    whole.body(*batch())
    whole.save_pretrained(tmp_path / "whole")
    Backbone(Config()).save_pretrained(tmp_path / "backbone")
    for folder in ("whole", "backbone"):
        for dtype in (torch.float32, torch.bfloat16):
            model = Pretrained.from_pretrained(tmp_path / folder, dtype=dtype)
            assert_intact(model.body)
            assert model.wrapper.in_warmup
            kept = (model.body.ranking.queue.label >= 0).any()
            assert kept == (folder == "whole")
    assert_same(
        Pretrained.from_pretrained(tmp_path / "whole").body(*batch(1)), whole.body(*batch(1))
    )


@pytest.mark.parametrize("averaging", [None, get_ema_multi_avg_fn(0.5)], ids=["swa", "ema"])
def test_averaging_of_weights_leaves_losses_alone(averaging) -> None:
    model = Model()
    averaged = AveragedModel(model, multi_avg_fn=averaging, use_buffers=True)
    for seed in range(3):
        model(*batch(seed))
        averaged.update_parameters(model)
    assert_intact(averaged.module)
    assert not (averaged.module.ranking.queue.label >= 0).any()
    assert averaged.state_dict()["module.ranking._extra_state"].dtype == torch.uint8


def local_queues(rank: int) -> tuple[list, list]:
    """Queues of both ranks after steps under DDP, and what this rank's batches leave alone."""
    torch.manual_seed(0)
    model = Model()
    model.ranking.gather_distributed = model.focal.gather_distributed = False
    alone = copy.deepcopy(model)
    wrapped = DistributedDataParallel(model)
    for seed in range(3):
        wrapped(*batch(10 * rank + seed)).backward()
        alone(*batch(10 * rank + seed))
    return remembered(model), remembered(alone)


def test_a_local_queue_stays_on_its_rank_under_ddp() -> None:
    (first, first_alone), (second, second_alone) = parallel.run(2, local_queues)
    assert_same(first, first_alone)
    assert_same(second, second_alone)
    (queue, _), (other, _) = first[0], second[0]
    assert not queue.scores.equal(other.scores)


# More than one evaluation in a step -------------------------------------------------------------


@every(ranks=True)
def test_a_recomputation_inside_a_backward_pass_is_refused(case) -> None:
    loss = case.midway()
    logits, targets = case.batch()
    logits.requires_grad_()
    value = checkpoint(loss, logits, targets, use_reentrant=False)
    with pytest.raises(RuntimeError, match=r"inside a backward pass.*frozen_queue\(\)"):
        value.backward()
    expected = step(case.midway(), logits, targets)
    for harmless in (case.midway().eval(), case.midway()):
        logits.grad = None
        with harmless.frozen_queue():
            value = checkpoint(harmless, logits, targets, use_reentrant=False)
            value.backward()
        assert_same((value.detach(), logits.grad), expected)


@pytest.mark.parametrize("cls", RANKING)
def test_without_a_queue_recomputation_is_exact(cls) -> None:
    logits, targets = torch.randn(20, 3, requires_grad=True), torch.arange(20) % 3
    loss = cls(3, queue_size=0, temperature=0.3)
    checkpoint(loss, logits, targets, use_reentrant=False).backward()
    assert_same(logits.grad, step(loss, logits, targets)[1])


def test_a_frozen_queue_sees_one_pool_however_often_it_is_asked() -> None:
    loss = SmoothAPLoss(1, queue_size=8, max_pool_size=9)
    loss(torch.randn(8), torch.arange(8) % 2)
    before = state(loss)
    scores, targets = torch.randn(4), torch.arange(4) % 2
    with pytest.warns(UserWarning, match="subsampled"), loss.frozen_queue(), loss.frozen_queue():
        first = loss(scores, targets)
    with loss.frozen_queue():
        assert_same(loss(scores, targets), first)
    assert_same(state(loss), before)
    assert_same(loss(scores, targets), first)
    assert not state(loss)["_extra_state"].equal(before["_extra_state"])


def test_lbfgs_with_a_frozen_queue_lowers_the_loss_of_one_pool() -> None:
    torch.manual_seed(0)
    model, loss = nn.Linear(4, 1), PAUCAtBudgetLoss(1, beta=0.5, surrogate="pairwise")
    features = torch.randn(64, 4)
    targets = (features[:, 0] + torch.randn(64) > 1).long()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=8, line_search_fn="strong_wolfe")
    seen = []

    def closure():
        optimizer.zero_grad()
        with loss.frozen_queue():
            value = loss(model(features), targets)
        value.backward()
        seen.append(value.item())
        return value

    optimizer.step(closure)
    assert seen[-1] < seen[0] - 0.05
    assert not (loss.queue.label >= 0).any()


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.ranks])
def test_reverse_transforms_of_torch_func(name) -> None:
    case = CASES[name]
    logits, targets = case.batch(dtype=torch.float64)
    loss = case.midway().eval()
    expected = step(loss, logits, targets)[1]
    torch.testing.assert_close(jacrev(loss)(logits, targets), expected)
    value, pull = vjp(lambda scores: loss(scores, targets), logits)
    torch.testing.assert_close(pull(torch.ones_like(value))[0], expected)


# Settings ---------------------------------------------------------------------------------------


def test_settings_are_attributes_that_check_what_is_assigned() -> None:
    loss = PAUCAtBudgetLoss(3, 0.1, 0.4, "pairwise", 3, queue_size=0, ignore_index=-1)
    assert (loss.alpha, loss.beta, loss.surrogate, loss.n_knots) == (0.1, 0.4, "pairwise", 3)
    assert (loss.tau_scale, loss.pos_numerator, loss.budget_basis) == ("iqr", "pool", "fpr")
    assert (loss.num_classes, loss.ignore_index, loss.scores) == (3, -1, "logits")
    assert RecallAtQuantileLoss(1, 0.02).quantile == 0.02
    with pytest.raises(ValueError, match=r"beta must be above 0.1.*got 0.05"):
        loss.beta = 0.05
    assert loss.beta == 0.4
    loss.surrogate, loss.reduction = "trapezoid", "none"
    logits, targets = torch.randn(30, 3), torch.arange(30) % 3
    expected = PAUCAtBudgetLoss(3, 0.1, 0.4, n_knots=3, queue_size=0, reduction="none")
    assert_same(loss(logits, targets), expected(logits, targets))
    focal = SoftmaxFocalLoss([1, 2, 4], 1.0, label_smoothing=0.1)
    assert (focal.gamma, focal.label_smoothing, focal.background_class) == (1.0, 0.1, 0)
    focal.gamma = 0.5
    with pytest.raises(ValueError, match="gamma must be at least 0"):
        focal.gamma = -1
    assert_same(
        focal(logits, targets),
        SoftmaxFocalLoss([1, 2, 4], 0.5, label_smoothing=0.1)(logits, targets),
    )


def test_numbers_of_numpy_are_settings() -> None:
    np = pytest.importorskip("numpy")
    loss = RecallAtQuantileLoss(np.int64(3), np.float64(0.5), np.int32(4), torch.tensor(0.5))
    assert (loss.num_classes, loss.quantile, loss.queue_size, loss.temperature) == (3, 0.5, 4, 0.5)
    assert type(loss.num_classes) is int
    assert SoftmaxFocalLoss(gamma=np.float32(0.5)).gamma == 0.5


# Dense batches ----------------------------------------------------------------------------------


@every(ranks=True)
def test_every_position_of_a_dense_batch_is_a_row(case) -> None:
    logits, targets = case.batch(rows=24)
    weight, iid = torch.rand(24), torch.arange(24) % 5 > 0
    expected = step(case.midway(), logits, targets, sample_weight=weight, iid_mask=iid)

    def dense(given):
        """Rows `[24, ...]` as `[2, ..., 3, 4]`."""
        return given.view(2, 3, 4, *given.shape[1:]).movedim((1, 2), (-2, -1)).contiguous()

    value, grad = step(
        case.midway(),
        dense(logits),
        dense(targets),
        sample_weight=dense(weight),
        iid_mask=dense(iid),
    )
    assert_same(value, expected[0])
    assert_same(grad, dense(expected[1]))
    by_image = step(case.midway(), dense(logits), dense(targets), sample_weight=torch.ones(2))
    assert_same(by_image[0], step(case.midway(), logits, targets)[0])


@pytest.mark.parametrize(
    ("targets", "keywords", "sentence"),
    [
        (torch.zeros(2, 5).long(), {}, r"targets must have shape \[2, 4\].*\[2, 3, 4\]"),
        (torch.zeros(2, 4).long(), {"sample_weight": torch.ones(8)}, r"sample_weight must.*\[2\]"),
        (torch.zeros(2, 4).long(), {"iid_mask": torch.ones(4, 2).bool()}, r"iid_mask.*\[2, 4\]"),
    ],
)
def test_dense_shapes_that_do_not_fit_are_refused(targets, keywords, sentence) -> None:
    with pytest.raises(ValueError, match=sentence):
        SmoothAPLoss(3)(torch.zeros(2, 3, 4), targets, **keywords)


def test_warnings_point_at_the_line_of_the_user() -> None:
    old, new = SmoothAPLoss(1, 8), SmoothAPLoss(1, 4, max_pool_size=5)
    with pytest.warns(UserWarning, match="holds a queue of 8 rows") as resized:
        new.load_state_dict(old.state_dict())
    with pytest.warns(UserWarning, match="subsampled") as subsampled:
        new(torch.randn(8), torch.arange(8) % 2)
    assert {seen.filename for seen in (*resized, *subsampled)} == {__file__}
