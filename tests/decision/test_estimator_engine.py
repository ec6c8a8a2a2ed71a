"""Where the estimator trains: devices by torch, precision and strategy by Lightning Fabric."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification

import launch
from imbalanced_losses._training.engine import Engine
from imbalanced_losses.estimator import RareClassClassifier

X, Y = make_classification(200, 5, weights=[0.9], class_sep=1.5, random_state=1)


def quick(**settings):
    given = {"hidden": (4,), "learning_rate": 0.02, "max_epochs": 4, "random_state": 0}
    return RareClassClassifier(**{**given, "loss": "prior_bias", **settings})


def test_the_default_needs_no_lightning_and_a_missing_one_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning", None)
    monkeypatch.setitem(sys.modules, "lightning.fabric", None)
    quick(device="auto").fit(X, Y)
    with pytest.raises(ImportError, match=r'precision=.bf16-mixed.*pip install "\.\[lightning\]"'):
        quick(precision="bf16-mixed").fit(X, Y)


def test_a_device_is_found_or_chosen(monkeypatch) -> None:
    assert Engine("cpu").device == torch.device("cpu")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    assert Engine("auto").device == torch.device("cpu")
    found = torch.device("meta")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: found)
    assert Engine("auto").device == found


@pytest.mark.gpu
def test_it_trains_on_an_accelerator_and_predicts_on_the_cpu() -> None:
    there, here = quick(device="cuda").fit(X, Y), quick().fit(X, Y)
    assert there.predict_proba(X) == pytest.approx(here.predict_proba(X), abs=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_a_lower_precision_trains_nearly_the_same_model() -> None:
    low = quick(precision="bf16-mixed").fit(X, Y).predict_proba(X)
    full = quick().fit(X, Y).predict_proba(X)
    assert 0 < np.abs(low - full).max() < 0.05


RANKED = """
import os
import sys
import numpy as np
import torch
from sklearn.datasets import make_classification
from imbalanced_losses.estimator import RareClassClassifier

if __name__ == "__main__":
    torch.set_num_threads(1)
    X, y = make_classification(200, 5, weights=[0.9], class_sep=1.5, random_state=1)
    model = RareClassClassifier(
        "prior_bias", hidden=(4,), learning_rate=0.02, max_epochs=4, random_state=0, strategy="ddp"
    )
    model.fit(X, y)
    assert torch.distributed.get_world_size() == 2
    np.save(f"{sys.argv[1]}/{os.environ['RANK']}", model.predict_proba(X))
"""


def test_each_process_trains_on_its_own_part_of_a_batch() -> None:
    engine, batch, parts = Engine("cpu"), torch.arange(7), []
    for rank in range(2):
        engine._fabric = SimpleNamespace(world_size=2, global_rank=rank)
        parts.append(engine.share(batch).tolist())
    assert parts == [[0, 2, 4, 6], [1, 3, 5]]


@pytest.mark.slow
def test_two_processes_train_the_model_of_one(tmp_path: Path) -> None:
    script = tmp_path / "ranked.py"
    script.write_text(RANKED)
    launch.torchrun(script, tmp_path)
    alone = quick().fit(X, Y).predict_proba(X)
    for rank in range(2):
        assert np.load(tmp_path / f"{rank}.npy") == pytest.approx(alone, abs=1e-4)
