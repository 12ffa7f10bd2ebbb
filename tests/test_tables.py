"""Tables, sizes and names, as commands print them and pages have them."""

from __future__ import annotations

import pytest

from fourierft.tables import align_columns, escape_controls, format_bytes, markdown_table


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
