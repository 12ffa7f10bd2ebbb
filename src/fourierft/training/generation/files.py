"""The folder that generated texts are written to.

    settings.json       what the texts come from: the model's weights, the prompts, the search
    predictions.jsonl   a line a prompt: prompt, prediction, references
    metrics.json        the five metrics, and how they were made
    system.txt, references.txt   the same texts as the script of the E2E challenge reads them: `measure_scores.py
                        references.txt system.txt`

and, as long as texts are missing, `unfinished.jsonl` with those that are there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fourierft.errors import OutputExistsError
from fourierft.files import write_text
from fourierft.training import lock, output
from fourierft.training.generation.prompts import Item

SETTINGS, PREDICTIONS, UNFINISHED, METRICS = "settings.json", "predictions.jsonl", "unfinished.jsonl", "metrics.json"
SYSTEM, REFERENCES = "system.txt", "references.txt"


def find_texts(folder: Path, settings: dict[str, Any], overwrite: bool) -> dict[int, str]:
    """The texts of these settings that are there already, by the number of their prompt. Writes nothing.

    Raises: OutputExistsError, if the folder holds anything else and `overwrite` is not set.
    """
    before = _read_settings(folder)
    if before == settings:
        return _read_texts(folder)
    if (
        folder.exists()
        and (not folder.is_dir() or any(path.name != lock.FILE for path in folder.iterdir()))
        and not (overwrite and folder.is_dir())
    ):
        changed = [name for name in settings if before and before.get(name) != settings[name]]
        what = f"texts of another {', '.join(changed)}" if changed else "something else"
        raise OutputExistsError(f"{folder} holds {what}; choose another folder, or give --overwrite")
    return {}


def start_folder(folder: Path, settings: dict[str, Any]) -> None:
    """Make the folder ready for texts of these settings; those of others in it go."""
    if _read_settings(folder) == settings:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in (SETTINGS, PREDICTIONS, UNFINISHED, METRICS, SYSTEM, REFERENCES):
        (folder / name).unlink(missing_ok=True)
    output.write_json(folder / SETTINGS, settings)


def _read_settings(folder: Path) -> Any:
    try:
        return json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _read_texts(folder: Path) -> dict[int, str]:
    finished = folder / PREDICTIONS
    if finished.is_file():
        return {item: row["prediction"] for item, row in enumerate(output.read_json_lines(finished))}
    return {row["item"]: row["prediction"] for row in output.read_json_lines(folder / UNFINISHED)}


def append_text(folder: Path, item: int, text: str) -> None:
    """Keep one text; on return it is on the disk."""
    output.append_json_line(folder / UNFINISHED, {"item": item, "prediction": text})


def write_results(folder: Path, items: Sequence[Item], texts: Sequence[str], metrics: dict[str, Any]) -> None:
    """Write the finished texts, for people and for the challenge's script, and their metrics."""
    rows = [
        {"prompt": item.prompt, "prediction": text, "references": item.references}
        for item, text in zip(items, texts, strict=True)
    ]
    write_text(folder / SYSTEM, "".join(f"{_line(text)}\n" for text in texts))
    groups = ("".join(f"{_line(reference)}\n" for reference in item.references) for item in items)
    write_text(folder / REFERENCES, "\n".join(groups))
    output.write_json(folder / METRICS, metrics)
    output.write_json_lines(folder / PREDICTIONS, rows)
    (folder / UNFINISHED).unlink(missing_ok=True)


def _line(text: str) -> str:
    return " ".join(text.split())
