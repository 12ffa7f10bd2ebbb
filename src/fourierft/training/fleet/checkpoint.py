"""A training of a fleet as files: state.safetensors and state.json in a folder that is written beside, then renamed.

It has the adapters that are in training, each with its moments and its steps; those that are done are in the store.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fourierft.errors import CheckpointError, ConfigError, OutputExistsError
from fourierft.files import written_beside
from fourierft.training.checkpoints import keep_last, read_run, seal
from fourierft.training.fleet.tenants import Tenant
from fourierft.training.fleet.trainer import FleetTrainer
from fourierft.training.output import list_checkpoints
from fourierft.training.resuming import check_same_run

FORMAT, KEPT = 2, 2
_TENSORS = ("numbers", "first", "second", "steps", "totals")


def save_checkpoint(
    folder: Path, step: int, trainer: FleetTrainer, done: list[str], rows: Mapping[str, str], run: Mapping[str, Any]
) -> Path:
    """Write `checkpoint-STEP`; it and the one before it are kept.

    Args:
        folder: of the checkpoints.
        step: number of it.
        trainer: between two steps.
        done: adapters that have left.
        rows: digest of the rows of each adapter.
        run: what makes the run, beside the rows.

    Returns: its path.
    """
    from safetensors.torch import save_file

    members = list(trainer.members.values())
    places = torch.tensor([member.slot for member in members], dtype=torch.long)
    tensors = {name: getattr(trainer.optimizer, name)[places].contiguous() for name in _TENSORS}
    state = {
        "format": FORMAT,
        "step": step,
        "members": [[member.tenant.name, member.losses] for member in members],
        "rows": {member.tenant.name: rows[member.tenant.name] for member in members},
        "queue": list(trainer.queue),
        "done": done,
    }
    path = folder / f"checkpoint-{step}"
    if path.exists():
        shutil.rmtree(path)
    with written_beside(path) as beside:
        save_file({**tensors, "random": torch.get_rng_state()}, beside / "state.safetensors")
        (beside / "state.json").write_text(json.dumps(state, indent=2), encoding="utf-8")
        seal(beside, run)
    keep_last(path, KEPT)
    return path


def check_folder(folder: Path) -> None:
    """Raise OutputExistsError if a training that was interrupted could be gone on with."""
    if list_checkpoints(folder):
        raise OutputExistsError(f"{folder} holds an interrupted training; continue with --resume, or remove the folder")


def load_checkpoint(
    path: Path, trainer: FleetTrainer, tenants: Mapping[str, Tenant], rows: Mapping[str, str], run: Mapping[str, Any]
) -> tuple[int, list[str]]:
    """Bring a trainer to where it was; adapters that came into the data since then join at the end of the queue.

    Args:
        path: of the checkpoint.
        trainer: a new one.
        tenants: in the data.
        rows: digest of the rows of each.
        run: what makes the run, beside the rows.

    Returns: its step, and the adapters that had left.

    Raises: CheckpointError, if it is damaged. ConfigError, if settings or data are other than before.
    """
    state, tensors = _read(path)
    check_same_run(read_run(path), run, path)
    _check_rows(path, state["rows"], rows)
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
    for path in list_checkpoints(folder):
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
        raise CheckpointError(f"{path} is damaged ({error}); remove it and start again") from error
    if state.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has format {state.get('format')}, but this version reads {FORMAT}; upgrade fourierft"
        )
    return state, tensors


def _check_rows(path: Path, rows: Mapping[str, str], found: Mapping[str, str]) -> None:
    for name, before in rows.items():
        now = found.get(name, "none")
        if now != before:
            raise ConfigError(
                f"{path} trained the adapter {name!r} on other rows ({before} before, {now} "
                "now); resume with the same rows (you may add adapters), or start again "
                "with other --checkpoints"
            )
