"""Data by one word: prepared once, the same rows every time, as `datasets` reads them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from fourierft.errors import DataError
from fourierft.training.comparison import sources
from fourierft.training.comparison.sources import prepare_asset_data


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOURIERFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_rows_are_drawn_once_and_disjoint(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"text": "x" * (k + 1), "label": str(k)} for k in range(30)]
    monkeypatch.setitem(sources.DATA, "movies", lambda: rows)
    files = prepare_asset_data("movies", (20, 10))
    train, validation = (Dataset.from_parquet(str(file)) for file in files.values())
    assert list(files) == ["train_file", "validation_file"]
    assert (len(train), len(validation)) == (20, 10)
    assert {*train["label"], *validation["label"]} == {str(k) for k in range(30)}
    lengths = [len(text) for text in validation["text"]]
    assert lengths == sorted(lengths)
    monkeypatch.setitem(sources.DATA, "movies", lambda: pytest.fail("all was there"))
    assert prepare_asset_data("movies", (20, 10)) == files


def test_more_rows_than_there_are_is_refused(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setitem(sources.DATA, "movies", lambda: [{"text": "a", "label": "b"}])
    with pytest.raises(DataError, match="movies has 1 rows, fewer than the 2 of train_rows and validation_rows"):
        prepare_asset_data("movies", (1, 1))
    assert not cache.exists()


def test_digits_are_images_of_the_pixels_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.arange(784) % 256
    with gzip.open(tmp_path / "mnist_5k.csv.gz", "wt") as file:
        file.writelines(",".join(map(str, [*np.roll(pixels, k), k])) + "\n" for k in range(4))
    monkeypatch.setattr(sources, "obtain", lambda asset: tmp_path)
    files = prepare_asset_data("digits", (2, 2))
    for row in Dataset.from_parquet(str(files["train_file"])):
        assert (np.asarray(row["image"]) == np.roll(pixels, int(row["label"])).reshape(28, 28)).all()


def test_long_or_unanswered_instructions_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, Any] = {"instruction": "Add.", "input": "1 and 1", "output": "2"}
    others = [{**kept, "output": " "}, {**kept, "input": "long" * 40}]
    (tmp_path / "alpaca_en_demo.json").write_text(json.dumps([kept, *others]))
    monkeypatch.setattr(sources, "obtain", lambda asset: tmp_path)
    assert sources.read_instructions() == [kept]


def test_glosses_are_told_of_name_other_names_and_kind(wordnet_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "obtain", lambda asset: wordnet_folder)
    monkeypatch.setattr(sources, "GLOSS_WORDS", range(3, 4))
    assert sources.read_glosses() == [
        {"mr": "name[dog], also[domestic dog], kind[entity]", "ref": "a tame animal"},
        {"mr": "name[man], also[adult male], kind[entity]", "ref": "a grown male"},
    ]
