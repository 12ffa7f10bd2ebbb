"""The directory a training writes to: what is in it, what may go into it, and how it gets there whole."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from fourierft.errors import CheckpointError, DataError, OutputExistsError
from fourierft.files import check_place, write_text, written_to
from fourierft.format.hub import find_in_store, find_near
from fourierft.format.json_file import read_json
from fourierft.training import lock

RECORD = "fourierft.json"
WEIGHTS = "model.safetensors"
TRAINED_WEIGHTS = "trained.safetensors"
HISTORY = "history.json"
METRICS = "metrics.json"
CARD = "README.md"
LAST_RESULTS = (METRICS, CARD)
STAGING = ".unfinished"
RESULTS = (
    RECORD,
    WEIGHTS,
    TRAINED_WEIGHTS,
    "adapter_model.safetensors",
    "adapter_config.json",
    "config.json",
    METRICS,
    HISTORY,
    "curve.png",
    CARD,
)


def check_directory(directory: Path) -> None:
    """See whether results can be written into a directory, there or yet to be made.

    Raises: OutputExistsError, if it is a file. PlaceError, if nothing can be written there.
    """
    if directory.exists() and not directory.is_dir():
        raise OutputExistsError(f"{directory} is a file, not a folder; choose another name")
    check_place(directory)


def check_output(directory: Path, overwrite: bool, resume: bool) -> None:
    """Raise OutputExistsError if `directory` holds anything and neither overwriting nor resuming was asked for."""
    check_directory(directory)
    if not (overwrite or resume) and directory.is_dir() and any(path.name != lock.FILE for path in directory.iterdir()):
        raise OutputExistsError(
            f"{directory} exists and is not empty; choose another --output_dir, or give "
            "--overwrite_output_dir true, or --resume_from_checkpoint true to continue "
            "from its last checkpoint"
        )


def list_checkpoints(directory: Path) -> list[Path]:
    """The checkpoints in a folder, whole or not, in the order of their steps."""
    found = [path for path in directory.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The number of steps after which it was written."""
    return int(checkpoint.name.rpartition("-")[2])


def open_results(directory: Path, name: str) -> dict[str, Any]:
    """The results of an earlier run of an example in this directory; empty, and the file begun, if it is new or empty.

    Args:
        directory: to write to.
        name: of the file of results.

    Raises: OutputExistsError, if it holds something else.
    """
    file = directory / name
    check_directory(directory)
    if directory.is_dir() and any(directory.iterdir()):
        try:
            results = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            results = None
        if not isinstance(results, dict):
            raise OutputExistsError(
                f"{directory} is not empty and has no complete {name} of an earlier run; choose another folder"
            )
        return results
    directory.mkdir(parents=True, exist_ok=True)
    write_json(file, {})
    return {}


def clear_output(directory: Path) -> None:
    """Remove what an earlier training left, and nothing else."""
    for checkpoint in list_checkpoints(directory):
        shutil.rmtree(checkpoint)
    for name in RESULTS:
        (directory / name).unlink(missing_ok=True)


def read_record(directory: str | Path) -> dict[str, Any]:
    """What a training wrote of itself: base model, task, labels, columns and method.

    Raises: CheckpointError, if the directory holds none.
    """
    path = Path(directory) / RECORD
    try:
        record = read_json(path)
    except CheckpointError as error:
        hint = (
            find_near(str(directory))
            or find_in_store(str(directory))
            or "name a directory that `fourierft train` wrote"
        )
        raise CheckpointError(f"{path} is missing or damaged; {hint}") from error
    if not isinstance(record, dict) or record.get("format") != 1:
        raise CheckpointError(f"{path} is not of format 1; use the version of fourierft that wrote it")
    return record


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON; a file that is there is replaced whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_json_lines(path: str | Path, rows: list[dict[str, Any]]) -> None:
    """Write a JSON object a line; a file that is there is replaced whole or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows))


def read_json_lines(file: Path) -> list[dict[str, Any]]:
    """Rows of a file of JSON lines, none if it is not there; a line that a killed process left half is passed over.

    Raises: DataError, if another line is no JSON.
    """
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").split("\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line) if line.strip() else None
        except ValueError:
            row = None
            if not line.startswith("{"):
                raise DataError(f"line {number} of {file} is not JSON; remove it") from None
        if row is not None:
            rows.append(row)
    return rows


def append_json_line(path: Path, row: dict[str, Any]) -> None:
    """Add a line to a file of JSON lines; on return it is on the disk. A line that was left half is closed off."""
    line = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_to(path), path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else f"\n{line}"
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def publish(directory: Path, only_trained: bool) -> int:
    """Move what was saved in the staging directory up into `directory`.

    Args:
        only_trained: the weights are a part of the model's; they get a name no loader takes for a whole model.

    Returns: bytes of the weights.
    """
    staging = directory / STAGING
    left_out = {"training_args.bin"} | ({"config.json"} if only_trained else set())
    size = 0
    for path in sorted(staging.iterdir()):
        if path.name in left_out:
            continue
        name = TRAINED_WEIGHTS if only_trained and path.name == WEIGHTS else path.name
        size += path.stat().st_size if path.suffix == ".safetensors" else 0
        os.replace(path, directory / name)
    shutil.rmtree(staging)
    return size
