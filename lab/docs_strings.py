"""Lets the site's reference print "Returns:" and "Raises:" of docstrings as the sentences that they are.

mkdocstrings reads a list of `name: text` below these words; the docstrings of this package have sentences there.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

SECTION = re.compile(r"^(Returns|Raises|Semantics): *\n?((?:.+(?:\n(?!(?:Args|Returns|Raises):).+)*)?)", re.MULTILINE)


class Sentences(griffe.Extension):
    """Named under `extensions` in mkdocs.yml."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring:
            obj.docstring.value = SECTION.sub(as_sentences, obj.docstring.value)


def as_sentences(section: re.Match[str]) -> str:
    """One paragraph, its title in bold."""
    return f"**{section[1]}:** {' '.join(section[2].split())}"
