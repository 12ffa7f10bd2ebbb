"""The columns that are asked for, and what they hold, checked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fourierft.errors import DataError
from fourierft.training.cells import as_text, column_names, is_blank, place_at, read_column, shorten, source_of

if TYPE_CHECKING:
    from datasets import Dataset

WORDS = "train labels of words with --task token_classification, or join the words to a text with one label"
HIDDEN = -1  # class number of a row whose label is kept secret
_LIST = re.compile(r"""\[\s*(['"].*['"]|[-+\d\s.,e]*)\s*\]""", re.DOTALL)  # as csv has it of Python, numpy or JSON


@dataclass(frozen=True)
class Columns:
    """Where a row keeps what the model is given (a text, a pair, a prompt, an image) and what it is to say."""

    inputs: tuple[str, ...]
    label: str


def require_columns(rows: Dataset, names: Iterable[str]) -> None:
    """Raise DataError, naming the columns there are, if one of `names` is missing."""
    for name in names:
        if name not in column_names(rows):
            raise DataError(f"there is no column {name}; the data has the columns {', '.join(column_names(rows))}")


def find_column(rows: Dataset, wanted: str | None, usual: Iterable[str], what: str) -> str:
    """The column named, or else the first of the usual names.

    Args:
        what: the setting that names it, without `_column`.

    Raises: DataError, if none is there.
    """
    require_columns(rows, [wanted] if wanted else [])
    column = wanted or next((name for name in usual if name in rows.column_names), None)
    if column is None:
        found = ", ".join(column_names(rows))
        raise DataError(f"no column looks like the {what} among {found}; name it with --{what}_column")
    return column


def check_columns(rows: Dataset, columns: Columns) -> None:
    """Raise DataError if `rows` lack a column."""
    for column in (*columns.inputs, columns.label):
        if column not in column_names(rows):
            raise DataError(f"{source_of(rows)} has no column {column}, only {', '.join(column_names(rows))}")


def check_filled(rows: Dataset, names: Iterable[str]) -> None:
    """Raise DataError if a cell of a column is empty."""
    for column in names:
        empty = [index for index, value in enumerate(read_column(rows, column)) if is_blank(value)]
        if empty:
            raise DataError(
                f"column {column} is empty in {len(empty)} of {len(rows)} rows, first in {place_at(rows, empty[0])}; "
                "fill or remove them"
            )


def check_texts(rows: Dataset, names: Iterable[str], setting: str) -> None:
    """Raise DataError if a cell of a column holds something else than one text; an empty one may."""
    for column in names:
        for index, value in enumerate(read_column(rows, column)):
            if value is None or as_text(value) is not None:
                continue
            where = f"column {column} holds {shorten(value)} in {place_at(rows, index)}"
            if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
                raise DataError(f"{where}, a list of words; {WORDS}, or name another --{setting}")
            raise DataError(f"{where}, not text; name another --{setting}")


def check_labels(rows: Dataset, column: str) -> None:
    """Raise DataError if a cell of the column of labels is empty, or holds more than one."""
    check_filled(rows, [column])
    for index, value in enumerate(read_column(rows, column)):
        if as_text(value) is None or (isinstance(value, str) and _LIST.fullmatch(value.strip())):
            what = "a list of labels" if isinstance(value, list | str) else "no label"
            raise DataError(
                f"column {column} holds {shorten(value)} in {place_at(rows, index)}, {what}; "
                "for several labels a row give --task multi_label_classification, for labels "
                "of words --task token_classification; otherwise give one label a row, "
                "or name another --label_column"
            )


def label_values(rows: Dataset, column: str) -> list[Any]:
    """The labels of all rows, class numbers of the data set replaced by their names.

    Raises: DataError, if a class number is negative; datasets refuses those that are too large.
    """
    names = declared_labels(rows, column)
    if not names:
        return list(read_column(rows, column))
    numbers = rows[column][:]
    hidden = [index for index, number in enumerate(numbers) if min(_flat(number), default=0) < 0]
    if hidden:
        raise DataError(
            f"column {column} is {numbers[hidden[0]]} in {len(hidden)} of {len(rows)} "
            f"rows, first in {place_at(rows, hidden[0])}; benchmarks hide their "
            "labels like this; choose a split with labels, or leave these rows out"
        )
    return [[names[k] for k in number] if isinstance(number, list) else names[number] for number in numbers]


def declared_labels(rows: Dataset, column: str) -> list[str]:
    """The classes that the data set itself names for a column, in its order; none if it names none."""
    return named_classes(rows.features[column])


def named_classes(feature: Any) -> list[str]:
    """The classes that a feature of `datasets` names, or, of lists, that which they are lists of."""
    return list(getattr(getattr(feature, "feature", feature), "names", None) or [])


def hides_labels(rows: Dataset, column: str) -> bool:
    """Whether the labels of all rows are hidden, as those of a benchmark's test split are."""
    return bool(
        column in rows.column_names
        and declared_labels(rows, column)
        and all(value == HIDDEN for value in rows[column][:])
    )


def _flat(value: Any) -> list[int]:
    return value if isinstance(value, list) else [value]
