"""Rows and labels from files or the hub, checked before anything is trained on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fourierft.errors import DataError, MissingExtraError
from fourierft.extras import needs
from fourierft.format.hub import offline_if_unreachable
from fourierft.training.arguments import DataArguments
from fourierft.training.pictures import check_choice, is_image, skip_unreadable

if TYPE_CHECKING:
    from datasets import Dataset

FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".csv": ("csv", {}),
    ".tsv": ("csv", {"sep": "\t"}),
    ".json": ("json", {}),
    ".jsonl": ("json", {}),
    ".parquet": ("parquet", {}),
}
HIDDEN = -1  # class number of a row whose label is kept secret


@dataclass(frozen=True)
class Columns:
    """Where a row keeps what the model is given (a text, a pair, a prompt, an image) and what it is to say."""

    inputs: tuple[str, ...]
    label: str


def load_splits(data: DataArguments, seed: int) -> dict[str, Dataset]:
    """The rows to train on, and those to evaluate and to test on if there are any.

    Args:
        data: names a hub data set, or files, or a data set with some splits replaced by files.
        seed: draws the validation rows out of the training rows, and the samples of `max_train_samples`.

    Returns: `train`, and `validation` and `test` where they exist.

    Raises: DataError, if data is missing, empty, unreadable or of an unknown format.
    """
    splits = {}
    for name, file in (("train", data.train_file), ("validation", data.validation_file), ("test", data.test_file)):
        if file:
            splits[name] = read_file(file)
    if data.dataset_name:
        stored = _load_stored(data.dataset_name, data.dataset_config_name)
        for name in ("train", "validation", "test"):
            wanted = getattr(data, f"{name}_split_name")
            if name not in splits and wanted in stored:
                splits[name] = stored[wanted]
        if "train" not in splits:
            raise DataError(
                f"{data.dataset_name} has no split {data.train_split_name}, only {', '.join(stored)}; "
                "name one with --train_split_name"
            )
    if "train" not in splits:
        raise DataError("there is nothing to train on; give --train_file FILE or --dataset_name DATASET")
    _check_not_empty(splits["train"], "the training data")
    splits = {name: _readable(rows, data, name) for name, rows in splits.items()}
    if "validation" not in splits and data.validation_fraction > 0:
        splits["train"], splits["validation"] = _divide(splits["train"], data.validation_fraction, seed)
    limits = {"train": data.max_train_samples, "validation": data.max_eval_samples, "test": data.max_eval_samples}
    return {name: _sample(rows, limits[name], seed) for name, rows in splits.items()}


def load_test(data: DataArguments, seed: int) -> Dataset:
    """The rows of `test_file`, or of a data set's test split, to evaluate on.

    Raises: DataError, as `load_splits`.
    """
    if data.test_file:
        rows = read_file(data.test_file)
    elif data.dataset_name:
        stored = _load_stored(data.dataset_name, data.dataset_config_name)
        if data.test_split_name not in stored:
            raise DataError(
                f"{data.dataset_name} has no split {data.test_split_name}, only {', '.join(stored)}; "
                "name one with --test_split_name"
            )
        rows = stored[data.test_split_name]
    else:
        raise DataError("there is nothing to evaluate on; give --test_file FILE or --dataset_name DATASET")
    return _sample(_readable(rows, data, "test"), data.max_eval_samples, seed)


def _readable(rows: Dataset, data: DataArguments, name: str) -> Dataset:
    check_choice(data.unreadable_images)
    return skip_unreadable(rows, name) if data.unreadable_images == "skip" else rows


def read_file(path: str | Path) -> Dataset:
    """The rows of a csv, tsv, json, jsonl or parquet file.

    Raises: DataError, if the file is missing, empty, of another format, or can't be parsed.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise DataError(f"{path} is of unknown format {path.suffix or '(no suffix)'}; use one of {', '.join(FORMATS)}")
    if not path.is_file():
        raise DataError(f"data file {path} does not exist; check the path")
    if path.stat().st_size == 0:
        raise DataError(f"data file {path} is empty; give one with at least one row")
    builder, options = FORMATS[path.suffix.lower()]
    rows = _load(str(path), lambda load: load(builder, data_files=str(path), split="train", **options))
    _check_not_empty(rows, str(path))
    return rows


def hide_progress() -> None:
    """Have datasets, where it is installed, draw no progress bars."""
    with suppress(MissingExtraError), needs("train", "reading data"):
        import datasets

        datasets.disable_progress_bars()


def _load_stored(name: str, configuration: str | None) -> dict[str, Dataset]:
    with offline_if_unreachable(name):
        return _load(f"data set {name}", lambda load: load(name, configuration))


def _load(name: str, read: Callable[[Callable[..., Any]], Any]) -> Any:
    with needs("train", "reading data"):
        import datasets
    try:
        return read(datasets.load_dataset)
    except (datasets.exceptions.DatasetsError, ValueError, OSError, RuntimeError) as error:
        cause = error.__cause__ or error
        reason = " ".join(str(cause).split()).rstrip(".") or type(cause).__name__
        if "corresponds to no data" in reason:  # what datasets says of a file that is a header and nothing else
            raise DataError(f"{name} has no rows; give at least one") from error
        raise DataError(f"{name} can't be read: {reason}") from error


