"""The laboratory's floors: ledger and pages below its rooms, which don't know each other; the package knows none."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fourierft
from lab.folders import ROOT

LAB = ROOT / "lab"
ROOMS = ("bench", "paper", "trials", "upstream")
SHARED = ("docs_site", "docs_strings", "folders", "ledger", "pages")  # may not import a room


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever it does, and the names it takes from them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str | None:
    """The room of the laboratory that a module is in; None if it is none of a room."""
    top, _, rest = module.partition(".")
    room = rest.partition(".")[0]
    return room if top == "lab" and room in ROOMS else None


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def test_the_laboratory_is_its_rooms_and_what_they_share() -> None:
    assert {path.name for path in LAB.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(ROOMS)
    assert {path.stem for path in LAB.glob("*.py")} == {"__init__", "__main__", *SHARED}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_no_other(room: str) -> None:
    found = {(path.name, name) for path in files(LAB / room) for name in imports(path)}
    assert {(path, name) for path, name in found if room_of(name) not in (None, room)} == set()
    assert {(path, name) for path, name in found if name.startswith(".")} == set()  # which the check would pass over


@pytest.mark.parametrize("name", SHARED)
def test_what_rooms_share_imports_none(name: str) -> None:
    assert {module for module in imports(LAB / f"{name}.py") if room_of(module)} == set()


def test_the_package_imports_nothing_of_the_laboratory() -> None:
    package = Path(fourierft.__file__).parent
    assert {
        (path.name, name) for path in files(package) for name in imports(path) if name.partition(".")[0] == "lab"
    } == set()


def test_every_room_imports_the_package() -> None:  # the check sees imports at all
    for room in {*ROOMS} - {"upstream"}:  # which is about others
        assert any(name.startswith("fourierft.") for path in files(LAB / room) for name in imports(path))
