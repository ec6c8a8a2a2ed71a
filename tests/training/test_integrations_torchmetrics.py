"""The torchmetrics classes: batch by batch, binned, over ranks, and inside torchmetrics' tools."""

import copy
import math
import pickle

import pytest
import torch

from imbalanced_losses import metrics

pytest.importorskip("torchmetrics")

from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryAUROC

from imbalanced_losses.integrations.torchmetrics import PartialAUC, PrecisionAtK, RecallAtQuantile

KINDS = {
    "recall": (RecallAtQuantile, {"quantile": 0.07}, metrics.recall_at_quantile),
    "pauc": (PartialAUC, {"alpha": 0.02, "beta": 0.3}, metrics.partial_auc),
    "precision": (PrecisionAtK, {"k": 11}, metrics.precision_at_k),
}
every_kind = pytest.mark.parametrize(("metric", "setting", "function"), KINDS.values(), ids=KINDS)
both_forms = pytest.mark.parametrize("binned", [False, True], ids=["exact", "binned"])


def data(form, rows=400, seed=0):
    """Scores of both signs and many sizes, and targets with ignored cells."""
    generator = torch.Generator().manual_seed(seed)
    shape = (rows,) if form == "binary" else (rows, 3)
    scores = torch.randn(shape, generator=generator) * 3
    classes = 2 if form != "indices" else 3
    targets = torch.randint(classes, (rows,) if form == "indices" else shape, generator=generator)
    scores = scores + (scores.abs() < 1) * torch.randn(shape, generator=generator) * 1e-3
    targets[torch.rand(targets.shape, generator=generator) < 0.1] = -100
    scores[0], scores[1] = math.inf, -0.0
    return scores, targets


@every_kind
@pytest.mark.parametrize("form", ["binary", "indices", "multi-hot"])
def test_an_epoch_is_the_function_of_all_rows(metric, setting, function, form):
    scores, targets = data(form)
    classes = 1 if form == "binary" else 3
    for binned, seen in ((False, scores), (True, scores.bfloat16().float())):
        for average in ("none", "macro"):
            epoch = metric(**setting, num_classes=classes, average=average, binned=binned)
            for part in zip(scores.split(70), targets.split(70), strict=True):
                epoch.update(*part)
            expected = function(seen.double(), targets, average=average, **setting)
            expected = expected.reshape(epoch.compute().shape)
            torch.testing.assert_close(epoch.compute(), expected)
            epoch.reset()
            epoch.update(scores[:50], targets[:50])
            expected = function(seen[:50].double(), targets[:50], average=average, **setting)
            torch.testing.assert_close(epoch.compute(), expected.reshape(epoch.compute().shape))


@every_kind
@pytest.mark.parametrize("seed", range(8))
def test_the_exact_metric_lies_within_the_bounds_of_the_binned_one(metric, setting, function, seed):
    scores, targets = data("binary", rows=200, seed=seed)
    # Probabilities crowd where bfloat16 tells little: hundreds of rows round alike.
    for given in (scores, scores.sigmoid(), 0.99 + scores.sigmoid() / 100):
        binned = metric(**setting, binned=True)
        binned.update(given, targets)
        low, high = binned.bounds()
        exact = function(given.double(), targets, **setting)
        assert low - 1e-12 <= exact <= high + 1e-12
        assert low - 1e-12 <= binned.compute() <= high + 1e-12
    assert high - low > 0.01
    kept = metric(**setting)
    kept.update(given, targets)
    assert kept.bounds() == (exact, exact)


def test_the_bounds_of_logits_are_narrow_for_a_long_stream():
    stream = PartialAUC(beta=0.01, binned=True)
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        targets = torch.rand(20_000, generator=generator) < 0.01
        stream.update(torch.randn(20_000, generator=generator) + 2 * targets, targets)
    low, high = stream.bounds()
    assert 0 < high - low < 0.02
    assert sum(state.numel() * state.itemsize for state in stream.metric_state.values()) == 2**20


