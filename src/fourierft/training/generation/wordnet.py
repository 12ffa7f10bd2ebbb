"""Princeton's WordNet in its own files (wndb(5WN), morphy(7WN)): synonyms of words, and nouns with their glosses.

    wordnet = WordNet(find_wordnet())
    wordnet.synsets("dogs")[0].lemmas()      # ["dog", "domestic_dog", "Canis_familiaris"]

`synsets` and `lemmas` are what nltk's METEOR asks its own reader for, which needs more files than WordNet has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fourierft.errors import DataError
from fourierft.training.assets import cache_root
from fourierft.training.catalogue import WORDNET

DEBIAN = Path("/usr/share/wordnet")  # of the package wordnet-base
CLASSES = ("noun", "verb", "adj", "adv")
ENDINGS: dict[str, tuple[tuple[str, str], ...]] = {
    "noun": (
        *(("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z")),
        *(("ches", "ch"), ("shes", "sh"), ("men", "man"), ("ies", "y")),
    ),
    "verb": (
        *(("s", ""), ("ies", "y"), ("es", "e"), ("es", "")),
        *(("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    ),
    "adj": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "adv": (),
}


class Lemma(str):
    """A word of a synset; words of several parts are joined by underscores."""

    def name(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Synset:
    """Words of one meaning.

    Attributes:
        words: at least one.
        kind: first word of the first meaning above it; None at the top.
        gloss: its definition, without examples.
    """

    words: tuple[Lemma, ...]
    kind: str | None
    gloss: str

    def lemmas(self) -> tuple[Lemma, ...]:
        return self.words


class WordNet:
    """The database files of one folder: index.noun and data.noun, the same of verb, adj and adv, and exceptions
    (noun.exc, ...) if there are any. A data file may be cut into parts, data.noun1 and data.noun2.

    Raises: DataError, if one is missing.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._known: dict[str, list[Synset]] = {}
        missing = [name for name in CLASSES if not (self.folder / f"index.{name}").is_file() or not self._parts(name)]
        if missing:
            raise DataError(
                f"{folder} has no index.{missing[0]} with data.{missing[0]}; name a folder of WordNet's database "
                f"files, such as {DEBIAN} of Debian's package wordnet-base"
            )

    def _parts(self, name: str) -> list[Path]:
        return sorted(self.folder.glob(f"data.{name}*"))

    @cached_property
    def _index(self) -> dict[str, dict[str, list[int]]]:
        return {name: dict(self._read_index(name)) for name in CLASSES}

    def _read_index(self, name: str) -> Iterator[tuple[str, list[int]]]:
        for line in (self.folder / f"index.{name}").read_text(encoding="utf-8").splitlines():
            if not line.startswith(" "):  # the licence
                fields = line.split()
                yield fields[0], [int(field) for field in fields[-int(fields[2]) :]]

    @cached_property
    def _exceptions(self) -> dict[str, dict[str, list[str]]]:
        files = {name: self.folder / f"{name}.exc" for name in CLASSES}
        return {
            name: {words[0]: words[1:] for words in map(str.split, file.read_text(encoding="utf-8").splitlines())}
            if file.is_file()
            else {}
            for name, file in files.items()
        }

    @cached_property
    def _data(self) -> dict[str, bytes]:
        parts = {name: [part.read_bytes().rstrip(b"\n") for part in self._parts(name)] for name in CLASSES}
        return {name: b"\n".join([*content, b""]) for name, content in parts.items()}

    def synsets(self, word: str) -> list[Synset]:
        """The meanings of a word in any of its forms, as noun, verb, adjective and adverb."""
        if word not in self._known:
            self._known[word] = [
                self._read(name, offset)
                for name in CLASSES
                for form in self._base_forms(word.lower(), name)
                for offset in self._index[name][form]
            ]
        return self._known[word]

    def _base_forms(self, word: str, name: str) -> list[str]:
        rules = [word.removesuffix(old) + new for old, new in ENDINGS[name] if word.endswith(old)]
        forms = [word, *self._exceptions[name].get(word, rules)]
        return [form for form in dict.fromkeys(forms) if form in self._index[name]]

    def nouns(self) -> Iterator[Synset]:
        """All meanings of nouns, in the order of the file."""
        data, offset = self._data["noun"], 0
        while offset < len(data):
            if data[offset : offset + 1] != b" ":
                yield self._read("noun", offset)
            offset = data.index(b"\n", offset) + 1

    def commonest(self, name: str, count: int) -> dict[str, Synset]:
        """The words of a class (noun, verb, adj, adv) that have most meanings in it, with the first, the commonest."""
        index = self._index[name]
        words = sorted((word for word in index if word.isalpha()), key=lambda word: (-len(index[word]), word))
        return {word: self._read(name, index[word][0]) for word in words[:count]}

    def _read(self, name: str, offset: int) -> Synset:
        line = self._line(name, offset)
        fields, _, gloss = line.partition(" | ")
        words, pointers = _parse(fields.split())
        above = next((int(pointer[1]) for pointer in pointers if pointer[0] in ("@", "@i")), None)
        kind = None if above is None else _parse(self._line(name, above).split())[0][0]
        return Synset(words, kind, gloss.partition('"')[0].strip().rstrip(";:"))

    def _line(self, name: str, offset: int) -> str:
        data = self._data[name]
        return data[offset : data.index(b"\n", offset)].decode()


def _parse(fields: list[str]) -> tuple[tuple[Lemma, ...], list[list[str]]]:
    """Words and pointers of a line of a data file: of a pointer symbol, offset, class and words."""
    end = 4 + 2 * int(fields[3], 16)
    words = tuple(Lemma(word.partition("(")[0]) for word in fields[4:end:2])
    return words, [fields[start : start + 4] for start in range(end + 1, end + 1 + 4 * int(fields[end]), 4)]


def find_wordnet(given: str | Path | None = None) -> Path | None:
    """The folder of WordNet's files: the one given, else that of the cache or of Debian's package; None if none is
    there. Nothing is downloaded."""
    if given:
        return Path(given)
    cached = next((cache_root() / WORDNET.folder).glob("**/index.noun"), None)
    found = [file for file in (cached, DEBIAN / "index.noun") if file and file.is_file()]
    return found[0].parent if found else None
