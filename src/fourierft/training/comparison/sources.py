"""Models and data that a task file names by one word, fetched and prepared when they are first asked for."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fourierft.errors import ConfigError, DataError
from fourierft.extras import needs
from fourierft.training.assets import MADE, cache_root, find_model, make_once, obtain, replacing
from fourierft.training.catalogue import (
    ALPACA,
    DINOV2,
    MINILM,
    MNIST,
    QWEN_HALF,
    QWEN_LARGER,
    SMOLLM2,
    VADER,
    WORDNET,
    to_fetch,
)
from fourierft.training.conversion import convert, convert_gguf, convert_onnx_dinov2, find_member
from fourierft.training.generation.wordnet import WordNet
from fourierft.training.sentences import find_archive, read_ratings, read_sentences

SEED = 7
SPLITS = ("train", "validation")
LONGEST_PROMPT = 80  # characters
GLOSS_WORDS = range(4, 17)
ASSET_SETTINGS = ("model_asset", "data_asset", "train_rows", "validation_rows")
Rows = Sequence[dict[str, Any]]
convert_gguf_to_bfloat16 = partial(convert_gguf, dtype=torch.bfloat16)  # the precision these models were published in

MODELS: dict[str, Callable[[], Path]] = {
    "minilm": lambda: find_model(obtain(MINILM)),
    "smollm2": lambda: convert(SMOLLM2, convert_gguf, "gguf"),
    "dinov2": lambda: convert(DINOV2, convert_onnx_dinov2, "onnx"),
    "qwen-0.5b": lambda: convert(QWEN_HALF, convert_gguf_to_bfloat16, "gguf"),
    "qwen-1.5b": lambda: convert(QWEN_LARGER, convert_gguf_to_bfloat16, "gguf"),
}


def find_asset_model(name: str) -> Path:
    """The directory of a model by its word.

    Raises: ConfigError, if there is no such word. DataError, if it can't be downloaded.
    """
    if name not in MODELS:
        raise ConfigError(f"model_asset={name} is unknown; use one of {', '.join(MODELS)}, or model_name_or_path")
    return MODELS[name]()


def prepare_asset_data(name: str, sizes: tuple[int, int]) -> dict[str, Path]:
    """Files to train and to validate on, by the names of their settings; the same rows on every machine.

    Args:
        name: the data's word.
        sizes: rows to train on and rows to validate on.

    Raises: ConfigError, if there is no such word. DataError, if it can't be downloaded or has too few rows.
    """
    if name not in DATA:
        raise ConfigError(f"data_asset={name} is unknown; use one of {', '.join(DATA)}, or train_file")
    folder = cache_root() / f"compare-{name}-{sizes[0]}-{sizes[1]}"

    def make() -> None:
        rows = DATA[name]()
        if sum(sizes) > len(rows):
            raise DataError(
                f"{name} has {len(rows)} rows, fewer than the {sum(sizes)} of train_rows and validation_rows"
            )
        drawn = iter(random.Random(SEED).sample(list(rows), sum(sizes)))
        with replacing(folder) as work:
            (work / MADE).mkdir()
            for split, size in zip(SPLITS, sizes, strict=True):
                chosen = [next(drawn) for _ in range(size)]
                if split == "validation" and "text" in chosen[0]:  # batches of equals need little padding
                    chosen.sort(key=lambda row: len(row["text"]))
                write_parquet(chosen, work / MADE / f"{split}.parquet")

    make_once(folder, make)
    return {f"{split}_file": folder / f"{split}.parquet" for split in SPLITS}


def with_assets(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a training with `model_asset` and `data_asset` replaced by what they name; a model named wins.

    A dry run downloads nothing: it leaves words in place whose archive is not in the cache.

    Raises: ConfigError, if there is no such word. DataError, if something can't be downloaded.
    """
    left = [name for name in ("model_asset", "data_asset") if settings.get("dry_run") and to_fetch(settings.get(name))]
    named = {name: value for name, value in settings.items() if name not in ASSET_SETTINGS or name in left}
    if settings.get("model_asset") and "model_asset" not in left and not named.get("model_name_or_path"):
        named["model_name_or_path"] = str(find_asset_model(settings["model_asset"]))
    if settings.get("data_asset") and "data_asset" not in left:
        sizes = (settings.get("train_rows", 1000), settings.get("validation_rows", 500))
        files = prepare_asset_data(settings["data_asset"], sizes)
        named |= {name: str(path) for name, path in files.items() if not named.get(name)}
    return named


def write_parquet(rows: Rows, file: Path) -> None:
    """Write rows, images as PNG, so that `datasets` reads them back as they are."""
    with needs("train", "writing data"):
        from datasets import Dataset, Image

    data = Dataset.from_list(list(rows))
    (data.cast_column("image", Image()) if "image" in data.column_names else data).to_parquet(file)


def read_movies() -> Rows:
    """Sentences of movie reviews with the class negative or positive."""
    return [{"text": text, "label": label} for text, label in read_sentences(find_archive(obtain(VADER)))]


def read_movie_ratings() -> Rows:
    """Sentences of movie reviews with their rating from -4 to 4."""
    return [{"text": text, "label": rating} for text, rating in read_ratings(find_archive(obtain(VADER))).items()]


def read_instructions() -> Rows:
    """Alpaca-style instructions of at most LONGEST_PROMPT characters, with their answers."""
    rows = json.loads(find_member(obtain(ALPACA), ALPACA).read_text(encoding="utf-8"))
    names = ("instruction", "input", "output")
    kept = [{name: row[name].strip() for name in names} for row in rows if row["output"].strip()]
    return [row for row in kept if len(row["instruction"] + row["input"]) <= LONGEST_PROMPT]


def read_glosses() -> Rows:
    """WordNet's nouns as data to be put into words: name, other names and kind, with the first part of the gloss."""
    folder = find_member(obtain(WORDNET), WORDNET).parent
    rows = []
    for noun in WordNet(folder).nouns():
        definition = noun.gloss.partition(";")[0].strip()
        if noun.kind and len(definition.split()) in GLOSS_WORDS:
            name, *others = (word.replace("_", " ") for word in noun.words)
            parts = [
                f"name[{name}]",
                *(f"also[{other}]" for other in others[:2]),
                f"kind[{noun.kind.replace('_', ' ')}]",
            ]
            rows.append({"mr": ", ".join(parts), "ref": definition})
    return rows


def read_digits() -> Rows:
    """MNIST's first 500 images of each digit, 28 x 28, as PNG."""
    with needs("train", "reading images"):
        from PIL import Image

    rows = []
    with gzip.open(find_member(obtain(MNIST), MNIST), "rt") as file:
        for line in csv.reader(file):
            *pixels, label = (int(float(value)) for value in line)
            sink = io.BytesIO()
            Image.frombytes("L", (28, 28), bytes(pixels)).save(sink, format="PNG")
            rows.append({"image": {"bytes": sink.getvalue(), "path": None}, "label": str(label)})
    return rows


DATA: dict[str, Callable[[], Rows]] = {
    "movies": read_movies,
    "ratings": read_movie_ratings,
    "instructions": read_instructions,
    "digits": read_digits,
    "glosses": read_glosses,
}
