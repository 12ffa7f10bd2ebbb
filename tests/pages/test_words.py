"""Plain English: subject, verb, short; words that hide who does what are kept out of pages, code and help texts."""

from __future__ import annotations

import re

import pytest

from .blocks import ROOT

BANNED = re.compile(r"\bwhoever\b|\b(?:is|are) said\b|\b(?:measured|counted) and said\b|\bby itself\b", re.IGNORECASE)
KINDS = {".md", ".py", ".js", ".html", ".css", ".yaml", ".yml", ".toml", ".c", ""}
ROOMS = ("docs", "src", "lab", "recipes")
ALONE = ("README.md", "CONTRIBUTING.md", "Makefile", "mkdocs.yml", "pyproject.toml")


def found_in(text: str) -> list[str]:
    """The banned words of a text, in lower case, line breaks as blanks."""
    return [" ".join(word.lower().split()) for word in BANNED.findall(re.sub(r"\s+(?:# )?", " ", text))]


@pytest.mark.parametrize("room", [*ROOMS, *ALONE])
def test_pages_and_code_say_who_does_what(room: str) -> None:
    files = [ROOT / room] if room in ALONE else [file for file in (ROOT / room).rglob("*") if file.suffix in KINDS]
    found = {
        str(file.relative_to(ROOT)): words
        for file in files
        if file.is_file() and "__pycache__" not in file.parts and (words := found_in(file.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_a_banned_word_is_found_over_two_lines() -> None:
    assert found_in("What is lost is\nsaid. Whoever asks, and `said`.") == ["is said", "whoever"]
    assert found_in("# what is\n    # said") == ["is said"]
