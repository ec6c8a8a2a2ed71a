"""The rooms of the package, and which room may reach which: arrows point one way."""

import ast
import sys
from pathlib import Path

import pytest

import imbalanced_losses
from benchmarks import run

PACKAGE = "imbalanced_losses"
ROOT = Path(imbalanced_losses.__file__).parent

# All rooms that each room may reach, also through others. `losses/` is parted into its roads, which
# begin with an underscore, and the losses, which do not know each other.
OPS = {"_ops"}
CHECKS = OPS | {"_checks"}
POOL = CHECKS | {"distributed", "_pool", "_warn"}
ROADS = POOL | {"losses._"}
LOSSES = ROADS | {"losses"}
RECIPES = LOSSES | {"mixing", "class_weights", "calibration", "metrics"}
RECIPES |= {"_class_counts", "_planned", "samplers", "_pointwise_call"}
TRAINING = RECIPES | {"recipes", "_goals"}
COMPARE = TRAINING | {"_training", "_paired", "thresholds", "_errors"}
REACHES = {
    "_ops": set(),
    "_checks": OPS,
    "_class_counts": CHECKS,
    "distributed": CHECKS,
    "_pool": CHECKS | {"distributed", "_warn"},
    "losses._": POOL,
    "losses": ROADS,
    "functional": LOSSES,
    "focal_loss": LOSSES,
    "_planned": CHECKS | {"_class_counts", "_warn"},
    "samplers": CHECKS | {"_class_counts", "_warn", "_planned"},
    "class_weights": CHECKS | {"_class_counts", "_warn", "_planned", "samplers"},
    "metrics": POOL | {"_class_counts"},
    "thresholds": POOL | {"_class_counts", "metrics"},
    "calibration": POOL | {"_class_counts", "metrics"},
    "_paired": CHECKS,
    "_errors": set(),
    "_schedule": CHECKS,
    "_warn": set(),
    "_pointwise_call": OPS,
    "warmup": LOSSES | {"_schedule", "_pointwise_call"},
    "mixing": LOSSES | {"_pointwise_call"},
    "recipes": RECIPES,
    "_goals": RECIPES | {"recipes"},
    "_training": TRAINING,
    "estimator": TRAINING | {"_training"},
    "compare": COMPARE,
    "_cli": COMPARE | {"compare"},
    "__main__": COMPARE | {"compare", "_cli"},
    "integrations": LOSSES
    | {"mixing"}
    | {"_class_counts", "metrics"}
    | {"warmup", "_schedule", "_pointwise_call"},
}

# What a room may import from outside besides torch; the others know nothing else.
OUTSIDE = {
    "_paired": {"numpy", "scipy"},
    "_training": {"lightning", "numpy", "sklearn"},
    "estimator": {"numpy", "sklearn"},
    "compare": {"joblib", "numpy", "pandas", "pyarrow", "rich", "scipy", "sklearn", "skrub"}
    | {"threadpoolctl", "jinja2", "markupsafe", "matplotlib"},
    "_cli": {"rich", "typer"},
    "integrations": {"lightning", "torchmetrics", "transformers"},
}


def room_of(module: str) -> str:
    """The room of a dotted module inside the package."""
    first, _, rest = module.partition(".")
    if first == "losses" and rest.startswith("_"):
        return "losses._"
    return first


def name_of(path: Path) -> str:
    """The dotted name of a file inside the package; empty for the package itself."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported_names(path: Path) -> set[str]:
    """Dotted names of all imports, `from a import b` as `a.b`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports inside the package are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


SOURCES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
# Rooms are told by files, so that a loss and its road are apart.
MODULES = sorted(SOURCES, key=len, reverse=True)


def modules_in(names: set[str]) -> set[str]:
    """The files of the package that these dotted names lie in."""
    inner = {name.removeprefix(f"{PACKAGE}.") for name in names if name.startswith(f"{PACKAGE}.")}
    return {
        next(module for module in MODULES if f"{name}.".startswith(f"{module}." if module else ""))
        for name in inner
    }


DIRECT = {module: modules_in(imported_names(path)) for module, path in SOURCES.items()}


def reached_from(module: str) -> set[str]:
    """All files that importing this one leads to."""
    seen, ahead = set(), {module}
    while ahead:
        ahead = set().union(*(DIRECT[name] for name in ahead)) - seen
        seen |= ahead
    return seen


def test_every_file_is_in_a_room() -> None:
    assert {room_of(name) for name in SOURCES if name} == set(REACHES)


@pytest.mark.parametrize("module", [name for name in SOURCES if name])
def test_arrows_point_one_way_also_through_other_rooms(module: str) -> None:
    room = room_of(module)
    assert {room_of(other) for other in reached_from(module)} - {room} <= REACHES[room]
    assert "" not in reached_from(module), "a room does not know the names of the whole package"


def test_a_benchmark_is_outdated_by_what_its_losses_are_made_of_and_nothing_else() -> None:
    assert set(run.ROOMS) == {*REACHES["losses"], "losses"} - {"losses._"}


def test_losses_do_not_know_each_other() -> None:
    files = {name for name in SOURCES if room_of(name) == "losses"} - {"losses"}
    for name in files:
        assert not DIRECT[name] & files, name


def test_the_runtime_is_asked_in_one_place() -> None:
    """Compilers and transforms by `_ops/runtime.py` alone; losses do not ask whether they run."""
    for module, path in SOURCES.items():
        text = path.read_text()
        if module != "_ops.runtime":
            assert "torch.compiler.is_compiling" not in text, module
            assert "torch._C" not in text, module
        if room_of(module) == "losses":
            assert "_ops.runtime" not in DIRECT[module], module


@pytest.mark.parametrize("module", SOURCES)
def test_the_core_needs_torch_alone(module: str) -> None:
    outer = {name.split(".")[0] for name in imported_names(SOURCES[module])}
    allowed = {"torch", PACKAGE} | OUTSIDE.get(room_of(module), set())
    assert outer <= sys.stdlib_module_names | allowed


@pytest.mark.parametrize("module", [name for name in SOURCES if room_of(name) == "_ops"])
def test_arithmetic_knows_no_modules_and_no_ranks(module: str) -> None:
    assert not imported_names(SOURCES[module]) & {"torch.nn", "torch.distributed"}
