"""Imports point down: a floor imports what lies below it, never its neighbour, and the core needs torch alone."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fourierft

PACKAGE = Path(fourierft.__file__).parent
FLOORS = {"spectral": 0, "format": 1, "tuner": 2, "adapters": 3, "training": 4, "serving": 4, "cli": 5}
ROOMS = {"errors", "extras"}  # at the top, free for all
CORE_IMPORTS = {"fourierft", "torch", "numpy", *sys.stdlib_module_names}
Import = tuple[int, str, str]  # line, module, name ("" if the module itself)


def read_imports(source: str, module: str) -> Iterator[Import]:
    """Every import of a module, wherever it stands: in functions, under TYPE_CHECKING, by import_module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, base, alias.name
        elif isinstance(node, ast.Call) and node.args:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("import_module", "__import__"):
                yield node.lineno, leading_text(node.args[0]), ""


def leading_text(node: ast.expr) -> str:
    """The constant start of a string: all of a literal, what stands before the first hole of an f-string."""
    if isinstance(node, ast.JoinedStr) and node.values:
        node = node.values[0]
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def floor_of(module: str, name: str) -> str | None:
    """The part of the house an import reaches; None if it is not of the house, or free for all."""
    parts = [part for part in module.split(".") if part]
    if not parts or parts[0] != "fourierft":
        return None
    if len(parts) > 1:
        return None if parts[1] in ROOMS else parts[1]
    if name in FLOORS:
        return name
    if name in (*ROOMS, "__version__"):
        return None
    lazy = {"": "fourierft.tuner", **fourierft._LAZY}  # the package itself reaches as high as its public names do
    return lazy.get(name, "fourierft.spectral").split(".")[1]


def violations(source: str, module: str) -> list[str]:
    """What a module imports against the order of the floors, one sentence each."""
    own = module.split(".")[1]
    found = []
    for line, imported, name in read_imports(source, module):
        floor = floor_of(imported, name)
        if floor is None or floor == own:
            continue
        if floor not in FLOORS:
            found.append(f"{module}:{line} imports fourierft.{floor}, which is no floor of the house")
        elif FLOORS[floor] >= FLOORS[own]:
            found.append(f"{module}:{line} imports {floor}, which does not lie below {own}")
    return found


def modules() -> list[tuple[str, Path]]:
    paths = sorted(PACKAGE.rglob("*.py"))
    return [(".".join(["fourierft", *path.relative_to(PACKAGE).with_suffix("").parts]), path) for path in paths]


def test_every_folder_is_a_floor() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= set(FLOORS)
    files = {path.stem for path in PACKAGE.glob("*.py")}
    assert files <= {"__init__", "__main__", *ROOMS}


@pytest.mark.parametrize(("module", "path"), [pair for pair in modules() if pair[0].count(".") > 1])
def test_imports_point_down(module: str, path: Path) -> None:
    assert violations(path.read_text(), module) == []


@pytest.mark.parametrize(("module", "path"), [pair for pair in modules() if ".spectral." in pair[0]])
def test_the_core_needs_torch_alone(module: str, path: Path) -> None:
    tops = {imported.split(".")[0] for _, imported, _ in read_imports(path.read_text(), module)}
    assert tops <= CORE_IMPORTS


def test_the_package_itself_loads_no_floor_and_names_all_late() -> None:
    source = (PACKAGE / "__init__.py").read_text()
    tree = ast.parse(source)
    eager = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    text = "\n".join(ast.unparse(node) for node in eager)
    assert {floor_of(*pair[1:]) for pair in read_imports(text, "fourierft.__init__")} == {None}
    every = {floor_of(*pair[1:]) for pair in read_imports(source, "fourierft.__init__")}
    assert every == {None, "spectral", "tuner", "adapters"}
    assert {target.split(".")[1] for target in fourierft._LAZY.values()} == {"spectral", "tuner", "adapters"}


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_what_is_free_for_all_stands_on_errors_and_the_standard_library(room: str) -> None:
    source = (PACKAGE / f"{room}.py").read_text()
    imported = {module for _, module, _ in read_imports(source, f"fourierft.{room}")}
    assert imported - {"fourierft.errors"} <= sys.stdlib_module_names | {"collections.abc"}


# The check itself


@pytest.mark.parametrize(
    "source",
    [
        "import fourierft.cli.main",
        "from fourierft.cli import main",
        "from fourierft import cli",
        "from ..cli import main",
        "from .. import cli",
        "def late():\n    from fourierft.cli.main import main",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import fourierft.serving.bank",
        "import importlib\nimportlib.import_module('fourierft.serving.bank')",
        "from importlib import import_module\nimport_module(f'fourierft.cli.{name}')",
        "from fourierft.serving.bank import Bank",
        "from fourierft.secrets import anything",
    ],
)
def test_an_import_upward_or_sideways_is_found(source: str) -> None:
    assert len(violations(source, "fourierft.training.run")) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import torch",
        "from fourierft.errors import ConfigError",
        "from fourierft import errors, __version__, SpectralBasis, enable",
        "import fourierft",
        "from fourierft.adapters.merge import merge",
        "from fourierft.training import data",
        "from . import data",
        "from .data import read",
        "from ..tuner import config",
        "import importlib\nimportlib.import_module(name)",
    ],
)
def test_an_import_downward_is_right(source: str) -> None:
    assert violations(source, "fourierft.training.run") == []


@pytest.mark.parametrize(
    "source", ["import fourierft", "from fourierft import enable", "from fourierft import FourierFTConfig"]
)
def test_the_ground_floor_cannot_reach_up_through_the_package(source: str) -> None:
    assert violations(source, "fourierft.spectral.views") == [
        "fourierft.spectral.views:1 imports tuner, which does not lie below spectral"
    ]
