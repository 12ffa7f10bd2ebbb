"""What a training would do and take, without doing it: `fourierft train --dry_run`.

Data and models that are on this machine are read and checked as for the training, the model without its numbers. Of
those on the hub, the description of the data and the config of the model are looked up. It tells what is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fourierft.errors import ConfigError, FourierFTError
from fourierft.format.hub import find_near, is_reachable, offline_if_unreachable
from fourierft.tables import align_columns, format_bytes
from fourierft.training import hub, report
from fourierft.training.arguments import Arguments, DataArguments, ModelArguments
from fourierft.training.catalogue import to_fetch
from fourierft.training.data import load_splits
from fourierft.training.descriptions import describe_data, guess_data
from fourierft.training.memory import estimate_memory
from fourierft.training.methods import Trainable, attach, check_method
from fourierft.training.models import load_model, outline_model, required_name
from fourierft.training.plan import plan_training
from fourierft.training.reading import Reading, divide, read_rows
from fourierft.training.trainer import count_steps

if TYPE_CHECKING:
    from datasets import DatasetBuilder


@dataclass
class Forecast:
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


def dry_run(arguments: Arguments) -> dict[str, Any]:
    """Print what a training would do, and return it. Downloads descriptions and configs, and nothing large.

    Returns: `parameters` and `bytes` (see `run.train`), `rows`, `steps`, `memory` (see `estimate_memory`), `downloads`
        (name -> bytes), `unknown` and `missing` (sentences). What is not known is None.

    Raises: FourierFTError, if anything given is wrong.
    """
    forecast, model, data = Forecast(), arguments.model, arguments.data
    check_method(arguments.method.method)
    with offline_if_unreachable(model.model_name_or_path, data.dataset_name):
        has_model = find_model(model, forecast)
        has_data, description = find_data(data, forecast)
        if has_model and has_data:
            _foresee(arguments, forecast)
        else:
            _foresee_in_part(arguments, _read(arguments, has_data, description, forecast), has_model, forecast)
    memory = _estimate(arguments, forecast)
    if arguments.training.process_index == 0:
        print(f"{forecast.summary}\n\n{_describe_costs(arguments, forecast, memory)}", flush=True)
    known = forecast.trainable.sizes() if forecast.trainable else {"parameters": None, "bytes": None}
    found = {"rows": forecast.rows or None, "steps": forecast.steps, "memory": memory}
    return {**known, **found, "downloads": forecast.downloads, "unknown": forecast.unknown, "missing": forecast.missing}


def check_missing(found: Mapping[str, Any]) -> None:
    """Raise ConfigError, if a dry run found something missing that the training can't start without."""
    if found["missing"]:
        raise ConfigError(f"the training could not start: {'; '.join(found['missing'])}")


def find_model(model: ModelArguments, forecast: Forecast) -> bool:
    """Whether the model is on this machine; if not, the forecast is told what would be downloaded, or is missing."""
    asset = to_fetch(model.model_asset)
    if asset is not None:
        forecast.downloads[f"{asset.project} {asset.version}"] = asset.size
        return False
    name = required_name(model)
    if hub.has_weights(name, model.model_revision):
        return True
    forecast.downloads[name] = hub.find_model_size(name, model.model_revision)
    _require_hub(name, forecast)
    return False


def find_data(data: DataArguments, forecast: Forecast) -> tuple[bool, DatasetBuilder | None]:
    """Whether the data are on this machine, and the description of those that are not; as `find_model`."""
    asset = to_fetch(data.data_asset)
    if asset is not None:
        forecast.downloads[f"{asset.project} {asset.version}"] = asset.size
        forecast.rows_unknown = f"{asset.project} is not in the cache"
        return False, None
    files = [file for file in (data.train_file, data.validation_file, data.test_file) if file]
    missing = [file for file in files if not Path(file).exists()]
    if missing:
        forecast.rows_unknown = f"the data file {missing[0]} does not exist"
        forecast.missing += [f"there is no data file {file}; {find_near(file) or 'check the path'}" for file in missing]
        return False, None
    if data.dataset_name is None or Path(data.dataset_name).exists():
        return True, None
    found = hub.find_data_set(data.dataset_name, data.dataset_config_name)
    if found is not None and Path(found.cache_dir).exists():
        return True, None
    forecast.downloads[data.dataset_name] = found.info.download_size if found else None
    if found is None:
        forecast.rows_unknown = f"{data.dataset_name} is not on this machine and the hub does not answer"
        _require_hub(data.dataset_name, forecast)
    return False, found


def _require_hub(name: str, forecast: Forecast) -> None:
    """Note what is to come from the hub as missing, if the hub does not answer."""
    if not is_reachable():
        hint = find_near(name) or "check the spelling and the network"
        forecast.missing.append(f"{name} is not on this machine, and the hub does not answer; {hint}")


