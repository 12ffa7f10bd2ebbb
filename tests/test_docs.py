"""Pages say what is there: links lead somewhere, examples name what the package has, commands are understood."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest

from fourierft.cli.main import build_parser

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?: {4}|# )?fourierft (train (?:.*\\\n)*.*)", re.MULTILINE)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The names that links may use behind a #, made of headings as code hosts make them."""
    headings = HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    broken = []
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_inside_the_project_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_import_what_is_there(page: Path) -> None:
    for example in EXAMPLE.findall(page.read_text(encoding="utf-8")):
        for node in ast.walk(ast.parse(example)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("fourierft"):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "fourierft":
                assert hasattr(importlib.import_module("fourierft"), node.attr)


@pytest.mark.parametrize("pages", [PAGES, sorted(ROOT.glob("recipes/**/*.yaml"))], ids=["pages", "recipes"])
def test_commands_that_train_are_understood_and_name_recipes_that_are_there(pages: list[Path]) -> None:
    commands = [command for page in pages for command in COMMAND.findall(page.read_text(encoding="utf-8"))]
    assert len(commands) > 5
    parser = build_parser(["train"])
    for command in commands:
        given = parser.parse_args(shlex.split(command.replace("\\\n", " "), comments=True))
        recipe = str(getattr(given, "config", None) or "")
        assert not recipe.startswith("recipes/") or (ROOT / recipe).is_file()


def test_a_link_to_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A heading\n[a](gone.md) ![b](gone.png) [c](#a-heading) [d](#none) [e](https://x.org) [f](page.md)\n"
    )
    assert broken_links(page) == ["gone.md", "gone.png", "#none"]
