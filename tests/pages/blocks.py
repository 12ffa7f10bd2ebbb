"""The code blocks of a page, and the commands of those that are for a shell."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")])
FENCED = re.compile(r'^```(\w*)(?: title="([^"\n]+)")?[^\n]*\n(.*?)^```', re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str  # what stands behind the fence
    title: str | None  # of a file that the reader makes of it
    code: str
    line: int  # of the first line of code, from 1 on


def read_blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[1], found[2], found[3], text.count("\n", 0, found.start()) + 2) for found in FENCED.finditer(text)
    ]


def commands_of(block: Block) -> list[list[str]]:
    """The words of each command of a shell block; comments are left out, lines that end in a backslash go on."""
    lines = re.sub(r"\\\n\s*", " ", block.code).splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]
