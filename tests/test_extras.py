"""Optional packages: every import of one is guarded, by the extra that brings it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import fourierft
from fourierft.errors import MissingExtraError
from fourierft.extras import EXTRAS, HOSTS, needs

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE = Path(fourierft.__file__).parent
OPTIONAL = {module for modules in EXTRAS.values() for module in modules}
FOR_TOOLS = {"tomli"}  # imported outside of the package, on Python 3.10


def guarded(
    node: ast.AST, extras: frozenset[str] = frozenset()
) -> Iterator[tuple[ast.Import | ast.ImportFrom, frozenset[str]]]:
    """Import statements that run, each with the extras whose guards it stands in."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.With):
        calls = [item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call)]
        names = [call.args[0] for call in calls if ast.unparse(call.func) == "needs"]
        extras |= {str(name.value) for name in names if isinstance(name, ast.Constant)}
    for told in node.handlers if isinstance(node, ast.Try) else ():
        if ast.unparse(told).startswith(f"except ImportError as {told.name}:\n    raise MissingExtraError("):
            extras |= EXTRAS.keys()  # told in a sentence of its own
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node, extras
    for child in ast.iter_child_nodes(node):
        yield from guarded(child, extras)


def unguarded(source: str) -> list[str]:
    """Imports of optional packages outside of a guard of an extra that brings them."""
    found = []
    for node, extras in guarded(ast.parse(source)):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        for top in (module.partition(".")[0] for module in modules):
            if top in OPTIONAL and not any(top in EXTRAS[extra] for extra in extras):
                found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_every_import_of_an_optional_package_is_guarded(path: Path) -> None:
    assert unguarded(path.read_text(encoding="utf-8")) == []


def test_the_table_has_what_the_extras_bring() -> None:
    project = tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {
        name: {Requirement(text).name for text in texts} for name, texts in project["optional-dependencies"].items()
    }
    del extras["dev"], extras["docs"], extras["all"]  # tools, which no module imports, and the others together
    assert {name: set(modules.values()) for name, modules in EXTRAS.items()} == {
        name: names - FOR_TOOLS for name, names in extras.items()
    }


def test_the_extra_of_all_names_every_other() -> None:
    project = tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (everything,) = map(Requirement, project["optional-dependencies"]["all"])
    assert (everything.name, everything.extras) == ("fourierft", EXTRAS.keys())


def test_releases_that_adapters_run_in_are_those_the_package_asks_for() -> None:
    project = tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {requirement.name: requirement.specifier for requirement in map(Requirement, project["dependencies"])}
    for package, ((major, minor), (end_major, end_minor)) in HOSTS.items():
        specifier = asked[package]
        assert specifier == SpecifierSet(f">={major}.{minor},<{end_major}.{end_minor}".removesuffix(".0"))
        assert f"{major}.{minor}.0" in specifier
        assert f"{end_major}.{end_minor}.0" not in specifier


@pytest.mark.parametrize(("extra", "module"), [(extra, module) for extra, names in EXTRAS.items() for module in names])
def test_a_package_that_is_missing_is_named_with_its_extra(
    extra: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    text = f"counting needs {EXTRAS[extra][module]}; pip install 'fourierft[{extra}]'"
    with pytest.raises(MissingExtraError) as error, needs(extra, "counting"):
        __import__(module)
    assert str(error.value) == text


def test_a_package_that_is_there_but_broken_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "halfway.py").write_text("import a_package_it_lacks")
    monkeypatch.syspath_prepend(tmp_path)
    with (
        pytest.raises(
            MissingExtraError, match=r"needs packages that cannot be imported here \(No module .*it_lacks'\)"
        ),
        needs("train", "counting"),
    ):
        __import__("halfway")
    with pytest.raises(MissingExtraError, match=r"cannot import name 'other'"), needs("train", "counting"):
        from math import other  # type: ignore[attr-defined]  # noqa: F401


def test_the_sentence_of_a_guard_inside_another_stays() -> None:
    with (
        pytest.raises(MissingExtraError, match=r"^inner needs packages .*nothing_there_at_all"),
        needs("chat", "outer"),
        needs("train", "inner"),
    ):
        import nothing_there_at_all  # noqa: F401


# The check itself


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import datasets", ["import datasets"]),
        ("def late():\n    from PIL import Image", ["from PIL import Image"]),
        ("with needs('chat', 'x'):\n    import datasets.config", ["import datasets.config"]),
        ("with needs('train', 'x'):\n    import datasets", []),
        ("with silent(), needs('diffusion', 'x'):\n    from PIL import Image", []),
        ("if TYPE_CHECKING:\n    import datasets", []),
        ("try:\n    import trl\nexcept ImportError as error:\n    raise MissingExtraError('x') from error", []),
        ("try:\n    import trl\nexcept ImportError as error:\n    raise OSError('x') from error", ["import trl"]),
        ("try:\n    import trl\nfinally:\n    pass", ["import trl"]),
        ("import torch, math", []),
    ],
)
def test_an_unguarded_import_is_found(source: str, expected: list[str]) -> None:
    assert unguarded(source) == expected