@every_kind
@both_forms
def test_nothing_seen_a_class_without_positives_and_nan_are_nan(metric, setting, function, binned):
    settings = {**setting, "num_classes": 2, "average": "none", "binned": binned}
    epoch = metric(**settings)
    epoch.update(torch.empty(0, 2), torch.empty(0, dtype=torch.long))
    assert epoch.compute().isnan().all()
    scores, targets = torch.randn(40, 2), torch.zeros(40, 2)
    targets[:5, 0] = 1
    epoch.update(scores, targets)
    assert epoch.compute().isnan().tolist() == [False, True]
    scores[7, 0] = -math.nan
    epoch.update(scores, targets)
    assert epoch.compute().isnan().all()
    epoch.reset()
    epoch.update(scores, targets.index_fill(0, torch.tensor(7), -100))
    assert epoch.compute().isnan().tolist() == [False, True]


@both_forms
@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric:UserWarning")
def test_compute_before_the_first_batch_is_nan(binned):
    assert PartialAUC(binned=binned).compute().isnan()


def test_the_partial_auc_is_torchmetrics_rescaled():
    scores, targets = data("binary")
    valid = targets != -100
    theirs, ours = BinaryAUROC(max_fpr=0.2), PartialAUC(beta=0.2)
    for metric in (theirs, ours):
        metric.update(scores[valid].sigmoid(), targets[valid])
    rescaled = (1 + (ours.compute() - 0.1) / 0.9) / 2
    torch.testing.assert_close(rescaled.float(), theirs.compute())


@every_kind
@both_forms
def test_metrics_copy_pickle_save_collect_and_give_a_batchs_value(
    metric, setting, function, binned
):
    scores, targets = data("binary")
    epoch = metric(**setting, binned=binned)
    both = MetricCollection({"a": epoch, "b": metric(**setting, binned=binned)})
    batch = both(scores[:200], targets[:200])
    seen = scores.bfloat16().float() if binned else scores
    expected = function(seen[:200].double(), targets[:200], **setting)
    torch.testing.assert_close(batch["a"], expected)
    both.update(scores[200:], targets[200:])
    expected = function(seen.double(), targets, **setting)
    copies = [both["a"], pickle.loads(pickle.dumps(both["b"])), copy.deepcopy(epoch), epoch.clone()]
    for copied in copies[:2]:
        torch.testing.assert_close(copied.compute(), expected)
    epoch = copies[0]
    epoch.persistent(True)
    loaded = metric(**setting, binned=binned)
    loaded.persistent(True)
    loaded.load_state_dict(epoch.state_dict())
    torch.testing.assert_close(
        loaded._value(loaded._binned(0) if binned else loaded._rows())[0], expected
    )


@every_kind
@both_forms
def test_two_ranks_of_uneven_rows_are_one(metric, setting, function, binned):
    scores, targets = data("indices")
    settings = {**setting, "num_classes": 3, "average": "none", "binned": binned}
    whole, other = metric(**settings), metric(**settings)
    whole.update(scores, targets)
    other.update(scores[310:], targets[310:])
    # What the other rank sends, in the order in which torchmetrics asks for the states.
    states = list(other.metric_state.values())
    sent = iter([state if binned else torch.cat(state) for state in states] * 2)
    epoch = metric(
        **settings,
        dist_sync_fn=lambda state, group: [state, next(sent)],
        distributed_available_fn=lambda: True,
    )
    for part in (slice(0, 100), slice(100, 310)):
        epoch.update(scores[part], targets[part])
    torch.testing.assert_close(epoch.compute(), whole.compute())
    torch.testing.assert_close(epoch.bounds(), whole.bounds())
    assert next(sent, None) is None or not binned


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RecallAtQuantile(1.5), "quantile must be"),
        (lambda: PartialAUC(0.5, 0.5), "beta must be above 0.5"),
        (lambda: PrecisionAtK(0), "k must be at least 1"),
        (lambda: PrecisionAtK(1, num_classes=0), "num_classes must be at least 1"),
        (lambda: PrecisionAtK(1, average="micro"), "average must be one of"),
        (lambda: PrecisionAtK(1, 2).update(torch.zeros(4), torch.zeros(4)), r"\[N, 2\]"),
        (lambda: PrecisionAtK(1).update(torch.zeros(4), torch.zeros(3)), "targets must have shape"),
    ],
)
def test_wrong_settings_and_shapes(make, message):
    with pytest.raises(ValueError, match=message):
        make()
