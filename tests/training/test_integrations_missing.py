"""What a user without the libraries of the trainers sees."""

import importlib
import subprocess
import sys

import pytest

import imbalanced_losses

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
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert not {"lightning", "torchmetrics", "transformers", "accelerate"} & set(
        done.stdout.split()
    )
