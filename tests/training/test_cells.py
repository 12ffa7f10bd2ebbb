"""Cells as text, and the places of rows, which go with them wherever they go."""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
from datasets import Dataset, concatenate_datasets

from fourierft.training.cells import (
    NESTED,
    as_text,
    column_names,
    is_blank,
    mark_places,
    place_at,
    place_of,
    read_cell,
    row_numbers,
    shorten,
    source_of,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("NA", "NA"),
        ("", ""),
        (7, "7"),
        (True, "True"),
        (0.5, "0.5"),
        (Decimal("1.50"), "1.50"),
        (date(2020, 1, 31), "2020-01-31"),
        (datetime(2020, 1, 31, 12, 5), "2020-01-31 12:05:00"),
        (time(12, 5), "12:05:00"),
        (["a"], None),
        ({"a": 1}, None),
        (b"a", None),
        (None, None),
    ],
)
def test_one_word_number_or_date_is_text(value: Any, text: str | None) -> None:
    assert as_text(value) == text


def test_cells_of_json_are_read_and_missing_ones_are_none() -> None:
    assert read_cell({NESTED: '[{"a": 1.5}]'}) == [{"a": 1.5}]
    assert read_cell({NESTED: None}) is read_cell({NESTED: "null"}) is read_cell(float("nan")) is None
    assert read_cell({"a": 1}) == {"a": 1}
    cells: tuple[Any, ...] = (None, " ", "", r"\N", "a", r"\Na", 0, [])
    assert [is_blank(value) for value in cells] == [True] * 4 + [False] * 4
    assert shorten("a" * 99) == f"'{'a' * 59}..."


def test_rows_know_their_place_wherever_they_go() -> None:
    first, second = (mark_places(Dataset.from_dict({"text": list("abc")}), name) for name in ("a.csv", "b.csv"))
    rows = concatenate_datasets([first, second]).select([5, 0])
    assert [place_at(rows, 0), place_of(rows[1], 1)] == ["row 3 of b.csv", "row 1 of a.csv"]
    assert row_numbers(rows) == [3, 1]
    assert source_of(rows) == "b.csv"
    assert column_names(rows) == ["text"]


def test_rows_that_do_not_know_are_numbered() -> None:
    rows = Dataset.from_dict({"text": list("abc")})
    assert [place_at(rows, 2), place_of(rows[2], 2), source_of(rows)] == ["row 3", "row 3", "the data"]
    assert row_numbers(rows) == [1, 2, 3]
