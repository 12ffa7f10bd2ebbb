"""Every command on a page, and every example of a help text, is there: its parser takes it, its target or extra exists.

This stands for running it where a test can't: servers, GPUs, downloads, other tools. Commands of other tools are run by
tests/integrations, each in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from fourierft.cli.main import COMMANDS, build_parser
from lab.__main__ import COMMANDS as LAB_COMMANDS
from lab.__main__ import ROOMS

from .blocks import PAGES, ROOT, commands_of, read_blocks

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
TOOLS = {"swift", "llamafactory-cli", "lm_eval", "accelerate", "axolotl", ".venv/bin/pre-commit"}
OTHERS = TOOLS | {"git", "cd", "echo", "export"}
PAPER = re.compile(r"table\d+|fig\d+|pages")
LANGUAGES = {"python", "sh", "text", "json", "yaml", "toml", "bibtex"}


def commands(page: Path) -> Iterator[list[str]]:
    for block in read_blocks(page):
        assert block.language in LANGUAGES, f"line {block.line}: name the language of this block"
        if block.language == "sh":
            for words in commands_of(block):
                joined = " ".join(words).split(" && ")
                yield from ([words] if len(joined) == 1 else [part.split() for part in joined])


def check(words: list[str]) -> None:
    """Raise if this can't be a command."""
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    program = words[0].rpartition("/")[2]
    if program == "fourierft":
        assert words[1] in COMMANDS, f"{words[1]} is no command"
        try:
            build_parser(words[1:]).parse_args(words[1:])
        except SystemExit as ended:
            raise AssertionError(f"{' '.join(words)}: wrong arguments") from ended
    elif program == "make":
        assert set(words[1:]) <= TARGETS | {word for word in words if "=" in word}, f"{words}: no such target"
    elif program == "pip":
        found = [match[1] for word in words if (match := re.match(r"(?:\.|fourierft)\[(.*)\]", word))]
        asked = {name for names in found for name in names.split(",")}
        assert asked <= EXTRAS.keys(), f"{asked - EXTRAS.keys()}: no such extra"
    elif words[:3] == ["python", "-m", "lab"]:
        assert words[3] in ROOMS
        name = next(iter(words[4:5]), "-")
        suites = {file.stem for file in (ROOT / "lab/bench/suites").glob("*.py")} if words[3] == "bench" else set()
        assert name.startswith("-") or name in LAB_COMMANDS[words[3]].keys() | suites or PAPER.fullmatch(name), name
    elif program == "curl":
        json.loads(words[words.index("-d") + 1])
    else:
        assert program == "python" or words[0] in OTHERS, f"{words[0]}: unknown program"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_are_there(page: Path) -> None:
    for words in commands(page):
        check(words)


def parsers(parser: argparse.ArgumentParser, *words: str) -> Iterator[tuple[list[str], argparse.ArgumentParser]]:
    """A command's parser and those of its actions, each with the words that call it."""
    yield ["fourierft", *words], parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from parsers(child, *words, name)


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_of_a_help_text_are_commands(command: str) -> None:
    commands = build_parser([command])._subparsers
    assert commands is not None
    [action] = commands._group_actions
    found = list(parsers(cast("dict[str, argparse.ArgumentParser]", action.choices)[command], command))
    examples = []
    for _, parser in found:
        for line in re.sub(r"\\\n\s*", " ", parser.description or "").splitlines():
            if line.startswith("  fourierft "):
                example = re.split(r" {3,}| \| ", line.strip())[0]  # what it does may stand behind it, or a pipe
                examples.append(shlex.split(example, comments=True))
    assert examples
    actions = [words for words, _ in found[1:]]  # which a list has without arguments
    for words in examples:
        if words not in actions:
            check(words)


@pytest.mark.parametrize(
    "text",
    ["fourierft merge", "fourierft fly", "make nothing", "pip install 'fourierft[none]'", "curl x -d '{'", "unknown x"],
)
def test_a_command_that_is_not_there_is_found(text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"```sh\n{text}\n```\n")
    with pytest.raises((AssertionError, ValueError)):
        check(next(commands(page)))
