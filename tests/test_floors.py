"""Imports point down: a floor imports what lies below it, never its neighbour, and no two files import one another.

The core needs torch alone.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fourierft

PACKAGE = Path(fourierft.__file__).parent
FLOORS = {
    "spectral": 0,
    "format": 1,
    "rows": 2,
    "tuner": 3,
    "adapters": 4,
    "store": 5,
    "diffusers": 5,
    "integrations": 4,
    "fleet": 6,
    "training": 7,
    "serving": 7,
    "export": 8,
    "cli": 9,
}
ROOMS = {"bars", "errors", "extras", "files", "shared", "tables"}  # at the top, free for all
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


def module_of(imported: str, name: str, known: set[str]) -> str | None:
    """The module of `known` that an import loads: `from package import name` may mean one, or what the package has."""
    return next((found for found in (f"{imported}.{name}", imported) if found in known), None)


def circles(sources: dict[str, str]) -> list[list[str]]:
    """Modules that import one another, hints and deferred imports included: each group once, sorted.

    Args:
        sources: module -> its text; a package has the name of its folder.
    """
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        inside = module if any(other.startswith(f"{module}.") for other in sources) else module.rpartition(".")[0]
        found = {module_of(base, name, set(sources)) for _, base, name in read_imports(source, f"{inside}.file")}
        graph[module] = {other for other in found if other is not None and other != module}
    reached = {module: reach(graph, module) for module in graph}
    groups = {tuple(sorted(other for other in reached[module] if module in reached[other])) for module in graph}
    return [list(group) for group in sorted(groups) if group]


def reach(graph: dict[str, set[str]], start: str) -> set[str]:
    """What can be reached from a module, in one step or more."""
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += graph[module]
    return seen


def modules() -> list[tuple[str, Path]]:
    paths = sorted(PACKAGE.rglob("*.py"))
    return [(".".join(["fourierft", *path.relative_to(PACKAGE).with_suffix("").parts]), path) for path in paths]


def test_every_folder_is_a_floor() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= set(FLOORS)
    files = {path.stem for path in PACKAGE.glob("*.py")}
    assert files <= {
        "__init__",
        "__main__",
        "switch",
        *ROOMS,
    }  # switch.py is a door, as __init__ is: no floor may use it


@pytest.mark.parametrize(("module", "path"), [pair for pair in modules() if pair[0].count(".") > 1])
def test_imports_point_down(module: str, path: Path) -> None:
    assert violations(path.read_text(), module) == []


def test_no_two_files_import_one_another() -> None:
    assert circles({module.removesuffix(".__init__"): path.read_text() for module, path in modules()}) == []


@pytest.mark.parametrize(("module", "path"), [pair for pair in modules() if ".spectral." in pair[0]])
def test_the_core_needs_torch_alone(module: str, path: Path) -> None:
    tops = {imported.split(".")[0] for _, imported, _ in read_imports(path.read_text(), module)}
    assert tops - CORE_IMPORTS <= ({"triton"} if module == "fourierft.spectral.triton.kernels" else set())


def test_the_package_itself_loads_no_floor_and_names_all_late() -> None:
    source = (PACKAGE / "__init__.py").read_text()
    tree = ast.parse(source)
    eager = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    text = "\n".join(ast.unparse(node) for node in eager)
    assert {floor_of(*pair[1:]) for pair in read_imports(text, "fourierft.__init__")} == {None}
    every = {floor_of(*pair[1:]) for pair in read_imports(source, "fourierft.__init__")}
    assert every == {None, "spectral", "tuner", "store", "fleet"}
    assert {target.split(".")[1] for target in fourierft._LAZY.values()} == {"spectral", "tuner", "store", "fleet"}


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_what_is_free_for_all_stands_on_errors_and_the_standard_library(room: str) -> None:
    source = (PACKAGE / f"{room}.py").read_text()
    imported = {module for _, module, _ in read_imports(source, f"fourierft.{room}")}
    own = {"tqdm"} if room == "bars" else set()  # small, and needs nothing else
    assert imported - {"fourierft.errors"} <= sys.stdlib_module_names | {"collections.abc"} | own


def reaches_into_a_store(source: str) -> list[str]:
    """Where code has the tables of a store from outside of it, instead of asking the store."""
    inner = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute) and node.attr == "_tables"]
    return [ast.unparse(node) for node in inner if not (isinstance(node.value, ast.Name) and node.value.id == "self")]


@pytest.mark.parametrize("folder", ["src", "benchmarks", "experiments", "reproduction", "lab"])
def test_nobody_reaches_through_a_store_for_its_tables(folder: str) -> None:
    paths = sorted((PACKAGE.parents[1] / folder).rglob("*.py"))
    assert [(str(path), found) for path in paths if (found := reaches_into_a_store(path.read_text()))] == []


# The check itself


def test_reaching_through_a_store_is_found() -> None:
    assert reaches_into_a_store("def f(store):\n    return store._tables.rows('')") == ["store._tables"]
    assert reaches_into_a_store("def f(self):\n    return self.store._tables") == ["self.store._tables"]
    assert reaches_into_a_store("class A:\n    def f(self):\n        return self._tables.count()") == []


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


@pytest.mark.parametrize(
    "source",
    [
        "from house.floor.b import low",
        "from house.floor import b",
        "import house.floor.b",
        "from . import b",
        "from .b import low",
        "def late():\n    from house.floor.b import low",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.floor.b import low",
    ],
)
def test_files_that_import_one_another_are_found_also_through_others_hints_and_late_imports(source: str) -> None:
    sources = {
        "house": "",
        "house.floor": "",
        "house.floor.a": source,
        "house.floor.b": "from house.floor.c import x",
        "house.floor.c": "import house.floor.a",
        "house.floor.d": "from house.floor.a import y",
    }
    assert circles(sources) == [["house.floor.a", "house.floor.b", "house.floor.c"]]
    assert circles(sources | {"house.floor.c": "import torch"}) == []


def test_a_package_and_its_file_may_not_import_one_another() -> None:
    sources = {"house": "from house.file import x", "house.file": "from house import y"}
    assert circles(sources) == [["house", "house.file"]]
    assert circles(sources | {"house.file": "import torch"}) == []
