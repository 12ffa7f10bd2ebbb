"""One training of a fleet from arguments to a store: what `fourierft fleet train` calls.

Everything that can be wrong is found before the first step: the store, the data, the model, the checkpoint.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from fourierft.adapters.store import AdapterStore
from fourierft.adapters.store.identity import identify_base
from fourierft.adapters.store.incoming import check_name
from fourierft.errors import DataError
from fourierft.training import report
from fourierft.training.data import load_splits, read_file, require_columns
from fourierft.training.fleet import checkpoint
from fourierft.training.fleet.plan import FleetPlan, make_plan
from fourierft.training.fleet.settings import FleetArguments
from fourierft.training.fleet.tenants import Tenant, make_tenants
from fourierft.training.fleet.trainer import Finished, FleetTrainer
from fourierft.training.groundwork import lay_groundwork
from fourierft.training.models import required_name
from fourierft.training.tasks import Task
from fourierft.training.trainer import Interruption, TrainingInterrupted

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class FleetPreparation:
    """All a training needs, checked.

    Attributes:
        tenants: by name.
        collate: makes a batch of rows by their numbers.
        record: what the training writes of itself, beside each adapter.
    """

    plan: FleetPlan
    task: Task
    tenants: dict[str, Tenant]
    collate: Callable[[Sequence[int]], Mapping[str, Tensor]]
    record: dict[str, Any]


def train_fleet(arguments: FleetArguments) -> dict[str, Any]:
    """Train an adapter for each name in the data, and add each to the store when it is done.

    Returns: `adapters` (name -> metrics), `main_metric`, `steps` (of batches), `seconds`, `parameters` (of an adapter).

    Raises: FourierFTError, if anything given is wrong. TrainingInterrupted, after SIGINT or SIGTERM.
    """
    base = required_name(arguments.model)
    folder = Path(arguments.folder or f"{arguments.store}.training")
    if not arguments.resume:
        checkpoint.check_folder(folder)
    path = checkpoint.find_checkpoint(folder) if arguments.resume else None
    with AdapterStore(arguments.store) as store:
        if store.base is not None or store.tables.is_made():
            store.tables.check_base(identify_base(base), "the fleet is trained")
        prepared = prepare(arguments)
        trainer = FleetTrainer(prepared.plan, prepared.task, prepared.collate, arguments.fleet)
        try:
            if path is None:
                torch.manual_seed(arguments.fleet.seed)
                for tenant in prepared.tenants.values():
                    trainer.join(tenant)
                return _run(arguments, prepared, trainer, store, folder, 0, [])
            step, done = checkpoint.load_checkpoint(path, trainer, prepared.tenants, base)
            return _run(arguments, prepared, trainer, store, folder, step, done)
        finally:
            trainer.close()


def prepare(arguments: FleetArguments) -> FleetPreparation:
    """Load and check data, processor and model. Writes nothing.

    Raises: FourierFTError, if anything given is wrong.
    """
    data, settings = arguments.data, arguments.fleet
    rows = _read_rows(arguments)
    require_columns(rows, [settings.adapter_column])
    tenants = make_tenants(rows[settings.adapter_column], settings)
    for name in tenants:
        check_name(name)
    ground = lay_groundwork({"train": rows}, arguments.model, data, settings.seed)
    name, revision = required_name(arguments.model), arguments.model.model_revision
    plan = make_plan(ground.base, arguments.method, name, None if Path(name).exists() else revision)
    encoded, collator = ground.encode(rows, ground.labels["train"]), ground.inputs.collator(ground.processor)
    record = ground.record("fourierft", plan.settings, is_adapter=True)
    return FleetPreparation(
        plan, ground.task, tenants, lambda numbers: collator([encoded[number] for number in numbers]), record
    )


def _read_rows(arguments: FleetArguments) -> Dataset:
    """The rows of the data set, or of all files of a folder, each an adapter's, named like it."""
    data, column = arguments.data, arguments.fleet.adapter_column
    folder = Path(data.train_file or "")
    if not data.train_file or not folder.is_dir():
        return load_splits(replace(data, validation_fraction=0.0), arguments.fleet.seed)["train"]
    import datasets

    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if not files:
        raise DataError(f"the folder {folder} has no files; put one there for each adapter, named like it")
    parts = []
    for file in files:
        rows = read_file(file)
        if column in rows.column_names:
            raise DataError(f"{file} has a column {column}, but in a folder files name the adapters; remove the column")
        parts.append(rows.add_column(column, [file.stem] * len(rows)))
    try:
        return datasets.concatenate_datasets(parts)
    except ValueError as error:
        raise DataError(f"the files in {folder} differ in their columns ({' '.join(str(error).split())})") from error


def _run(
    arguments: FleetArguments,
    prepared: FleetPreparation,
    trainer: FleetTrainer,
    store: AdapterStore,
    folder: Path,
    step: int,
    done: list[str],
) -> dict[str, Any]:
    settings, interruption, begin = arguments.fleet, Interruption(), time.perf_counter()
    metrics: dict[str, Any] = {}
    base, total = prepared.record["base_model"], trainer.steps_left
    with interruption.listen(), tqdm(total=total, unit=" steps", desc="training", disable=None) as bar:
        while trainer.queue and not interruption.requested:
            before = trainer.steps_left
            for finished in trainer.step():
                _publish(store, prepared, finished, settings.dtype)
                metrics[finished.name] = finished.metrics
                done.append(finished.name)
            step += 1
            bar.update(before - trainer.steps_left)
            bar.set_postfix(adapters=len(trainer.members), refresh=False)
            if settings.save_steps and step % settings.save_steps == 0:
                checkpoint.save_checkpoint(folder, step, trainer, done, base)
    if trainer.queue:
        saved = checkpoint.save_checkpoint(folder, step, trainer, done, base)
        raise TrainingInterrupted(total - trainer.steps_left, total, str(saved))
    checkpoint.remove_checkpoints(folder)
    return {
        "adapters": metrics,
        "main_metric": prepared.task.main_metric,
        "steps": step,
        "seconds": time.perf_counter() - begin,
        "parameters": len(prepared.plan.start),
    }


def _publish(store: AdapterStore, prepared: FleetPreparation, finished: Finished, dtype: str) -> None:
    coefficients, heads = prepared.plan.split(finished.numbers)
    record = json.dumps(prepared.record, indent=2, ensure_ascii=False) + "\n"
    metrics = report.without_nan(finished.metrics)
    store.put(finished.name, prepared.plan.layout, coefficients, heads, dtype, metrics, record=record)
