"""What a training stands on, whatever is trained: rows, checked; their task; a model with a head for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fourierft.training.arguments import DataArguments, ModelArguments
from fourierft.training.cells import place_at
from fourierft.training.columns import Columns, declared_labels, hides_labels, label_values
from fourierft.training.division import divide_rows, limit_of, sample_rows
from fourierft.training.families.family import Family
from fourierft.training.families.registry import find_families, learn
from fourierft.training.models import BaseModel, load_model, required_name
from fourierft.training.provenance import versions

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Groundwork:
    """Data and model of a training, before anything is chosen to be trained.

    Attributes:
        model, data: what was asked for.
        seed: of the head, and of whatever the training draws.
        columns: of the rows.
        labels: split -> a label a row, encoded for the model's loss. A test split that hides its labels has none.
        processor: the tokenizer or image processor.
        base: the model, with a head for the task.
        max_length: tokens an input is cut to; None if it has none.
    """

    model: ModelArguments
    data: DataArguments
    seed: int
    family: Family
    columns: Columns
    labels: dict[str, list[Any]]
    processor: Any
    base: BaseModel
    max_length: int | None

    def encode(self, rows: Dataset, labels: list[Any]) -> Any:
        """Rows as the model reads them.

        Args:
            labels: one a row, encoded.
        """
        return self.family.encode_rows(rows, self.columns, labels, self.processor, self.max_length)

    def read_labels(self, rows: Dataset) -> list[Any]:
        """A label a row, encoded, of rows that came later.

        Raises: DataError, if they lack something or have labels of their own.
        """
        self.family.check_rows(rows, self.columns)
        return self.family.encode_labels(label_values(rows, self.columns.label), partial(place_at, rows))

    def record(self, method: str, settings: Mapping[str, Any], is_adapter: bool) -> dict[str, Any]:
        """What the training writes of itself, so that it can be resumed and evaluated.

        Args:
            method: what is trained.
            settings: what tells it from another of the method, such as n_frequency.
            is_adapter: whether PEFT reads it.
        """
        return {
            "format": 1,
            "base_model": required_name(self.model),
            "revision": self.model.model_revision,
            "dtype": self.model.dtype,
            "quantization": self.model.quantization,
            "trust_remote_code": self.model.trust_remote_code,
            "heads": list(self.base.heads),
            "inputs": self.family.kind,
            "task": self.family.name,
            "labels": list(self.family.labels),
            "problem_type": self.family.model_settings().get("problem_type"),
            "text_columns": list(self.columns.inputs),
            "label_column": self.columns.label,
            "max_length": self.max_length,
            **self.family.record_processor(self.processor, self.model),
            "data": self.data.dataset_name or Path(self.data.train_file or "").name,
            "method": method,
            "is_adapter": is_adapter,
            "settings": dict(settings),
            "seed": self.seed,
            "versions": versions(),
        }


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
    family = learn(found, values["train"], data.task, columns.label, declared, where)
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


def lay_groundwork(
    reading: Reading, model: ModelArguments, data: DataArguments, seed: int, only_shapes: bool = False
) -> Groundwork:
    """Load a model for what is to be learned.

    Args:
        model: to load.
        seed: of the head.
        only_shapes: as for `models.load_model`.

    Raises: FourierFTError, if anything given is wrong.
    """
    family = reading.family
    family.check_settings(data)
    processor = family.load_processor(model, data)
    base = load_model(model, family, seed, only_shapes)
    max_length = family.fit(base.model, processor, data.max_length)
    return Groundwork(model, data, seed, family, reading.columns, reading.labels, processor, base, max_length)
