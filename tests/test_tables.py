"""Tables, sizes and names, as commands print them and pages have them."""

from __future__ import annotations

import pytest

from fourierft.tables import (
    align_columns,
    escape_controls,
    fit_columns,
    format_bytes,
    markdown_table,
    show_columns,
)


def test_names_stand_to_the_left_and_numbers_to_the_right() -> None:
    assert align_columns([("a", "12,000", "48.0 kB"), ("longer", "7", "9 B", "note")]) == (
        "a       12,000  48.0 kB\nlonger       7      9 B  note"
    )


def test_headings_are_ruled_off_and_columns_stand_below_them() -> None:
    assert align_columns([("a", "n"), ("long", "1,000")], headings=True) == "a         n\n-----------\nlong  1,000"
    assert align_columns([("a", "note"), ("b", "")], headings=True) == "a  note\n-------\nb"


def test_bars_in_cells_of_markdown_are_escaped() -> None:
    assert markdown_table([["a", "b"], ("1|2", "3")]) == "| a | b |\n|---|---|\n| 1\\|2 | 3 |"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (53048, "53.0 kB"), (9.1e7, "91.0 MB"), (5e9, "5.0 GB")],
)
def test_sizes_are_readable(size: float, text: str) -> None:
    assert format_bytes(size) == text


def test_a_name_stays_on_one_line() -> None:
    assert escape_controls("a\nb\x1b[0mé") == "a\\nb\\x1b[0mé"


WIDE = [("name", "first", "second"), ("a long name", "1", "2"), ("b", "3")]


def test_a_table_that_is_wider_than_the_terminal_goes_on_below() -> None:
    assert fit_columns(WIDE, 26, headings=True) == align_columns(WIDE, headings=True)
    narrow = "name         first\n------------------\na long name      1\nb                3"
    assert fit_columns(WIDE, 25, headings=True) == (
        f"{narrow}\n\nname         second\n-------------------\na long name       2\nb"
    )
    assert max(map(len, fit_columns(WIDE, 25, headings=True).splitlines())) <= 25


def test_a_terminal_that_is_too_narrow_for_two_columns_gets_them() -> None:
    assert fit_columns(WIDE, 5) == fit_columns(WIDE, 19)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_has_tables_of_its_width_and_a_file_whole_ones(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setenv("COLUMNS", "25")
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    assert show_columns(WIDE) == (fit_columns(WIDE, 25) if terminal else align_columns(WIDE))
