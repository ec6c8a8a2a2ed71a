"""What a user without the libraries of the trainers sees."""

import importlib
import sys

import pytest

import imbalanced_losses
import launch

PACKAGE = f"{imbalanced_losses.__name__}.integrations"


@pytest.mark.parametrize("library", ["lightning", "torchmetrics", "transformers"])
def test_an_adapter_names_its_extra(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name == library or name.startswith(f"{library}."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, f"{PACKAGE}.{library}", raising=False)
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    with pytest.raises(ImportError, match=rf'pip install "\.\[{library}\]"'):
        importlib.import_module(f"{PACKAGE}.{library}")


def test_the_core_loads_no_trainer() -> None:
    look = f"import sys, imbalanced_losses, {PACKAGE}; print(*sys.modules)"
    loaded = launch.python("-c", look).stdout.split()
    assert not {"lightning", "torchmetrics", "transformers", "accelerate"} & set(loaded)
