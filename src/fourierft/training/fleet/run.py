"""One training of a fleet from arguments to a store: what `fourierft fleet train` calls.

Everything that can be wrong is found before the first step: the store, the data, the model, the checkpoint.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor

from fourierft.bars import bar
from fourierft.files import check_place
from fourierft.format.encoding import decode, encode
from fourierft.store import Adapter, AdapterStore, Layout
from fourierft.training import report
from fourierft.training.checkpoints import find_checkpoint
from fourierft.training.fleet import checkpoint
from fourierft.training.fleet.claim import alone_in, check_base
from fourierft.training.fleet.dry_run import dry_run_fleet
from fourierft.training.fleet.plan import FleetPlan, plan_fleet
from fourierft.training.fleet.settings import FleetArguments
from fourierft.training.fleet.trainer import Finished, FleetTrainer
from fourierft.training.fleet.watch import Watch
from fourierft.training.lock import held
from fourierft.training.trainer import Interruption, TrainingInterrupted


def train_fleet(arguments: FleetArguments) -> dict[str, Any]:
    """Train an adapter for each name in the data, and for each that comes, and add each to the store when it is done.

    Returns: `adapters` (name -> metrics), `main_metric`, `steps` (of batches), `seconds`, `parameters` (of an adapter).
        Of a dry run: see `dry_run.dry_run_fleet`.

    Raises: FourierFTError, if anything given is wrong, or another process has these checkpoints or trains into this
        store. TrainingInterrupted, after SIGINT or SIGTERM.
    """
    if arguments.dry_run:
        return dry_run_fleet(arguments)
    folder = Path(arguments.folder or default_folder(arguments.store))
    check_place(folder)
    with held(folder):
        results = _train(arguments, folder)
    checkpoint.remove_checkpoints(folder)
    return results


def default_folder(store: str) -> str:
    """Where checkpoints go by default: beside the file of a store, or in a folder named like its database."""
    return f"{urlsplit(store).path.strip('/').replace('/', '-') if '://' in store else store}.training"


def _train(arguments: FleetArguments, folder: Path) -> dict[str, Any]:
    if not arguments.resume:
        checkpoint.check_folder(folder)
    path = find_checkpoint("true", folder) if arguments.resume else None
    with AdapterStore(arguments.store) as store, alone_in(store):
        check_base(store, arguments.model)
        plan = plan_fleet(arguments, store=store)
        data = plan.data
        trainer = FleetTrainer(plan.trainable, plan.setup.family, data.collate, arguments.fleet, data.lengths)
        try:
            if path is None:
                torch.manual_seed(arguments.fleet.seed)
                for tenant in data.tenants.values():
                    trainer.join(tenant)
                return _run(plan, trainer, store, folder, 0, [])
            step, done = checkpoint.load_checkpoint(path, trainer, data.tenants, data.digests(), plan.run)
            return _run(plan, trainer, store, folder, step, done)
        finally:
            trainer.close()


def _run(
    plan: FleetPlan, trainer: FleetTrainer, store: AdapterStore, folder: Path, step: int, done: list[str]
) -> dict[str, Any]:
    arguments, data, interruption, begin = plan.arguments, plan.data, Interruption(), time.perf_counter()
    settings = arguments.fleet
    metrics: dict[str, Any] = {}
    total = trainer.steps_left
    watch = None
    if arguments.watch is not None:
        watch = Watch(Path(arguments.data.train_file or ""), data, arguments.watch)
    with interruption.listen(), bar(None, "training", "steps", total=total) as progress:
        while not interruption.requested:
            if watch is not None:
                came = watch.look() if trainer.queue else watch.wait(lambda: interruption.requested)
                for tenant in came:
                    trainer.join(tenant)
                progress.total = total = total + sum(tenant.total_steps(settings) for tenant in came)
            if not trainer.queue:
                break
            before = trainer.steps_left
            for finished in trainer.step():
                _publish(store, plan, finished)
                metrics[finished.name] = finished.metrics
                done.append(finished.name)
            step += 1
            progress.update(before - trainer.steps_left)
            progress.set_postfix(adapters=len(trainer.members), refresh=False)
            if settings.save_steps and step % settings.save_steps == 0:
                checkpoint.save_checkpoint(folder, step, trainer, done, data.digests(), plan.run)
    if trainer.queue:
        saved = checkpoint.save_checkpoint(folder, step, trainer, done, data.digests(), plan.run)
        raise TrainingInterrupted(total - trainer.steps_left, total, str(saved))
    return {
        "adapters": metrics,
        "main_metric": plan.setup.family.main_metric,
        "steps": step,
        "seconds": time.perf_counter() - begin,
        "parameters": len(plan.trainable.start),
    }


def _publish(store: AdapterStore, plan: FleetPlan, finished: Finished) -> None:
    """Add an adapter to the store, unless its last version is this one: it was finished after the checkpoint."""
    (coefficients, heads), layout = plan.trainable.split(finished.numbers), plan.trainable.layout
    name, row, dtype = finished.name, layout.join(coefficients), plan.arguments.fleet.dtype
    if plan.arguments.resume and name in store and _is_kept(store.get(name), layout, row, heads, dtype):
        return
    record = json.dumps(plan.record, indent=2, ensure_ascii=False) + "\n"
    store.put(name, layout, row, heads, dtype, report.without_nan(finished.metrics), record=record)


def _is_kept(kept: Adapter, layout: Layout, row: Tensor, heads: Mapping[str, Tensor], dtype: str) -> bool:
    if kept.dtype != dtype or kept.layout.layers != layout.layers or kept.heads.keys() != heads.keys():
        return False
    values = decode(encode(row[None], dtype, layout.sizes), dtype, layout.sizes)[0]
    return torch.equal(kept.values, values) and all(torch.equal(kept.heads[name], heads[name]) for name in heads)
