"""A training of a fleet as files: state.safetensors and state.json in a folder that is written beside, then renamed.

It has the adapters that are in training, each with its moments and its steps; those that are done are in the store.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fourierft.adapters.folder import written_beside
from fourierft.errors import CheckpointError, ConfigError, OutputExistsError
from fourierft.training.fleet.tenants import Tenant, count_rows
from fourierft.training.fleet.trainer import FleetTrainer

FORMAT = 1
_TENSORS = ("numbers", "first", "second", "steps", "totals")


def save_checkpoint(folder: Path, step: int, trainer: FleetTrainer, done: list[str], record: dict[str, Any]) -> Path:
    """Write `checkpoint-STEP` and remove those before it.

    Args:
        folder: of the checkpoints.
        step: number of it.
        trainer: between two steps.
        done: adapters that have left.
        record: what the training writes of itself.

    Returns: its path.
    """
    from safetensors.torch import save_file

    members = list(trainer.members.values())
    places = torch.tensor([member.slot for member in members], dtype=torch.long)
    tensors = {name: getattr(trainer.optimizer, name)[places].contiguous() for name in _TENSORS}
    state = {
        "format": FORMAT,
        "step": step,
        "record": record,
        "settings": asdict(trainer.settings),
        "members": [[member.tenant.name, member.losses] for member in members],
        "rows": count_rows({member.tenant.name: member.tenant for member in members}),
        "queue": list(trainer.queue),
        "done": done,
    }
    path = folder / f"checkpoint-{step}"
    if path.exists():
        shutil.rmtree(path)
    with written_beside(path) as beside:
        save_file({**tensors, "random": torch.get_rng_state()}, beside / "state.safetensors")
        (beside / "state.json").write_text(json.dumps(state, indent=2), encoding="utf-8")
    for other in _checkpoints(folder):
        if other != path:
            shutil.rmtree(other)
    return path


def find_checkpoint(folder: Path) -> Path:
    """The last checkpoint.

    Raises: CheckpointError, if there is none.
    """
    found = _checkpoints(folder)
    if not found:
        raise CheckpointError(f"{folder} holds no checkpoint of a fleet; start anew, without --resume")
    return found[-1]


def has_checkpoint(folder: Path) -> bool:
    """Whether a training that was interrupted can be gone on with."""
    return bool(_checkpoints(folder))


def check_folder(folder: Path) -> None:
    """Raise OutputExistsError if a training that was interrupted could be gone on with."""
    if has_checkpoint(folder):
        raise OutputExistsError(
            f"{folder} holds a training that was interrupted; go on with --resume, or remove the folder"
        )


def load_checkpoint(
    path: Path, trainer: FleetTrainer, tenants: Mapping[str, Tenant], record: dict[str, Any]
) -> tuple[int, list[str]]:
    """Bring a trainer to where it was; adapters that came into the data since then join at the end of the queue.

    Args:
        path: of the checkpoint.
        trainer: a new one.
        tenants: in the data.
        record: what the training writes of itself.

    Returns: its step, and the adapters that had left.

    Raises: CheckpointError, if it is damaged. ConfigError, if settings or data are other than before.
    """
    state, tensors = _read(path)
    _check_same(path, state, trainer, tenants, record)
    for k, (name, losses) in enumerate(state["members"]):
        trainer.join(tenants[name])
        member = trainer.members[name]
        member.losses = losses
        for key in _TENSORS:
            getattr(trainer.optimizer, key)[member.slot] = tensors[key][k]
    trainer.queue.clear()
    trainer.queue.extend(state["queue"])
    for name, tenant in tenants.items():
        if name not in trainer.members and name not in state["done"]:
            trainer.join(tenant)
    torch.set_rng_state(tensors["random"])
    return int(state["step"]), list(state["done"])


def remove_checkpoints(folder: Path) -> None:
    """Remove all checkpoints, and the folder if nothing else is in it."""
    for path in _checkpoints(folder):
        shutil.rmtree(path)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        tensors = load_file(path / "state.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); remove it and start anew") from error
    if state.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is of format {state.get('format')}, this version reads {FORMAT}; upgrade fourierft"
        )
    return state, tensors


def _check_same(
    path: Path, state: dict[str, Any], trainer: FleetTrainer, tenants: Mapping[str, Tenant], record: dict[str, Any]
) -> None:
    changed = trainer.settings.differing(state["settings"])
    before, now = ({**told, **told["settings"]} for told in (state["record"], record))
    changed += [
        name
        for name, value in now.items()
        if name not in ("settings", "data", "versions") and before.get(name) != value
    ]
    if changed:
        raise ConfigError(f"{path} was trained with another {', '.join(changed)}; resume with the settings it had")
    for name, count in state["rows"].items():
        found = len(tenants[name].train) if name in tenants else 0
        if found != count:
            raise ConfigError(
                f"{path} trains the adapter {name!r} on {count} rows, but the data has {found} of it; resume with the "
                "rows it had (adapters may be added)"
            )


def _checkpoints(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))
