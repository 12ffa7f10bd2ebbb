"""What users call says what it is: names of the public rooms, methods and properties of their classes, parameters."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import fourierft

ROOMS = ("fourierft", "spectral", "tuner", "store", "fleet", "training.families")


def members() -> Iterator[tuple[str, Any]]:
    """Path -> function or class of a public room, or method or property that such a class has of its own."""
    for room in ROOMS:
        module = import_module("fourierft" if room == "fourierft" else f"fourierft.{room}")
        for name in module.__all__:
            found = getattr(module, name)
            if inspect.isclass(found) or inspect.isfunction(found):
                yield f"{room}.{name}", found
            for own in vars(found) if inspect.isclass(found) else ():
                value = inspect.getattr_static(found, own)
                if not own.startswith("_") and isinstance(value, (property, classmethod, staticmethod, type(members))):
                    yield f"{room}.{name}.{own}", getattr(value, "__func__", value)


FOUND = dict(members())
SEVERAL = {  # parameters, which a first line seldom explains
    path: names
    for path, found in FOUND.items()
    if path.startswith(("fourierft.", "store."))
    and (inspect.isfunction(found) or (inspect.isclass(found) and not path.endswith("Config")))  # PEFT's, said there
    and len(names := [name for name in inspect.signature(found).parameters if name not in ("self", "cls")]) > 1
}


def test_the_public_surface_is_found() -> None:
    assert {"fourierft.spectral_linear", "fourierft.AdapterStore.add", "store.StoreStats.to_dict"} <= FOUND.keys()
    assert len(FOUND) > 100
    assert len(SEVERAL) > 20


@pytest.mark.parametrize("path", sorted(FOUND))
def test_a_public_name_says_what_it_is(path: str) -> None:
    assert len((inspect.getdoc(FOUND[path]) or "").split()) > 2


@pytest.mark.parametrize("path", sorted(SEVERAL))
def test_several_parameters_are_all_named(path: str) -> None:
    text = inspect.getdoc(FOUND[path]) or ""
    assert not [name for name in SEVERAL[path] if not re.search(rf"\b{name}\b", text)]


def test_a_text_that_stands_alone_is_a_sentence_and_no_end_of_another() -> None:
    """A message of two lines without parentheses loses the second, which nothing else tells."""
    package = Path(fourierft.__file__).parent
    alone = [
        (path.name, statement.value.value)
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        for statement in node.body
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if isinstance(statement.value.value, str)
    ]
    assert len(alone) > 1000
    assert not [(name, text) for name, text in alone if "\n" not in text and not text.endswith((".", ":", "?"))]
