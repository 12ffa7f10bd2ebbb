"""Rows of csv and tsv files, every cell as it is written.

Separators are commas, semicolons (as spreadsheets write where numbers have a decimal comma), tabs or bars. Cells may be
quoted, a quote in one is doubled (RFC 4180). Rows without any cell are skipped, and so are columns without a name, such
as the index that pandas writes.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import chain
from typing import TextIO

from fourierft.errors import DataError

SEPARATORS = (",", ";", "\t", "|")
_LONGEST_CELL = 2**31 - 1  # characters; the csv module's own limit is shorter than a long text


class DelimitedFile:
    """The columns and rows of a csv or tsv file.

    Args:
        stream: of text, from its beginning, opened with newline="".
        name: of the file, for errors.
        separator: None finds it out from the first line.

    Attributes:
        names: of the columns, without surrounding blanks.

    Raises: DataError, if no column has a name, or two have the same.
    """

    def __init__(self, stream: TextIO, name: str, separator: str | None = None) -> None:
        self._name = name
        first = stream.readline()
        if first.lower().startswith("sep=") and len(first.rstrip("\r\n")) == 5:  # a line for Excel alone
            separator, first = first[4], stream.readline()
        csv.field_size_limit(_LONGEST_CELL)
        lines = chain([first], stream)
        self._reader = csv.reader(lines, delimiter=separator or find_separator(first), strict=True)
        self._header = [cell.strip() for cell in next(filter(any, self._records()), [])]
        self.names = [cell for cell in self._header if cell]
        if not self.names:
            raise DataError(f"data file {name} is empty; it needs a line of column names and at least one row")
        twice = next((cell for cell in self.names if self.names.count(cell) > 1), None)
        if twice is not None:
            raise DataError(f"{name} has two columns named {twice}; rename one of them")

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """The number of each row, from 1 on, those without a cell counted, and its cells, one for each name.

        Raises: DataError, if a row has more cells than there are columns, or quotes do not match.
        """
        width, named = len(self._header), [place for place, name in enumerate(self._header) if name]
        for number, record in enumerate(self._records(), start=1):
            if len(record) != width:
                if any(record[width:]):
                    raise DataError(
                        f"row {number} of {self._name} has {len(record)} cells, but there are {width} columns; "
                        "put cells that hold a separator into quotes, and name every column in the first line"
                    )
                record = [*record, *[""] * width][:width]
            if record[0].strip() or any(cell.strip() for cell in record):
                yield number, record if len(named) == width else [record[place] for place in named]

    def _records(self) -> Iterator[list[str]]:
        try:
            yield from self._reader
        except csv.Error as error:
            raise DataError(
                f"{self._name} can't be read: line {self._reader.line_num}: {error}; put cells that hold a "
                'separator, a line break or a quote into quotes, and double the quotes in them ("")'
            ) from error


def find_separator(line: str) -> str:
    """The separator that divides the first line of a file into the most cells; a comma, if none does."""
    counts = {mark: len(next(csv.reader([line], delimiter=mark), [])) for mark in SEPARATORS}
    return max(SEPARATORS, key=lambda mark: counts[mark])