def _foresee(arguments: Arguments, forecast: Forecast) -> None:
    """All of it, as the training would do it, but on a model without numbers."""
    try:
        plan = plan_training(arguments, only_shapes=True)
    except RuntimeError:  # a method that begins with the numbers of the model
        plan = plan_training(arguments)
    forecast.trainable, forecast.rows, forecast.steps = plan.trainable, plan.rows, plan.steps
    forecast.batch, forecast.summary = plan.largest_batch(), plan.describe()


def _read(arguments: Arguments, has_data: bool, description: DatasetBuilder | None, forecast: Forecast) -> Reading:
    """The rows on this machine, or what is known of them."""
    data = arguments.data
    if has_data:
        reading = divide(read_rows(load_splits(data), data), data, arguments.training.seed)
        forecast.rows = {name: len(reading.rows[name]) for name in reading.labels}
        return reading
    if description is None:
        return guess_data(data)
    reading, forecast.rows = describe_data(description.info, data)
    forecast.rows_unknown = f"the description of {data.dataset_name} does not count them"
    if data.train_file or data.validation_file or data.test_file:
        forecast.rows, forecast.rows_unknown = {}, f"files replace some splits of {data.dataset_name}"
    return reading


def _foresee_in_part(arguments: Arguments, reading: Reading, has_model: bool, forecast: Forecast) -> None:
    """What follows from rows that are known in part, and a model that is here or has a config that can be had."""
    model, data, training = arguments.model, arguments.data, arguments.training
    family = reading.family.scored_by(training.metric_for_best_model)
    family.check_settings(data)
    family.require()
    if training.max_steps > 0 or (forecast.rows and not data.packing):
        forecast.steps = count_steps(forecast.rows.get("train", 0), training)
    elif forecast.rows:
        forecast.unknown.append("the steps, because rows are packed by their tokens, which are not counted yet")
    if not forecast.rows:
        forecast.unknown.append(f"the rows{'' if forecast.steps else ' and the steps'}, as {forecast.rows_unknown}")
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
        forecast.unknown.append(
            f"the parameters, their bytes and the memory, as {name} is not on this machine and {reason}"
        )
        forecast.summary = report.describe_task(record, arguments.method.method, forecast.rows)
        return
    if family.assumption:
        forecast.unknown.append(family.assumption)
    shape = family.expected_shape(base.model.config, data)
    try:
        forecast.trainable = attach(base, arguments.method, forecast.steps or 1)
    except FourierFTError:
        raise
    except RuntimeError:
        reason = f"{arguments.method.method} begins with the numbers of the model, which is not on this machine"
        forecast.unknown.append(f"the parameters, their bytes and the memory, as {reason}")
        forecast.summary = report.describe_task(record, arguments.method.method, forecast.rows)
        return
    with torch.device("meta"):
        forecast.batch = family.empty_batch(training.per_device_train_batch_size, shape)
    forecast.summary = report.describe_training(forecast.trainable, record, forecast.rows)


def _estimate(arguments: Arguments, forecast: Forecast) -> dict[str, int] | None:
    if forecast.trainable is None or forecast.batch is None:
        return None
    try:
        return estimate_memory(
            forecast.trainable.model, forecast.batch, arguments.training, arguments.model.quantization
        )
    except (RuntimeError, ValueError):  # a model, or a method, that looks at numbers
        forecast.unknown.append("the memory, because this model or method does not run on shapes alone")
        return None


def _describe_costs(arguments: Arguments, forecast: Forecast, memory: dict[str, int] | None) -> str:
    settings = arguments.training
    size = settings.train_batch_size * settings.gradient_accumulation_steps * settings.world_size
    lines: list[tuple[str, ...]] = [
        ("steps", f"{forecast.steps:,}" if forecast.steps else "not known", f"of {size} rows")
    ]
    if memory and forecast.batch:
        rows = " x ".join(map(str, next(iter(forecast.batch.values())).shape))
        lines += [(f"memory, {part}", format_bytes(count)) for part, count in memory.items()]
        lines[-1] = ("memory, about", lines[-1][1], f"on a device, for a batch of {rows}, beside what comes and goes")
    return describe_forecast(lines, forecast)


def describe_forecast(lines: Sequence[tuple[str, ...]], forecast: Forecast) -> str:
    """A table of lines and of what would be downloaded, and what is not known below it."""
    downloads = [
        ("to download", name if known is None else f"{name}, {format_bytes(known)}")
        for name, known in forecast.downloads.items()
    ]
    table = [align_columns([*lines, *downloads])] if lines or downloads else []
    return "\n".join([*table, *(f"Not known: {reason}." for reason in forecast.unknown)])
