"""One training of a fleet from arguments to a store: what `fourierft fleet train` calls.

Everything that can be wrong is found before the first step: the store, the data, the model, the checkpoint.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor
from tqdm import tqdm

from fourierft.errors import ConfigError
from fourierft.files import check_place
from fourierft.format.encoding import decode, encode
from fourierft.format.identity import identify_base
from fourierft.store import Adapter, AdapterStore, Layout
from fourierft.training import report
from fourierft.training.checkpoints import find_checkpoint
from fourierft.training.families.family import Family
from fourierft.training.fleet import checkpoint
from fourierft.training.fleet.claim import alone_in
from fourierft.training.fleet.data import FleetData, is_folder, load_rows
from fourierft.training.fleet.heads import share_head
from fourierft.training.fleet.plan import FleetPlan, make_plan
from fourierft.training.fleet.settings import FleetArguments, FleetSettings
from fourierft.training.fleet.trainer import Finished, FleetTrainer
from fourierft.training.fleet.watch import Watch
from fourierft.training.lock import held
from fourierft.training.models import required_name
from fourierft.training.reading import divide, read_rows
from fourierft.training.resuming import RECORDED, adapter_fields, as_json, describe_base
from fourierft.training.setup import load_setup
from fourierft.training.trainer import Interruption, TrainingInterrupted


@dataclass(frozen=True)
class FleetPreparation:
    """All a training needs, checked.

    Attributes:
        data: rows of all adapters.
        record: what the training writes of itself, beside each adapter.
        run: what makes the run, beside the rows.
    """

    plan: FleetPlan
    family: Family
    data: FleetData
    record: dict[str, Any]
    run: dict[str, Any]


def train_fleet(arguments: FleetArguments) -> dict[str, Any]:
    """Train an adapter for each name in the data, and for each that comes, and add each to the store when it is done.

    Returns: `adapters` (name -> metrics), `main_metric`, `steps` (of batches), `seconds`, `parameters` (of an adapter).

    Raises: FourierFTError, if anything given is wrong, or another process has these checkpoints or trains into this
        store. TrainingInterrupted, after SIGINT or SIGTERM.
    """
    folder = Path(arguments.folder or default_folder(arguments.store))
    check_place(folder)
    with held(folder):
        results = _train(arguments, folder)
    checkpoint.remove_checkpoints(folder)
    return results


def default_folder(store: str) -> str:
    """Where checkpoints go unless it is said: beside the file of a store, or in a folder named like its database."""
    return f"{urlsplit(store).path.strip('/').replace('/', '-') if '://' in store else store}.training"


def _train(arguments: FleetArguments, folder: Path) -> dict[str, Any]:
    base = required_name(arguments.model)
    if not arguments.resume:
        checkpoint.check_folder(folder)
    path = find_checkpoint("true", folder) if arguments.resume else None
    with AdapterStore(arguments.store) as store, alone_in(store):
        if store.base is not None or store.is_made():
            store.check_base(identify_base(base, arguments.model.model_revision), "the fleet is trained")
        prepared = prepare(arguments)
        trainer = FleetTrainer(
            prepared.plan, prepared.family, prepared.data.collate, arguments.fleet, prepared.data.lengths
        )
        try:
            if path is None:
                torch.manual_seed(arguments.fleet.seed)
                for tenant in prepared.data.tenants.values():
                    trainer.join(tenant)
                return _run(arguments, prepared, trainer, store, folder, 0, [])
            step, done = checkpoint.load_checkpoint(
                path, trainer, prepared.data.tenants, prepared.data.digests(), prepared.run
            )
            return _run(arguments, prepared, trainer, store, folder, step, done)
        finally:
            trainer.close()


def prepare(arguments: FleetArguments) -> FleetPreparation:
    """Load and check data, processor and model. Writes nothing.

    Raises: FourierFTError, if anything given is wrong.
    """
    data, settings = arguments.data, arguments.fleet
    rows = load_rows(data, settings)
    if arguments.watch is not None and not is_folder(data):
        raise ConfigError(f"watch={arguments.watch:g} wants a folder of files, one for each adapter, as train_file")
    reading = divide(read_rows({"train": rows}, data), replace(data, validation_fraction=0.0), settings.seed)
    setup = load_setup(reading, arguments.model, data, settings.seed)
    if settings.shared_head:
        setup = share_head(setup)
    name, revision = required_name(arguments.model), arguments.model.model_revision
    plan = make_plan(setup.base, arguments.method, name, None if Path(name).exists() else revision)
    fleet = FleetData(setup, settings)
    fleet.add(reading.rows["train"], setup.labels["train"])
    record = setup.record("fourierft", plan.settings, is_adapter=True)
    return FleetPreparation(plan, setup.family, fleet, record, describe_run(plan, record, settings))


def describe_run(plan: FleetPlan, record: Mapping[str, Any], settings: FleetSettings) -> dict[str, Any]:
    """What makes the run of a fleet, by name, as JSON has it; the rows of each adapter come beside it."""
    run = {
        "base_model": describe_base(record["base_model"], record["revision"]),
        **{name: record.get(name) for name in RECORDED},
        **adapter_fields(plan.layout.config),
        **{name: value for name, value in asdict(settings).items() if name not in ("save_steps", "dtype")},
        "dtype in the store": settings.dtype,
    }
    return as_json(run)


def _run(
    arguments: FleetArguments,
    prepared: FleetPreparation,
    trainer: FleetTrainer,
    store: AdapterStore,
    folder: Path,
    step: int,
    done: list[str],
) -> dict[str, Any]:
    settings, data, interruption, begin = arguments.fleet, prepared.data, Interruption(), time.perf_counter()
    metrics: dict[str, Any] = {}
    total = trainer.steps_left
    watch = None
    if arguments.watch is not None:
        watch = Watch(Path(arguments.data.train_file or ""), prepared.data, arguments.watch)
    with interruption.listen(), tqdm(total=total, unit=" steps", desc="training", disable=None) as bar:
        while not interruption.requested:
            if watch is not None:
                came = watch.look() if trainer.queue else watch.wait(lambda: interruption.requested)
                for tenant in came:
                    trainer.join(tenant)
                bar.total = total = total + sum(tenant.total_steps(settings) for tenant in came)
            if not trainer.queue:
                break
            before = trainer.steps_left
            for finished in trainer.step():
                _publish(store, prepared, finished, settings.dtype, arguments.resume)
                metrics[finished.name] = finished.metrics
                done.append(finished.name)
            step += 1
            bar.update(before - trainer.steps_left)
            bar.set_postfix(adapters=len(trainer.members), refresh=False)
            if settings.save_steps and step % settings.save_steps == 0:
                checkpoint.save_checkpoint(folder, step, trainer, done, data.digests(), prepared.run)
    if trainer.queue:
        saved = checkpoint.save_checkpoint(folder, step, trainer, done, data.digests(), prepared.run)
        raise TrainingInterrupted(total - trainer.steps_left, total, str(saved))
    return {
        "adapters": metrics,
        "main_metric": prepared.family.main_metric,
        "steps": step,
        "seconds": time.perf_counter() - begin,
        "parameters": len(prepared.plan.start),
    }


def _publish(
    store: AdapterStore, prepared: FleetPreparation, finished: Finished, dtype: str, may_be_there: bool
) -> None:
    """Add an adapter to the store, unless its last version is this one: it was finished after the checkpoint."""
    (coefficients, heads), layout = prepared.plan.split(finished.numbers), prepared.plan.layout
    row = layout.join(coefficients)
    if may_be_there and finished.name in store and _is_kept(store.get(finished.name), layout, row, heads, dtype):
        return
    record = json.dumps(prepared.record, indent=2, ensure_ascii=False) + "\n"
    metrics = report.without_nan(finished.metrics)
    store.put(finished.name, layout, row, heads, dtype, metrics, record=record)


def _is_kept(kept: Adapter, layout: Layout, row: Tensor, heads: Mapping[str, Tensor], dtype: str) -> bool:
    if kept.dtype != dtype or kept.layout.layers != layout.layers or kept.heads.keys() != heads.keys():
        return False
    values = decode(encode(row[None], dtype, layout.sizes), dtype, layout.sizes)[0]
    return torch.equal(kept.values, values) and all(torch.equal(kept.heads[name], heads[name]) for name in heads)
