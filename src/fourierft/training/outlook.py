"""What a training would do and take, without doing it: `fourierft train --dry_run`.

Data and models that are on this machine are read and checked as for the training, the model without its numbers. Of
those on the hub, the description of the data and the config of the model are looked up. What is not known is said.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fourierft.errors import FourierFTError
from fourierft.format.hub import find_near, is_reachable, offline_if_unreachable
from fourierft.training import hub, report
from fourierft.training.arguments import Arguments, DataArguments, ModelArguments
from fourierft.training.catalogue import to_fetch
from fourierft.training.data import load_splits
from fourierft.training.descriptions import describe_data, guess_data
from fourierft.training.families.family import Family
from fourierft.training.groundwork import Reading, divide, read_rows
from fourierft.training.memory import estimate_memory
from fourierft.training.methods import Trainable, attach, check_method
from fourierft.training.models import load_model, outline_model, required_name
from fourierft.training.preparation import prepare
from fourierft.training.trainer import count_steps

if TYPE_CHECKING:
    from datasets import DatasetBuilder


@dataclass
class Outlook:
    """What was found out of a training.

    Attributes:
        summary: of model, data and what is trained, as it is printed.
        trainable: on the meta device; None if nothing is known of the model.
        rows: by split; none if they are not known.
        steps: of the optimizer; None if they are not known.
        batch: as the model reads it, on the meta device; None with the model.
        downloads: name -> bytes, None if they are not known.
        rows_unknown: why the rows are not known.
        unknown: what is not known, and why.
        missing: what the training can't start without, and why it can't be had.
    """

    summary: str = ""
    trainable: Trainable | None = None
    rows: dict[str, int] = field(default_factory=dict)
    steps: int | None = None
    batch: dict[str, Tensor] | None = None
    downloads: dict[str, int | None] = field(default_factory=dict)
    rows_unknown: str = ""
    unknown: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def look_ahead(arguments: Arguments) -> dict[str, Any]:
    """Print what a training would do, and return it. Downloads descriptions and configs, and nothing large.

    Returns: `parameters` and `bytes` (see `run.train`), `rows`, `steps`, `memory` (see `estimate_memory`), `downloads`
        (name -> bytes), `unknown` and `missing` (sentences). What is not known is None.

    Raises: FourierFTError, if anything given is wrong.
    """
    outlook, model, data = Outlook(), arguments.model, arguments.data
    check_method(arguments.method.method)
    with offline_if_unreachable(model.model_name_or_path, data.dataset_name):
        has_model = _find_model(model, outlook)
        has_data, description = _find_data(data, outlook)
        if has_model and has_data:
            _foresee(arguments, outlook)
        else:
            _foresee_in_part(arguments, _read(arguments, has_data, description, outlook), has_model, outlook)
    memory = _estimate(arguments, outlook)
    if arguments.training.process_index == 0:
        print(f"{outlook.summary}\n\n{_describe_costs(arguments, outlook, memory)}", flush=True)
    known = outlook.trainable.sizes() if outlook.trainable else {"parameters": None, "bytes": None}
    found = {"rows": outlook.rows or None, "steps": outlook.steps, "memory": memory}
    return {**known, **found, "downloads": outlook.downloads, "unknown": outlook.unknown, "missing": outlook.missing}


def _find_model(model: ModelArguments, outlook: Outlook) -> bool:
    """Whether the model is on this machine; if not, what would be downloaded."""
    asset = to_fetch(model.model_asset)
    if asset is not None:
        outlook.downloads[f"{asset.project} {asset.version}"] = asset.size
        return False
    name = required_name(model)
    if hub.has_weights(name, model.model_revision):
        return True
    outlook.downloads[name] = hub.find_model_size(name, model.model_revision)
    _require_hub(name, outlook)
    return False


def _find_data(data: DataArguments, outlook: Outlook) -> tuple[bool, DatasetBuilder | None]:
    """Whether the data are on this machine; if not, what would be downloaded, and their description."""
    asset = to_fetch(data.data_asset)
    if asset is not None:
        outlook.downloads[f"{asset.project} {asset.version}"] = asset.size
        outlook.rows_unknown = f"{asset.project} is not in the cache"
        return False, None
    files = [file for file in (data.train_file, data.validation_file, data.test_file) if file]
    missing = [file for file in files if not Path(file).exists()]
    if missing:
        outlook.rows_unknown = f"the data file {missing[0]} does not exist"
        outlook.missing += [f"there is no data file {file}; {find_near(file) or 'check the path'}" for file in missing]
        return False, None
    if data.dataset_name is None or Path(data.dataset_name).exists():
        return True, None
    found = hub.find_data_set(data.dataset_name, data.dataset_config_name)
    if found is not None and Path(found.cache_dir).exists():
        return True, None
    outlook.downloads[data.dataset_name] = found.info.download_size if found else None
    if found is None:
        outlook.rows_unknown = f"{data.dataset_name} is not on this machine and the hub does not answer"
        _require_hub(data.dataset_name, outlook)
    return False, found


def _require_hub(name: str, outlook: Outlook) -> None:
    """Note what is to come from the hub as missing, if the hub does not answer."""
    if not is_reachable():
        hint = find_near(name) or "check the spelling and the network"
        outlook.missing.append(f"{name} is not on this machine, and the hub does not answer; {hint}")


def _foresee(arguments: Arguments, outlook: Outlook) -> None:
    """All of it, as the training would do it, but on a model without numbers."""
    try:
        prepared = prepare(arguments, only_shapes=True)
    except RuntimeError:  # a method that begins with the numbers of the model
        prepared = prepare(arguments)
    rows = prepared.splits["train"], prepared.ground.max_length, arguments.data.packing
    family = prepared.ground.family
    count, shape = family.count_rows(*rows), family.row_shape(*rows)
    outlook.trainable = prepared.trainable
    outlook.rows = {name: len(split) for name, split in prepared.splits.items()}
    outlook.steps = count_steps(count, arguments.training)
    outlook.batch = _make_batch(min(arguments.training.per_device_train_batch_size, count), shape, family)
    outlook.summary = report.summarize(prepared.trainable, prepared.record, outlook.rows, prepared.left_out)


def _read(arguments: Arguments, has_data: bool, description: DatasetBuilder | None, outlook: Outlook) -> Reading:
    """The rows on this machine, or what is known of them."""
    data = arguments.data
    if has_data:
        reading = divide(read_rows(load_splits(data), data), data, arguments.training.seed)
        outlook.rows = {name: len(reading.rows[name]) for name in reading.labels}
        return reading
    if description is None:
        return guess_data(data)
    reading, outlook.rows = describe_data(description.info, data)
    outlook.rows_unknown = f"the description of {data.dataset_name} does not count them"
    if data.train_file or data.validation_file or data.test_file:
        outlook.rows, outlook.rows_unknown = {}, f"files stand in place of some splits of {data.dataset_name}"
    return reading


def _foresee_in_part(arguments: Arguments, reading: Reading, has_model: bool, outlook: Outlook) -> None:
    """What follows from rows that are known in part, and a model that is here or has a config that can be had."""
    model, data, training = arguments.model, arguments.data, arguments.training
    family = reading.family.scored_by(training.metric_for_best_model)
    family.check_settings(data)
    family.require()
    if training.max_steps > 0 or (outlook.rows and not data.packing):
        outlook.steps = count_steps(outlook.rows.get("train", 0), training)
    elif outlook.rows:
        outlook.unknown.append("the steps, as rows are packed by their tokens, which are not counted yet")
    if not outlook.rows:
        outlook.unknown.append(f"the rows{'' if outlook.steps else ' and the steps'}, as {outlook.rows_unknown}")
    if model.model_name_or_path is None:
        base = None
    elif has_model:
        base = load_model(model, family, training.seed, only_shapes=True)
    else:
        base = outline_model(model, family)
    name = model.model_name_or_path or str(model.model_asset)
    record = {
        "base_model": name,
        "task": family.name,
        "labels": [] if family.assumption else list(family.labels),
        "text_columns": list(reading.columns.inputs),
        "label_column": reading.columns.label,
        "data": data.dataset_name or data.train_file or data.data_asset,
        "heads": list(base.heads) if base else [],
    }
    if base is None:
        reason = "the hub does not answer" if model.model_name_or_path else "its archive is not in the cache"
        outlook.unknown.append(
            f"the parameters, their bytes and the memory, as {name} is not on this machine and {reason}"
        )
        outlook.summary = report.describe(record, arguments.method.method, outlook.rows)
        return
    if family.assumption:
        outlook.unknown.append(family.assumption)
    shape = family.expected_shape(base.model.config, data)
    try:
        outlook.trainable = attach(base, arguments.method, outlook.steps or 1)
    except FourierFTError:
        raise
    except RuntimeError:
        reason = f"{arguments.method.method} begins with the numbers of the model, which is not on this machine"
        outlook.unknown.append(f"the parameters, their bytes and the memory, as {reason}")
        outlook.summary = report.describe(record, arguments.method.method, outlook.rows)
        return
    outlook.batch = _make_batch(training.per_device_train_batch_size, shape, family)
    outlook.summary = report.summarize(outlook.trainable, record, outlook.rows)


def _make_batch(rows: int, shape: tuple[int, ...], family: Family) -> dict[str, Tensor]:
    """A batch of rows of a shape, as the model is trained on it, without numbers."""
    with torch.device("meta"):
        return family.empty_batch(rows, shape)


def _estimate(arguments: Arguments, outlook: Outlook) -> dict[str, int] | None:
    if outlook.trainable is None or outlook.batch is None:
        return None
    try:
        return estimate_memory(outlook.trainable.model, outlook.batch, arguments.training, arguments.model.quantization)
    except (RuntimeError, ValueError):  # a model, or a method, that looks at numbers
        outlook.unknown.append("the memory, as this model, or this method, does not run on shapes alone")
        return None


def _describe_costs(arguments: Arguments, outlook: Outlook, memory: dict[str, int] | None) -> str:
    settings = arguments.training
    size = settings.train_batch_size * settings.gradient_accumulation_steps * settings.world_size
    lines: list[tuple[str, ...]] = [
        ("steps", f"{outlook.steps:,}" if outlook.steps else "not known", f"of {size} rows")
    ]
    if memory and outlook.batch:
        rows = " x ".join(map(str, next(iter(outlook.batch.values())).shape))
        lines += [(f"memory, {part}", report.format_bytes(count)) for part, count in memory.items()]
        lines[-1] = ("memory, about", lines[-1][1], f"on a device, for a batch of {rows}, beside what comes and goes")
    for name, known in outlook.downloads.items():
        lines.append(("to download", name if known is None else f"{name}, {report.format_bytes(known)}"))
    return "\n".join([report.table(lines), *(f"Not known: {reason}." for reason in outlook.unknown)])
