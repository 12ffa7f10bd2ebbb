"""What stands in a cell of a data set, and where it stands.

A row knows its place: the columns PLACE name its file, or split, and its number there, from 1 on. They are no columns
of the data. A cell of a text file is text, as it is written; an object or a list of a JSON file is kept as its JSON, in
a dictionary of the one key NESTED. Cells of parquet files and of the hub have the types they were saved with.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset

FILE, ROW = PLACE = ("__file__", "__row__")
NESTED = "__json__"
_BATCH = 1000  # rows


def mark_places(rows: Dataset, source: str) -> Dataset:
    """Rows that know their place.

    Args:
        rows: of one file or split, in its order.
        source: names it.
    """
    return rows.add_column(FILE, [source] * len(rows)).add_column(ROW, list(range(1, len(rows) + 1)))


def column_names(rows: Dataset) -> list[str]:
    return [name for name in rows.column_names if name not in PLACE]


def source_of(rows: Dataset) -> str:
    """The file or split that rows come from."""
    return str(rows[FILE][0]) if FILE in rows.column_names and len(rows) else "the data"


def place_of(row: Mapping[str, Any], index: int) -> str:
    """Where a row stands, in words; if it does not know, its place in the order is `index`."""
    return f"row {row[ROW]} of {row[FILE]}" if ROW in row else f"row {index + 1}"


def place_at(rows: Dataset, index: int) -> str:
    """Where the row of an index stands, in words."""
    return place_of(rows.select_columns(list(PLACE))[index] if ROW in rows.column_names else {}, index)


def row_numbers(rows: Dataset) -> list[int]:
    """The number of each row in its file."""
    return rows[ROW][:] if ROW in rows.column_names else list(range(1, len(rows) + 1))


def read_column(rows: Dataset, column: str) -> Iterator[Any]:
    """The cells of a column, as of `read_cell`."""
    for begin in range(0, len(rows), _BATCH):  # cell by cell it takes a hundred times as long
        yield from map(read_cell, rows[column][begin : begin + _BATCH])


def iterate_rows(rows: Dataset) -> Iterator[dict[str, Any]]:
    """The rows, their cells as they are kept."""
    for batch in rows.iter(_BATCH):
        yield from (dict(zip(batch, cells, strict=True)) for cells in zip(*batch.values(), strict=True))


def read_cell(value: Any) -> Any:
    """A cell, its JSON as objects and lists; None, if it is missing."""
    if isinstance(value, dict) and value.keys() == {NESTED}:
        value = json.loads(value[NESTED] or "null")
    return None if isinstance(value, float) and math.isnan(value) else value


def is_blank(value: Any) -> bool:
    """Whether a cell is missing, has nothing but blanks, or is what databases write for one that is missing."""
    return value is None or (isinstance(value, str) and value.strip() in ("", r"\N"))


def as_text(value: Any) -> str | None:
    """The text of a cell that holds a word, a number, a date or a truth value; None, if it holds something else."""
    if isinstance(value, datetime):
        return value.isoformat(" ")
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value) if isinstance(value, str | bool | int | float | Decimal) else None


def shorten(value: Any) -> str:
    """The beginning of a value, in quotes if it is text."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
