"""The rooms of the package, and which room may know which: arrows point one way."""

import ast
import sys
from pathlib import Path

import pytest

import imbalanced_losses

PACKAGE = "imbalanced_losses"
ROOT = Path(imbalanced_losses.__file__).parent

# A room may import the rooms named beside it, and only rooms that stand above it in this table.
ROOMS = {
    "_checks": set(),
    "_buffers": set(),
    "_ops": set(),
    "_counts": {"_checks"},
    "_schedule": {"_checks"},
    "distributed": set(),
    "_targets": {"_ops"},
    "_queue": {"_buffers", "_ops", "_targets"},
    "_pool": {"_ops", "_targets", "distributed"},
    "_statistics": {"_checks", "_ops", "_pool", "_targets"},
    "_outcome": {"_ops", "_pool", "_statistics"},
    "_reduce": {"distributed"},
    "_ranking": {
        "_buffers",
        "_checks",
        "_ops",
        "_outcome",
        "_pool",
        "_queue",
        "_statistics",
        "_targets",
        "distributed",
    },
    "metrics": {"_checks", "_ops", "_targets"},
    "class_weights": {"_checks", "_counts"},
    "warmup": {"_checks", "_ops", "_schedule", "_targets"},
    "functional": {
        "_checks",
        "_outcome",
        "_pool",
        "_ranking",
        "_reduce",
        "_statistics",
        "_targets",
        "distributed",
    },
    "focal_loss": {"_buffers", "_statistics", "functional"},
    "ranking_loss": {"_ranking", "_statistics"},
    "integrations": {"distributed", "ranking_loss", "warmup"},
    "__init__": {
        "class_weights",
        "distributed",
        "focal_loss",
        "functional",
        "metrics",
        "ranking_loss",
        "warmup",
    },
}

# What a room may import from outside besides torch; the others know nothing else.
TRAINERS = {"integrations": {"lightning", "transformers"}}

# Rooms of pure arithmetic: no modules, no process group, no state.
PURE = ("_ops", "_statistics", "_targets", "_reduce")


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


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


SOURCES = sorted(ROOT.rglob("*.py"))


def test_every_file_is_in_a_room() -> None:
    assert {room_of(path) for path in SOURCES} == set(ROOMS)


def test_the_table_allows_no_circle() -> None:
    order = list(ROOMS)
    for room, allowed in ROOMS.items():
        assert all(order.index(other) < order.index(room) for other in allowed), room


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_point_one_way(path: Path) -> None:
    room = room_of(path)
    inner = {name.split(".")[1] for name in imported_names(path) if name.startswith(PACKAGE + ".")}
    assert inner - {room} <= ROOMS[room]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_needs_torch_alone(path: Path) -> None:
    outer = {name.split(".")[0] for name in imported_names(path)}
    allowed = {"torch", PACKAGE} | TRAINERS.get(room_of(path), set())
    assert outer <= sys.stdlib_module_names | allowed


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if room_of(path) in PURE], ids=lambda path: path.name
)
def test_arithmetic_knows_no_modules_and_no_ranks(path: Path) -> None:
    assert not imported_names(path) & {"torch.nn", "torch.distributed"}
