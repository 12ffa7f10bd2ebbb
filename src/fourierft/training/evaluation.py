"""Load what `train` wrote, and score it on any data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from fourierft.errors import CheckpointError
from fourierft.training import output
from fourierft.training.arguments import DataArguments, ModelArguments
from fourierft.training.cells import column_names, place_at
from fourierft.training.columns import Columns, label_values
from fourierft.training.data import load_test
from fourierft.training.division import sample_rows
from fourierft.training.families.family import Family
from fourierft.training.families.registry import family_of
from fourierft.training.models import load_model
from fourierft.training.starting import load_adapter, one_line, read_weights

_LABELS: dict[str, Callable[[Sequence[str]], Any]] = {  # what stands in the place of a label that is not there
    "classification": lambda labels: labels[0],
    "regression": lambda labels: 0.0,
}
PROCESSOR_FILES = ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json")  # a store keeps none


@dataclass(frozen=True)
class Trained:
    """A fine-tuned model, ready for use.

    Attributes:
        processor: the tokenizer or image processor.
        record: what its training wrote of itself.
    """

    model: nn.Module
    family: Family
    processor: Any
    record: dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """Metrics by name, and one prediction a row."""

    metrics: dict[str, float]
    predictions: list[dict[str, Any]]


def load_trained(directory: str | Path, base_model: str | None = None, allow_other_base: bool = False) -> Trained:
    """Load what `fourierft train` wrote, whatever the method, or `fourierft store get` wrote of it.

    Args:
        directory: its output directory.
        base_model: where the base model is, if it moved since.
        allow_other_base: take a model of the same shapes that the adapter was not made for.

    Raises: CheckpointError, if files are missing or damaged, or of another base. ShapeError, if the base has other
        shapes. ConfigError, if the base model can't be had.
    """
    directory = Path(directory)
    record = output.read_record(directory)
    family = family_of(record)
    base = _base_of(record, base_model)
    if record["method"] == "full":
        base = replace(base, model_name_or_path=str(directory), model_revision="main")
    processor = load_processor(record, base_model, directory)
    model: Any = load_model(base, family, record["seed"]).model
    family.fit(model, processor, record["max_length"])
    if record["is_adapter"]:
        trainable = record["method"] == "adalora"  # PEFT's has no loss else
        model = load_adapter(model, directory, trainable, allow_other_base)
    elif record["method"] != "full":
        _load_trained_parameters(model, directory / output.TRAINED_WEIGHTS)
    return Trained(model.eval(), family, processor, record)


def load_processor(
    record: Mapping[str, Any], base_model: str | None = None, directory: str | Path | None = None
) -> Any:
    """The tokenizer or image processor that a training read its inputs with: of images, to the size it had.

    Args:
        record: what the training wrote of itself: fourierft.json, or `json.loads` of the `record` that a store has.
        base_model: where the base model is, if it moved since.
        directory: of the training, whose files come first, if it has any.

    Raises: ConfigError, if it can't be had.
    """
    family, base = family_of(record), _base_of(record, base_model)
    if directory is not None and any((Path(directory) / name).exists() for name in PROCESSOR_FILES):
        beside = replace(base, model_name_or_path=str(directory), model_revision="main", tokenizer_name=None)
        return family.load_processor(beside, DataArguments())
    processor = family.load_processor(base, DataArguments())
    return type(processor).from_dict(record["processor"]) if record.get("processor") else processor


def _base_of(record: Mapping[str, Any], base_model: str | None) -> ModelArguments:
    return ModelArguments(
        model_name_or_path=base_model or record["base_model"],
        model_revision="main" if base_model else record["revision"],
        tokenizer_name=record.get("tokenizer"),
        dtype=record["dtype"],
        trust_remote_code=record["trust_remote_code"],
        quantization=record.get("quantization"),
    )


def _load_trained_parameters(model: nn.Module, path: Path) -> None:
    try:
        unexpected = model.load_state_dict(read_weights(path), strict=False).unexpected_keys
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not belong to this base model: {one_line(error)}") from error
    if unexpected:
        raise CheckpointError(f"{path} has {unexpected[0]}, but the base model does not; name the right base")


def evaluate(
    directory: str | Path,
    data: DataArguments,
    *,
    base_model: str | None = None,
    batch_size: int = 32,
    seed: int = 42,
    use_cpu: bool = False,
    allow_other_base: bool = False,
    may_lack_labels: bool = False,
) -> Evaluation:
    """Score what `fourierft train` wrote.

    Args:
        directory: its output directory.
        data: `test_file`, or a data set and its `test_split_name`; columns are the training's if not given.
        base_model: where the base model is, if it moved since.
        seed: draws the rows of `max_eval_samples`.
        allow_other_base: as of `load_trained`.
        may_lack_labels: predict rows without the training's column of labels, of classes or numbers; no metrics then.

    Raises: FourierFTError, if the directory, the base model or the data are not what they should be.
    """
    record = output.read_record(directory)
    rows = load_test(data)
    stand_in = _LABELS.get(record["task"], lambda labels: None)(record["labels"])
    label = record["label_column"]
    is_bare = may_lack_labels and stand_in is not None and data.label_column is None and label not in column_names(rows)
    if is_bare:
        rows = rows.add_column(label, [stand_in] * len(rows))
    test = find_test(record, rows, data, sample_rows(len(rows), data.max_eval_samples, seed))
    scored = score_test(load_trained(directory, base_model, allow_other_base), test, batch_size, use_cpu)
    if not is_bare:
        return scored
    return Evaluation(
        {}, [{name: value for name, value in row.items() if name != "label"} for row in scored.predictions]
    )


class Examples(NamedTuple):
    """Rows to score a model on.

    Fields:
        rows: of the data.
        columns: that the inputs and labels are in.
        labels: one a row, encoded.
        max_length: tokens of a row at most.
    """

    rows: Any
    columns: Columns
    labels: list[Any]
    max_length: int


def find_test(
    record: Mapping[str, Any], rows: Any, data: DataArguments, sample: Sequence[int] | None = None
) -> Examples:
    """The rows to score, checked before a model is loaded.

    Args:
        record: what the training wrote of itself.
        rows: of the data.
        data: whose columns they are in; those of the training if not given.
        sample: numbers of those to take; None for all.

    Raises: DataError, if columns are missing or labels are unknown.
    """
    family = family_of(record)
    wanted = family.wanted_columns(data) or record["text_columns"]
    columns = family.find_columns(rows, wanted, data.label_column or record["label_column"])
    family.check_rows(rows, columns)
    labels: list[Any] = list(family.encode_labels(label_values(rows, columns.label), partial(place_at, rows)))
    if sample is not None:
        rows, labels = rows.select(sample), [labels[index] for index in sample]
    return Examples(rows, columns, labels, data.max_length or record["max_length"])


def score_test(
    trained: Trained, test: Examples, batch_size: int = 32, use_cpu: bool = False, shows_bar: bool = True
) -> Evaluation:
    family, record = trained.family, trained.record
    encoded = family.encode_rows(test.rows, test.columns, test.labels, trained.processor, test.max_length)
    outputs, metrics = family.predict(
        trained.model,
        encoded,
        trained.processor,
        record,
        per_device_eval_batch_size=batch_size,
        use_cpu=use_cpu,
        disable_tqdm=not shows_bar,
        dataloader_pin_memory=torch.accelerator.is_available() and not use_cpu,
    )
    predictions = [
        {**shown, "label": family.shown(label), **decoded}
        for shown, label, decoded in zip(
            family.describe(test.rows, test.columns), test.labels, family.decode(outputs), strict=True
        )
    ]
    return Evaluation(metrics, predictions)
