"""What is known of data that are not on this machine: what their description says, or else the settings alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fourierft.extras import needs
from fourierft.training.arguments import DataArguments
from fourierft.training.columns import Columns, declared_labels, require_columns
from fourierft.training.division import divide_count
from fourierft.training.groundwork import WRITTEN, Reading
from fourierft.training.inputs import detect_inputs, inputs_named
from fourierft.training.tasks import Classification, Regression, Task

if TYPE_CHECKING:
    from datasets import Dataset, DatasetInfo

SPLITS = ("train", "validation", "test")
UNKNOWN_CLASSES = Classification(("?", "??"))


def guess_data(data: DataArguments) -> Reading:
    """What the settings alone say; classes they don't name are taken to be two, UNKNOWN_CLASSES."""
    if data.image_column or data.image_size or data.augment_images:
        kind = "image"
    else:
        kind = {"answers": "prompt", "chat": "chat"}.get(data.task, "text")
    task = Regression() if data.task == "regression" else WRITTEN.get(kind, UNKNOWN_CLASSES)
    return Reading(inputs_named(kind), Columns(tuple(_named(data)), data.label_column or "?"), task, {}, {})


def describe_data(info: DatasetInfo, data: DataArguments) -> tuple[Reading, dict[str, int]]:
    """What the description of a data set says of it, and the number of rows by split that it will give.

    Returns: no rows, if their number is not described.

    Raises: DataError, naming the columns there are, if one is missing.
    """
    counts = {name: split.num_examples for name, split in (info.splits or {}).items()}
    wanted = {name: counts.get(getattr(data, f"{name}_split_name")) for name in SPLITS}
    rows = {name: count for name, count in wanted.items() if count}
    rows = divide_count(rows, data) if "train" in rows else {}
    if not info.features:
        return guess_data(data), rows
    with needs("train", "reading data"):
        import datasets

    empty = datasets.Dataset.from_dict({name: [] for name in info.features}, features=info.features)
    inputs = detect_inputs(empty, data)
    if inputs.name == "chat":  # which looks into a row
        require_columns(empty, [*_named(data), *([data.label_column] if data.label_column else [])])
        return guess_data(data), rows
    columns = inputs.find_columns(empty, _named(data) or None, data.label_column)
    return Reading(inputs, columns, WRITTEN.get(inputs.name) or _detect_task(empty, columns.label, data), {}, {}), rows


def _named(data: DataArguments) -> list[str]:
    return [data.image_column] if data.image_column else list(data.text_column or ())


def _detect_task(rows: Dataset, label: str, data: DataArguments) -> Task:
    is_fraction = str(getattr(rows.features[label], "dtype", "")).startswith("float")
    if data.task == "regression" or (data.task == "auto" and is_fraction):
        return Regression()
    classes = declared_labels(rows, label)
    return Classification(tuple(classes)) if classes else UNKNOWN_CLASSES
