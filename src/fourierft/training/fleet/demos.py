"""A fleet that a demo trains once: a second call finds it, an interrupted one goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fourierft.store import AdapterStore
from fourierft.training import output
from fourierft.training.arguments import DataArguments, MethodArguments, ModelArguments
from fourierft.training.assets import hash_file
from fourierft.training.checkpoints import has_checkpoint
from fourierft.training.fleet.checkpoint import remove_checkpoints
from fourierft.training.fleet.run import train_fleet
from fourierft.training.fleet.settings import FleetArguments, FleetSettings

STORE = "fleet.db"


def train_once(
    directory: Path,
    name: str,
    model: Path,
    files: Sequence[Path],
    data: DataArguments,
    settings: FleetSettings,
    n_frequency: int,
    fresh: bool = False,
) -> dict[str, Any]:
    """Train an adapter for each file, named like it, into a store in `directory`, unless all are there.

    Args:
        directory: of an earlier call, or new.
        name: of the file of results in it.
        model: folder of the base.
        files: of rows, in one folder.
        data: how they are read.
        settings: of the training.
        n_frequency: coefficients a layer.
        fresh: train all again; those of before stay in the store, as older versions.

    Returns: `model` (folder of the base), `adapters` (name -> metrics on rows held out), `parameters`.

    Raises: OutputExistsError, if `directory` holds something else. FourierFTError, if anything else is wrong.
        TrainingInterrupted, on Ctrl-C; the next call goes on from there.
    """
    results = output.open_results(directory, name)
    store, names = directory / STORE, [file.stem for file in files]
    told = [str(model), n_frequency, vars(settings), vars(data), {file.name: hash_file(file) for file in files}]
    key = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
    same = not fresh and results.get("key") == key
    if same and "adapters" in results and _holds_all(store, names):
        return results
    checkpoints = store.with_name(f"{STORE}.training")
    if not same:
        remove_checkpoints(checkpoints)
    output.write_json(directory / name, {"key": key, "model": str(model)})
    arguments = FleetArguments(
        model=ModelArguments(model_name_or_path=str(model)),
        data=replace(data, train_file=str(files[0].parent)),
        store=str(store),
        method=MethodArguments(n_frequency=n_frequency),
        fleet=settings,
        resume=has_checkpoint(checkpoints),
    )
    trained = train_fleet(arguments)
    with AdapterStore(store, create=False) as kept:
        scores = {each: kept.get(each).metrics for each in names}
    results = {"key": key, "model": str(model), "adapters": scores, "parameters": trained["parameters"]}
    output.write_json(directory / name, results)
    return results


def _holds_all(store: Path, names: Collection[str]) -> bool:
    if not store.is_file():
        return False
    with AdapterStore(store, create=False) as kept:
        return set(names) <= set(kept.names())
