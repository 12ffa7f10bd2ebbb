"""Pages: blocks in their order, tables, and marked places that are filled."""

from __future__ import annotations

from pathlib import Path

import pytest

from fourierft.errors import DataError
from lab.pages import fill_page, fill_places, write_page

PROSE = (
    "before\n<!-- begin one -->\nold\nlines\n<!-- end one -->\nbetween\n<!-- begin two -->\n<!-- end two -->\nafter\n"
)


def test_blocks_stand_an_empty_line_apart_and_empty_ones_nowhere(tmp_path: Path) -> None:
    page = write_page(tmp_path / "page.md", ["# Title\n", "", [("a",), ("1",)], "\nend."])
    assert page.read_text() == "# Title\n\n| a |\n|---|\n| 1 |\n\nend.\n"


def test_an_indented_block_keeps_its_indent(tmp_path: Path) -> None:
    assert write_page(tmp_path / "page.md", ["made by", "    a command\n"]).read_text() == "made by\n\n    a command\n"


def test_only_what_stands_in_a_place_changes() -> None:
    filled = fill_places(PROSE, {"one": lambda: "1\n2", "two": lambda: "3", "three": lambda: pytest.fail("not marked")})
    assert filled == (
        "before\n<!-- begin one -->\n1\n2\n<!-- end one -->\nbetween\n<!-- begin two -->\n3\n<!-- end two -->\nafter\n"
    )
    assert fill_places(filled, {"one": lambda: "1\n2", "two": lambda: "3"}) == filled


def test_a_place_that_nothing_fills_is_told_and_the_page_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PROSE)
    with pytest.raises(DataError, match="the page marks two; use one, three"):
        fill_page(page, {"one": lambda: "new", "three": lambda: ""})
    assert page.read_text() == PROSE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is not there; write a page with marked places first"),
        ("no place", "marks no place; put <!-- begin one --> and <!-- end one --> into it"),
    ],
)
def test_a_page_without_places_is_told(text: str | None, message: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    if text is not None:
        page.write_text(text)
    with pytest.raises(DataError, match=message):
        fill_page(page, {"one": lambda: ""})
