"""What a training stands on, one adapter's or a fleet's: the task of its rows, and a model with a head for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fourierft.training.arguments import DataArguments, ModelArguments
from fourierft.training.cells import place_at
from fourierft.training.columns import Columns, label_values
from fourierft.training.families.family import Family
from fourierft.training.hub import find_license
from fourierft.training.models import BaseModel, load_model, required_name
from fourierft.training.provenance import versions
from fourierft.training.reading import Reading

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Setup:
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
            "license": find_license(required_name(self.model), self.model.model_revision),
            "heads": list(self.base.heads),
            "inputs": self.family.kind,
            "task": self.family.name,
            "labels": list(self.family.labels),
            "problem_type": self.family.model_settings().get("problem_type"),
            "loading": describe_loading(self.family),
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


def describe_loading(family: Family) -> dict[str, Any]:
    """What a record says of how the model is loaded, for its card."""
    told = {name: value for name, value in family.model_settings().items() if name in ("num_labels", "problem_type")}
    classes = {"model_class": family.model_class.__name__, "processor_class": family.processor_class}
    return {**classes, "pipeline_tag": family.pipeline_tag, "options": told}


def load_setup(
    reading: Reading, model: ModelArguments, data: DataArguments, seed: int, only_shapes: bool = False
) -> Setup:
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
    return Setup(model, data, seed, family, reading.columns, reading.labels, processor, base, max_length)
