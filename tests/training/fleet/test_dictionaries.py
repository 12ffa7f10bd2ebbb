"""Three dictionaries in small: a WordNet of six meanings, and a tiny LLaMA."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fourierft import AdapterStore
from fourierft.errors import OutputExistsError
from fourierft.training.fleet import demos, dictionaries
from fourierft.training.fleet.dictionaries import CLASSES, make_dictionaries, shorten, write_files

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture
def make(
    tiny_llama: Path, wordnet_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    monkeypatch.setattr(dictionaries, "convert", lambda *_, **__: tiny_llama)
    monkeypatch.setattr(dictionaries, "obtain", lambda *_, **__: wordnet_folder)
    monkeypatch.setattr(dictionaries, "find_member", lambda *_: wordnet_folder / "index.noun")
    changes = {"max_steps": 2, "validation_fraction": 0.5}
    return lambda **options: make_dictionaries(tmp_path / "out", changes=changes, rows=4, n_frequency=20, **options)


def versions(folder: Path) -> dict[str, list[int]]:
    with AdapterStore(folder / "fleet.db", create=False) as store:
        return {name: list(store.versions(name)) for name in store.names()}


def test_a_dictionary_of_each_class_is_trained_once_and_its_base_is_beside(
    make: Callable[..., dict[str, Any]], tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = make()
    assert set(results["adapters"]) == set(CLASSES)
    assert all(metrics["answer_loss"] > 0 for metrics in results["adapters"].values())
    assert versions(tmp_path / "out") == {name: [1] for name in sorted(CLASSES)}
    assert (tmp_path / "out/base").resolve() == tiny_llama.resolve()
    with monkeypatch.context() as patch:
        patch.setattr(demos, "train_fleet", lambda _: 1 / 0)
        assert make() == results
    make(fresh=True)
    assert versions(tmp_path / "out") == {name: [1, 2] for name in sorted(CLASSES)}


def test_words_that_will_be_asked_for_are_left_out(
    wordnet_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dictionaries, "ASKED", ("dog",))
    nouns, verbs, adjectives = write_files(wordnet_folder, tmp_path, 3)
    rows = [json.loads(line) for line in nouns.read_text().splitlines()]
    assert {"prompt": "man", "answer": "a grown male"} in rows
    assert "dog" not in {row["prompt"] for row in rows}
    assert {json.loads(line)["answer"] for line in verbs.read_text().splitlines()} == {"move fast"}
    assert adjectives.name == "adjective.jsonl"


def test_a_meaning_is_told_in_one_part() -> None:
    assert shorten("(used of color) having a small amount of colour; pale (or so)") == "having a small amount of colour"


def test_a_folder_of_something_else_is_left_alone(make: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="is not empty"):
        make()
