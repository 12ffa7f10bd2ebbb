"""Rows of json and jsonl files: a list of objects, or an object a line.

Words, numbers and truth values are text, as they are written; NaN, which JSON does not know but pandas writes, is a
missing cell.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

from fourierft.errors import DataError
from fourierft.training.cells import shorten

Row = dict[str, Any]

_TABLES = ({"columns", "index", "data"}, {"schema", "data"})  # as pandas writes them


class WrittenFloat(float):
    """A number that knows how it was written."""

    text: str


def read_objects(stream: TextIO, name: str) -> Iterator[tuple[int, Row]]:
    """The number of each row, from 1 on, and what it holds by column; in a file of lines that of the line.

    Args:
        stream: of text, from its beginning.
        name: of the file, for errors.

    Raises: DataError, if it is no list of objects and no lines of objects.
    """
    begin = stream.read(1)
    while begin.isspace():
        begin = stream.read(1)
    stream.seek(0)
    rows = enumerate([stream.read()], start=1) if begin == "[" else enumerate(stream, start=1)
    for line, text in rows:
        if not text.strip():
            continue
        try:
            found = _DECODER.decode(text.strip())
        except (ValueError, RecursionError) as error:
            where = "" if begin == "[" else f"line {line}: "
            raise DataError(
                f"{name} can't be read: {where}{error}; give a list of objects, or an object a line"
            ) from error
        if begin != "[":
            yield line, _check_row(found, line, name)
            continue
        for number, row in enumerate(found, start=1):
            yield number, _check_row(row, number, name)


def cell_text(value: Any, is_json: bool) -> str | None:
    """A cell as it is written, or as JSON."""
    if not is_json and (value is None or isinstance(value, str)):
        return value
    return value.text if isinstance(value, WrittenFloat) and not is_json else json.dumps(value, ensure_ascii=False)


def _check_row(row: Any, number: int, name: str) -> Row:
    if not isinstance(row, dict) or not row:
        raise DataError(
            f"row {number} of {name} is {shorten(row)}, not an object; give an object with one value for each column"
        )
    if all(isinstance(cell, dict) for cell in row.values()) or row.keys() in _TABLES:
        raise DataError(
            f"row {number} of {name} is a whole table, not one row; give a list of objects, or an object a line (in "
            'pandas: to_json(..., orient="records"))'
        )
    return row


def _read_number(text: str) -> WrittenFloat:
    number = WrittenFloat(text)
    number.text = text
    return number


def _read_constant(text: str) -> str | None:
    return None if text == "NaN" else text


def _read_pairs(pairs: list[tuple[str, Any]]) -> Row:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"an object has the key {next(key for key in keys if keys.count(key) > 1)} twice")
    return found


_DECODER = json.JSONDecoder(parse_float=_read_number, parse_constant=_read_constant, object_pairs_hook=_read_pairs)
