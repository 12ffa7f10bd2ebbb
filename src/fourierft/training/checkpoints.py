"""Checkpoints of a training: which are whole, which is the last of those, and which run they belong to.

A checkpoint is a folder `checkpoint-STEP`. Its last file, `checkpoint.json`, has a digest of every other one, so that a
folder that was being written, a file that was cut short and a bit that flipped are all found; and what makes the run.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fourierft.errors import CheckpointError
from fourierft.training.assets import hash_file
from fourierft.training.output import list_checkpoints, write_json

SEAL, FORMAT = "checkpoint.json", 1


def seal(checkpoint: Path, run: Mapping[str, Any]) -> None:
    """Write the last file of a checkpoint.

    Args:
        checkpoint: whose other files are all there.
        run: what makes the run, by name; see `resuming.describe_run`.
    """
    files = {str(path.relative_to(checkpoint)): hash_file(path) for path in _files(checkpoint)}
    write_json(checkpoint / SEAL, {"format": FORMAT, "run": dict(run), "files": files})


def find_fault(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint; None if every file is as it was written."""
    if not checkpoint.is_dir():
        return "there is no such folder"
    try:
        sealed = _read(checkpoint)
    except (OSError, ValueError) as error:
        return f"it was not written to its end ({error})"
    for name, digest in sealed["files"].items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is gone"
        if hash_file(path) != digest:
            return f"{name} has changed since it was written"
    return None


def read_run(checkpoint: Path) -> dict[str, Any]:
    """What makes the run that a whole checkpoint belongs to."""
    return dict(_read(checkpoint)["run"])


def find_checkpoint(wanted: str, directory: Path) -> Path:
    """The checkpoint to go on from.

    Args:
        wanted: a checkpoint's folder, or true: the last in `directory` that is whole; those after it are told of.

    Raises: CheckpointError, if there is none.
    """
    if wanted.lower() != "true":
        fault = find_fault(Path(wanted))
        if fault:
            raise CheckpointError(
                f"{wanted} is not a complete checkpoint: {fault}; name another, or true for the last one"
            )
        return Path(wanted)
    faults: list[str] = []
    for checkpoint in reversed(list_checkpoints(directory)):
        fault = find_fault(checkpoint)
        if fault is None:
            for line in faults:
                print(f"fourierft: {line}; resuming from {checkpoint.name}", file=sys.stderr)
            return checkpoint
        faults.append(f"{checkpoint} is damaged: {fault}")
    found = "; ".join(faults) or "there is none"
    raise CheckpointError(
        f"{directory} has no complete checkpoint to resume from ({found}); start "
        "again, with --overwrite_output_dir true"
    )


def has_checkpoint(directory: Path) -> bool:
    """Whether a training in this folder can be gone on with."""
    return any(find_fault(checkpoint) is None for checkpoint in reversed(list_checkpoints(directory)))


def keep_last(written: Path, limit: int | None, best: str | None = None) -> None:
    """Remove the oldest checkpoints beside one that was written, so that `limit` are left.

    Args:
        written: stays, whatever its number.
        limit: at least 1; None keeps all.
        best: one that stays, too.
    """
    if limit is None:
        return
    for checkpoint in list_checkpoints(written.parent)[:-limit]:
        if checkpoint not in (written, Path(best or written)):
            shutil.rmtree(checkpoint)


def _files(checkpoint: Path) -> list[Path]:
    return sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != SEAL)


def _read(checkpoint: Path) -> dict[str, Any]:
    sealed = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))
    if not isinstance(sealed, dict) or sealed.get("format") != FORMAT:
        raise ValueError(f"{SEAL} is not of format {FORMAT}")
    return sealed
