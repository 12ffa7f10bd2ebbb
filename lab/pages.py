"""Pages in Markdown: made of blocks, or prose with places that are filled."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fourierft.errors import DataError
from fourierft.files import write_text
from fourierft.tables import Table, markdown_table

PLACE = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)


def write_page(file: Path, blocks: Sequence[str | Table]) -> Path:
    """Write a page of texts and tables, an empty line between them; an empty block is left out. Returns the file."""
    parts = [block.strip("\n") if isinstance(block, str) else markdown_table(block) for block in blocks if block]
    write_text(file, "\n\n".join(parts) + "\n")
    return file


def fill_page(file: Path, places: Mapping[str, Callable[[], str]]) -> None:
    """Replace what stands in the marked places of a page, and nothing else: see `fill_places`.

    Raises: DataError, if there is no such page, it marks no place, or one that nothing fills.
    """
    if not file.is_file():
        raise DataError(f"{file} is not there; write a page with marked places first")
    text = file.read_text(encoding="utf-8")
    if not PLACE.search(text):
        name = next(iter(places))
        raise DataError(f"{file} marks no place; put <!-- begin {name} --> and <!-- end {name} --> into it")
    write_text(file, fill_places(text, places))


def fill_places(text: str, places: Mapping[str, Callable[[], str]]) -> str:
    """A text with its marked places filled, each from `<!-- begin NAME -->` to `<!-- end NAME -->`.

    Raises: DataError, if a place is marked that nothing fills.
    """
    unknown = sorted({name for _, name, _ in PLACE.findall(text)} - set(places))
    if unknown:
        raise DataError(f"the page marks {', '.join(unknown)}; use {', '.join(places)}")
    return PLACE.sub(lambda mark: f"{mark[1]}{places[mark[2]]()}\n{mark[3]}", text)