def _check_not_empty(rows: Dataset, name: str) -> None:
    if len(rows) == 0:
        raise DataError(f"{name} has no rows; give at least one")


def _divide(rows: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    if not 0 < fraction < 1:
        raise DataError(f"validation_fraction={fraction} is not between 0 and 1; use 0.1 for a tenth")
    if len(rows) < 2:
        raise DataError("one row can't be divided into training and validation data; give more, or --validation_file")
    parts = rows.train_test_split(test_size=max(1, round(fraction * len(rows))), seed=seed)
    return parts["train"], parts["test"]


def divide_count(counts: dict[str, int], data: DataArguments) -> dict[str, int]:
    """The number of rows by split that `load_splits` gives for a stored data set that has so many."""
    counts = dict(counts)
    if "validation" not in counts and data.validation_fraction > 0:
        counts["validation"] = max(1, round(data.validation_fraction * counts["train"]))
        counts["train"] -= counts["validation"]
    limits = {"train": data.max_train_samples, "validation": data.max_eval_samples, "test": data.max_eval_samples}
    return {name: min(count, limits[name] or count) for name, count in counts.items()}


def _sample(rows: Dataset, limit: int | None, seed: int) -> Dataset:
    if limit is None or limit >= len(rows):
        return rows
    if limit < 1:
        raise DataError(f"a limit of {limit} samples leaves no rows; use at least 1")
    return rows.shuffle(seed=seed).select(range(limit))


def require_columns(rows: Dataset, names: Iterable[str]) -> None:
    """Raise DataError, naming the columns there are, if one of `names` is missing."""
    for name in names:
        if name not in rows.column_names:
            raise DataError(f"there is no column {name}; the data has the columns {', '.join(rows.column_names)}")


def find_column(rows: Dataset, wanted: str | None, usual: Iterable[str], what: str) -> str:
    """The column named, or else the first of the usual names.

    Args:
        what: the setting that names it, without `_column`.

    Raises: DataError, if none is there.
    """
    require_columns(rows, [wanted] if wanted else [])
    column = wanted or next((name for name in usual if name in rows.column_names), None)
    if column is None:
        found = ", ".join(rows.column_names)
        raise DataError(f"no column looks like the {what} among {found}; name it with --{what}_column")
    return column


def check_columns(rows: Dataset, columns: Columns, name: str) -> None:
    """Raise DataError if `rows`, called `name`, lack a column, or are none at all."""
    _check_not_empty(rows, f"the {name} data")
    for column in (*columns.inputs, columns.label):
        if column not in rows.column_names:
            raise DataError(f"the {name} data has no column {column}, only {', '.join(rows.column_names)}")


def check_filled(rows: Dataset, columns: Columns, name: str) -> None:
    """Raise DataError if `rows`, called `name`, lack a column or a value in one, or are none at all."""
    check_columns(rows, columns, name)
    for column in (*columns.inputs, columns.label):
        if is_image(rows, column):
            continue  # opened, one by one, by who reads images
        missing = [index for index, value in enumerate(rows[column]) if _is_missing(value)]
        if missing:
            raise DataError(
                f"column {column} of the {name} data is empty in {len(missing)} rows, first in row {missing[0] + 1}; "
                "fill or remove them"
            )


def check_texts(rows: Dataset, columns: Iterable[str], name: str, setting: str) -> None:
    """Raise DataError if a column of `rows`, called `name`, holds anything but text."""
    for column in columns:
        odd = next((value for value in rows[column] if not isinstance(value, str)), None)
        if odd is not None:
            raise DataError(f"column {column} of the {name} data holds {odd!r}, not text; name another --{setting}")


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def label_values(rows: Dataset, column: str) -> list[Any]:
    """The labels of all rows, class numbers of the data set replaced by their names.

    Raises: DataError, if a class number is negative; datasets refuses those that are too large.
    """
    names = declared_labels(rows, column)
    if not names:
        return list(rows[column])
    hidden = [number for number in rows[column] if number < 0]
    if hidden:
        raise DataError(
            f"column {column} is {hidden[0]} in {len(hidden)} of {len(rows)} rows, which is how a benchmark hides its "
            "labels; choose a split that is labelled, or leave these rows out"
        )
    return [names[number] for number in rows[column]]


def declared_labels(rows: Dataset, column: str) -> list[str]:
    """The classes that the data set itself names for a column, in its order; none if it names none."""
    return list(getattr(rows.features[column], "names", None) or [])


def hides_labels(rows: Dataset, column: str) -> bool:
    """Whether the labels of all rows are hidden, as those of a benchmark's test split are."""
    return bool(column in rows.column_names and declared_labels(rows, column) and set(rows[column]) == {HIDDEN})
