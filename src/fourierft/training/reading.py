"""Rows, checked: whose task they are, where its inputs and labels stand, and which rows are trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from fourierft.training.arguments import DataArguments
from fourierft.training.cells import place_at
from fourierft.training.columns import Columns, declared_labels, hides_labels, label_values
from fourierft.training.division import divide_rows, limit_of, sample_rows
from fourierft.training.families.family import Family
from fourierft.training.families.registry import find_families, learn

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Reading:
    """What rows are, checked.

    Attributes:
        rows: by split.
        labels: split -> a label a row, encoded for the model's loss. A test split that hides its labels has none.
    """

    family: Family
    columns: Columns
    rows: dict[str, Dataset]
    labels: dict[str, list[Any]]


def read_rows(rows: Mapping[str, Dataset], data: DataArguments) -> Reading:
    """Check rows, whole and in the order of their files, and find out what is to be learned from them.

    Args:
        rows: by split, `train` among them.
        data: names the columns, if they are not called as usual.

    Raises: FourierFTError, if anything given is wrong.
    """
    found = find_families(rows["train"], data)
    first = found[0]
    columns = first.find_columns(rows["train"], first.wanted_columns(data), data.label_column)
    shown = {name: split for name, split in rows.items() if name != "test" or not hides_labels(split, columns.label)}
    for split in shown.values():
        first.check_rows(split, columns)
    values = {name: label_values(split, columns.label) for name, split in shown.items()}
    declared = declared_labels(rows["train"], columns.label)
    where = partial(place_at, rows["train"])
    family = learn(found, values["train"], data.task, columns.label, declared, where).with_settings(vars(data))
    labels = {name: family.encode_labels(values[name], partial(place_at, split)) for name, split in shown.items()}
    return Reading(family, columns, dict(rows), labels)


def divide(reading: Reading, data: DataArguments, seed: int) -> Reading:
    """The same with rows held out to evaluate on, if there are none, and with no more rows than are wanted.

    Args:
        data: says how many.
        seed: of the draw; classes keep their shares.

    Raises: DataError, if no rows can be held out, or none would be left.
    """
    chosen: dict[str, tuple[str, list[int] | None]] = {name: (name, None) for name in reading.rows}
    if "validation" not in reading.rows and data.validation_fraction > 0:
        strata, count = reading.family.strata(reading.labels["train"]), len(reading.rows["train"])
        train, held_out = divide_rows(count, data.validation_fraction, seed, strata)
        chosen |= {"train": ("train", train), "validation": ("train", held_out)}
    rows, labels = {}, {}
    for name, (source, indices) in chosen.items():
        count = len(reading.rows[source]) if indices is None else len(indices)
        sample = sample_rows(count, limit_of(name, data), seed)
        if sample is not None:
            indices = sample if indices is None else [indices[place] for place in sample]
        split, own = reading.rows[source], reading.labels.get(source)
        rows[name] = split if indices is None else split.select(indices)
        if own is not None:
            labels[name] = own if indices is None else [own[index] for index in indices]
    return replace(reading, rows=rows, labels=labels)
