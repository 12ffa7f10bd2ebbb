"""csv and tsv files as spreadsheets and programs write them: every cell as it stands there."""

from __future__ import annotations

import csv
import io

import pytest

from fourierft.errors import DataError
from fourierft.training.delimited import DelimitedFile, find_separator


def read(text: str, separator: str | None = None) -> tuple[list[str], list[tuple[int, list[str]]]]:
    file = DelimitedFile(io.StringIO(text, newline=""), "a.csv", separator)
    return file.names, list(file.rows())


@pytest.mark.parametrize(
    ("text", "names", "rows"),
    [
        ("text,label\nfine,001\nbad,1e1\n", ["text", "label"], [["fine", "001"], ["bad", "1e1"]]),
        ("text,label\nNA,null\nNone,\n", ["text", "label"], [["NA", "null"], ["None", ""]]),
        ('text;label\r\n"a; b";0,5\r\n', ["text", "label"], [["a; b", "0,5"]]),
        ("text\tlabel\na, b; c\tx\n", ["text", "label"], [["a, b; c", "x"]]),
        ("sep=;\r\ntext;label\r\na,b;x\r\n", ["text", "label"], [["a,b", "x"]]),
        (" text , label \n a , x \n", ["text", "label"], [[" a ", " x "]]),
        ('text,label\n"say ""hi"", twice","two\nlines"\n', ["text", "label"], [['say "hi", twice', "two\nlines"]]),
        ("text,label,,\na,x,,\n", ["text", "label"], [["a", "x"]]),
        ("text,label\na,x,,\n", ["text", "label"], [["a", "x"]]),
        ("text,label,more\na,x\n", ["text", "label", "more"], [["a", "x", ""]]),
        (",text,label\n0,a,x\n1,b,y\n", ["text", "label"], [["a", "x"], ["b", "y"]]),
        ("text\rone\rtwo\r", ["text"], [["one"], ["two"]]),
        (f"text,label\n{'long ' * 40_000},x\n", ["text", "label"], [["long " * 40_000, "x"]]),
    ],
)
def test_cells_are_as_they_are_written(text: str, names: list[str], rows: list[list[str]]) -> None:
    assert read(text) == (names, [(number, row) for number, row in enumerate(rows, start=1)])


def test_rows_without_a_cell_are_skipped_and_counted() -> None:
    assert read("\n,\ntext,label\na,x\n\n,,\n ; \nb,y\n")[1][-1] == (5, ["b", "y"])
    assert [number for number, _ in read("text,label\na,x\n\n,\nb,y\n")[1]] == [1, 4]


def test_what_the_csv_module_writes_is_read_back() -> None:
    cells = ["a,b", 'a "quote"', "line\r\nbreak", ";\t", " blanks ", "", "'", "\\"]
    for separator in (",", ";", "\t"):
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=separator).writerows([["x", "y"], *([cell, "y"] for cell in cells)])
        assert [row for _, row in read(text.getvalue())[1]] == [[cell, "y"] for cell in cells]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text,label\na,x\nb, c,y\n", "row 2 of a.csv has 3 cells, but there are 2 columns; put cells that hold"),
        ("text,label,text\n", "a.csv has two columns named text; rename one of them"),
        ("text, text \n", "a.csv has two columns named text"),
        ('text,label\n"He" said,x\n', "a.csv can't be read: line 2: .*; put cells that hold a separator"),
        ('text,label\n"He said,x\na,y\n', "a.csv can't be read: line 3: unexpected end of data"),
        ("\n\n", "data file a.csv is empty; it needs a line of column names"),
    ],
)
def test_what_does_not_fit_is_told_with_its_row(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(text)


def test_the_separator_is_what_divides_the_names() -> None:
    assert [find_separator(line) for line in ("a,b", "a;b", "a\tb", "a|b", "a", '"a;b",c', "a;b;c,d")] == list(
        ",;\t|,,;"
    )
    assert read("a;b\nx,y\n", "\t")[0] == ["a;b"]
