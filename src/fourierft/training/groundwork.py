"""What a training stands on, whatever is trained: rows, checked; their task; a model with a head for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fourierft.training import report
from fourierft.training.arguments import DataArguments, ModelArguments
from fourierft.training.chat.template import template_name
from fourierft.training.data import Columns, declared_labels, hides_labels, label_values
from fourierft.training.inputs import Inputs, detect_inputs
from fourierft.training.models import BaseModel, load_model, required_name
from fourierft.training.tasks import Answers, Chat, Task, detect_task

if TYPE_CHECKING:
    from datasets import Dataset

WRITTEN: dict[str, Task] = {"prompt": Answers(), "chat": Chat()}  # inputs that are themselves the task


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
    inputs: Inputs
    columns: Columns
    task: Task
    labels: dict[str, list[Any]]
    processor: Any
    base: BaseModel
    max_length: int | None

    def encode(self, rows: Dataset, labels: list[Any]) -> Any:
        """Rows as the model reads them.

        Args:
            labels: one a row, encoded.
        """
        return self.inputs.encode(rows, self.columns, labels, self.processor, self.max_length)

    def read_labels(self, rows: Dataset, name: str) -> list[Any]:
        """A label a row, encoded, of rows that came later.

        Raises: DataError, if `rows`, called `name`, lack something or have labels of their own.
        """
        self.inputs.check_rows(rows, self.columns, name)
        return self.task.encode(label_values(rows, self.columns.label), name)

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
            "inputs": self.inputs.name,
            "task": self.task.name,
            "labels": list(self.task.labels),
            "text_columns": list(self.columns.inputs),
            "label_column": self.columns.label,
            "max_length": self.max_length,
            **({"chat_template": template_name(self.processor)} if self.inputs.name == "chat" else {}),
            "data": self.data.dataset_name or Path(self.data.train_file or "").name,
            "method": method,
            "is_adapter": is_adapter,
            "settings": dict(settings),
            "seed": self.seed,
            "versions": report.versions(),
        }


@dataclass(frozen=True)
class Reading:
    """What rows are, checked.

    Attributes:
        labels: split -> a label a row, encoded for the model's loss. A test split that hides its labels has none.
    """

    inputs: Inputs
    columns: Columns
    task: Task
    labels: dict[str, list[Any]]


def read_rows(rows: Mapping[str, Dataset], data: DataArguments) -> Reading:
    """Check rows, and find out what is to be learned from them.

    Args:
        rows: by split, `train` among them.
        data: names the columns, if they are not called as usual.

    Raises: FourierFTError, if anything given is wrong.
    """
    inputs = detect_inputs(rows["train"], data)
    wanted = [data.image_column] if data.image_column else data.text_column
    columns = inputs.find_columns(rows["train"], wanted, data.label_column)
    rows = {name: split for name, split in rows.items() if name != "test" or not hides_labels(split, columns.label)}
    for name, split in rows.items():
        inputs.check_rows(split, columns, name)
    values = {name: label_values(split, columns.label) for name, split in rows.items()}
    declared = declared_labels(rows["train"], columns.label)
    task = WRITTEN.get(inputs.name) or detect_task(values["train"], data.task, columns.label, declared)
    return Reading(inputs, columns, task, {name: task.encode(values[name], name) for name in rows})


def lay_groundwork(
    rows: Mapping[str, Dataset], model: ModelArguments, data: DataArguments, seed: int, only_shapes: bool = False
) -> Groundwork:
    """Check rows, find out what is to be learned from them, and load the model.

    Args:
        rows, data: as for `read_rows`.
        model: to load.
        seed: of the head.
        only_shapes: as for `models.load_model`.

    Raises: FourierFTError, if anything given is wrong.
    """
    reading = read_rows(rows, data)
    inputs, task = reading.inputs, reading.task
    processor = inputs.load_processor(model, data)
    base = load_model(model, task, seed, inputs.model_class, inputs.task_type, only_shapes)
    max_length = inputs.fit(base.model, processor, data.max_length)
    return Groundwork(model, data, seed, inputs, reading.columns, task, reading.labels, processor, base, max_length)
