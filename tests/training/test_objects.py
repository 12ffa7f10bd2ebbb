"""json and jsonl files: words, numbers and truth values as they are written, objects and lists as they are."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from fourierft.errors import DataError
from fourierft.training.objects import cell_text, read_objects


def read(text: str) -> list[tuple[int, dict[str, Any]]]:
    found = read_objects(io.StringIO(text), "a.json")
    return [(number, {name: cell_text(cell, isinstance(cell, dict | list)) for name, cell in row.items()})
            for number, row in found]  # fmt: skip


def test_cells_are_as_they_are_written() -> None:
    cells = {"a": "001", "b": 1, "c": "1.50", "d": True, "e": None, "f": "2020-01-31", "g": 10**30, "h": "null"}
    line = json.dumps(cells).replace('"1.50"', "1.50")
    expected = {"a": "001", "b": "1", "c": "1.50", "d": "true", "e": None, "f": "2020-01-31", "g": "1" + "0" * 30,
                "h": "null"}  # fmt: skip
    assert read(line) == [(1, expected)]
    assert read('{"a": 1e1, "b": -0.0, "c": NaN, "d": false}') == [
        (1, {"a": "1e1", "b": "-0.0", "c": None, "d": "false"})
    ]


def test_objects_and_lists_keep_their_numbers() -> None:
    call = {"name": "weather", "arguments": {"latitude": 52.520006599999995, "days": 3, "id": 2**70, "note": None}}
    ((_, row),) = read(json.dumps({"messages": [{"content": "a\u2028b 😀", "tool_calls": [call]}]}))
    assert json.loads(row["messages"]) == [{"content": "a\u2028b 😀", "tool_calls": [call]}]


def test_a_row_of_lines_has_the_number_of_its_line() -> None:
    assert read('{"a": "x"}\n\n \n{"a": "y"}') == [(1, {"a": "x"}), (4, {"a": "y"})]
    assert read(' [\n{"a": "x"},\n\n{"a": "y"}]\n') == [(1, {"a": "x"}), (2, {"a": "y"})]
    assert read("") == read("[]") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"a": "x"}\n{"a": ',
            "a.json can't be read: line 2: Expecting value.*; give a list of objects, or an object a",
        ),
        ('{\n "a": "x"\n}', "a.json can't be read: line 1: Expecting property name"),
        ('[{"a": "x"}', "a.json can't be read: Expecting ',' delimiter"),
        ('{"a": "x", "a": "y"}', "line 1: an object has the key a twice"),
        ('{"a": "x"}\n["b"]', r"row 2 of a.json is \['b'\], not an object"),
        ('["x"]', "row 1 of a.json is 'x', not an object"),
        (
            '{"text": {"0": "x"}, "label": {"0": "y"}}',
            r"row 1 of a.json is a whole table, .*orient=\"records\"\)",
        ),
        ('{"columns": ["a"], "index": [0], "data": [["x"]]}', "is a whole table, not one row"),
        ('{"schema": {}, "data": []}', "is a whole table, not one row"),
        ("[" * 100_000, "a.json can't be read"),
    ],
)
def test_what_is_no_row_is_told_with_its_number(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(text)
