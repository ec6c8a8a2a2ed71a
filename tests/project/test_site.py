"""The reference of the site: every public name has its place there."""

import ast
import importlib
import inspect
import itertools
import pkgutil
import re
from pathlib import Path

import pytest

import imbalanced_losses

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
SOURCES = sorted(Path(imbalanced_losses.__file__).parent.rglob("*.py"))


def public_modules() -> list[str]:
    """Modules that a user may import: no part of their name begins with an underscore."""
    prefix = f"{imbalanced_losses.__name__}."
    found = pkgutil.walk_packages(imbalanced_losses.__path__, prefix)
    return [imbalanced_losses.__name__, *(m.name for m in found if "._" not in m.name)]


def resolved(identifier: str) -> object:
    """What a dotted name stands for: what its module calls so, or else a module."""
    module, _, name = identifier.rpartition(".")
    if module and hasattr(importlib.import_module(module), name):
        return getattr(importlib.import_module(module), name)
    return importlib.import_module(identifier)


def has_string_below(module: str, name: str) -> bool:
    """Whether a string follows where the name is set, in this module or in one that it is from."""
    body = ast.parse(inspect.getsource(importlib.import_module(module))).body
    for node, below in itertools.pairwise([*body, ast.Pass()]):
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            assert node.module is not None
            return has_string_below(node.module, name)
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            text = below.value if isinstance(below, ast.Expr) else None
            return isinstance(text, ast.Constant) and isinstance(text.value, str)
    return False


DOCUMENTED = {
    identifier: resolved(identifier)
    for page in sorted(REFERENCE.glob("*.md"))
    for identifier in re.findall(r"(?m)^::: (\S+)$", page.read_text(encoding="utf-8"))
}


@pytest.mark.parametrize("module", public_modules())
def test_every_public_name_of_a_module_stands_in_the_reference(module: str) -> None:
    public = importlib.import_module(module)
    missing = [
        name
        for name in getattr(public, "__all__", [])
        if not any(getattr(public, name) is value for value in DOCUMENTED.values())
    ]
    assert missing == []


def test_every_module_with_public_names_is_found() -> None:
    assert {
        "imbalanced_losses.functional",
        "imbalanced_losses.integrations.torchmetrics",
        "imbalanced_losses.losses.focal",
        "imbalanced_losses.metrics",
    } <= set(public_modules())


@pytest.mark.parametrize("identifier", DOCUMENTED)
def test_what_the_reference_shows_has_a_docstring(identifier: str) -> None:
    value = DOCUMENTED[identifier]
    if inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value):
        assert value.__doc__
    else:  # a constant or a type, whose docstring is the string below it
        module, _, name = identifier.rpartition(".")
        assert has_string_below(module, name)
