"""Load what `train` wrote, and score it on any data."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase, TrainingArguments

from fourierft.errors import CheckpointError, FourierFTError
from fourierft.training import output
from fourierft.training.arguments import DataArguments, ModelArguments
from fourierft.training.data import check_rows, find_columns, label_values, load_test, tokenize
from fourierft.training.methods import expected_warnings
from fourierft.training.models import load_model, load_tokenizer
from fourierft.training.tasks import Task, task_from
from fourierft.training.trainer import HeadTrainer
from fourierft.tuner.registration import enable


@dataclass(frozen=True)
class Trained:
    """A fine-tuned model, ready for use; `record` is what its training wrote of itself."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    task: Task
    record: dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """Metrics by name, and one prediction a row."""

    metrics: dict[str, float]
    predictions: list[dict[str, Any]]


def load_trained(directory: str | Path, base_model: str | None = None) -> Trained:
    """Load what `fourierft train` wrote, whatever the method.

    Args:
        directory: its output directory.
        base_model: where the base model is, if it moved since.

    Raises: CheckpointError, if files are missing or damaged. ConfigError, if the base model can't be had.
    """
    directory = Path(directory)
    record = output.read_record(directory)
    task = task_from(record["task"], record["labels"])
    base = ModelArguments(
        model_name_or_path=base_model or record["base_model"],
        model_revision=record["revision"],
        dtype=record["dtype"],
        trust_remote_code=record["trust_remote_code"],
    )
    if record["method"] == "full":
        base = replace(base, model_name_or_path=str(directory), model_revision="main")
    tokenizer = load_tokenizer(replace(base, model_name_or_path=str(directory), model_revision="main"))
    model: Any = load_model(base, task, record["seed"]).model
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    if record["is_adapter"]:
        model = _load_adapter(model, directory)
    elif record["method"] != "full":
        _load_trained_parameters(model, directory / output.TRAINED_WEIGHTS)
    return Trained(model.eval(), tokenizer, task, record)


def _load_adapter(model: nn.Module, directory: Path) -> nn.Module:
    _read_weights(directory / "adapter_model.safetensors")
    enable()
    try:
        with expected_warnings():
            return PeftModel.from_pretrained(model, directory)
    except FourierFTError:
        raise
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"the adapter in {directory} is not one of this base model: {_one_line(error)}"
        ) from error


def _load_trained_parameters(model: nn.Module, path: Path) -> None:
    try:
        unexpected = model.load_state_dict(_read_weights(path), strict=False).unexpected_keys
    except RuntimeError as error:
        raise CheckpointError(f"{path} is not of this base model: {_one_line(error)}") from error
    if unexpected:
        raise CheckpointError(f"{path} holds {unexpected[0]}, which the base model does not have; name the right base")


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise CheckpointError(f"{path} is not there; the training did not finish, resume it")
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged ({_one_line(error)}); train again or fetch it again") from error
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path} holds NaN or infinity in {name}; train again, with a lower learning rate")
    return weights


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def evaluate(
    directory: str | Path,
    data: DataArguments,
    *,
    base_model: str | None = None,
    batch_size: int = 32,
    seed: int = 42,
    use_cpu: bool = False,
) -> Evaluation:
    """Score what `fourierft train` wrote.

    Args:
        directory: its output directory.
        data: `test_file`, or a data set and its `test_split_name`; columns are the training's if not given.
        base_model: where the base model is, if it moved since.
        seed: draws the rows of `max_eval_samples`.

    Raises: FourierFTError, if the directory, the base model or the data are not what they should be.
    """
    record = output.read_record(directory)
    rows = load_test(data, seed)
    columns = find_columns(
        rows, data.text_column or record["text_columns"], data.label_column or record["label_column"]
    )
    check_rows(rows, columns, "test")
    trained = load_trained(directory, base_model)
    labels = trained.task.encode(label_values(rows, columns.label), "test")
    tokens = tokenize(rows, columns, labels, trained.tokenizer, data.max_length or record["max_length"])
    with tempfile.TemporaryDirectory() as unused:
        trainer = HeadTrainer(
            model=trained.model,
            args=TrainingArguments(
                output_dir=unused,
                per_device_eval_batch_size=batch_size,
                label_names=["labels"],
                use_cpu=use_cpu,
                dataloader_pin_memory=torch.accelerator.is_available() and not use_cpu,
            ),
            data_collator=DataCollatorWithPadding(trained.tokenizer),
            processing_class=trained.tokenizer,
            compute_metrics=trained.task.score,
            heads=tuple(record["heads"]),
            head_learning_rate=None,
        )
        result = trainer.predict(tokens, metric_key_prefix="test")
    outputs = result.predictions[0] if isinstance(result.predictions, tuple) else result.predictions
    metrics = {name.removeprefix("test_"): value for name, value in (result.metrics or {}).items()}
    texts = [dict(zip(columns.text, row, strict=True)) for row in zip(*(rows[c] for c in columns.text), strict=True)]
    given = label_values(rows, columns.label)
    predictions = [
        {**text, "label": label, **decoded}
        for text, label, decoded in zip(texts, given, trained.task.decode(outputs), strict=True)
    ]
    return Evaluation(metrics, predictions)
