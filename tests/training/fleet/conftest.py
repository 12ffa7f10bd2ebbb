"""Rows of several adapters, a base without dropout, and the settings of a training of seconds."""

from __future__ import annotations

import csv
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fourierft.training.arguments import DataArguments, MethodArguments, ModelArguments
from fourierft.training.fleet.settings import FleetArguments, FleetSettings

WORDS = (["good", "great", "fine", "lovely"], ["bad", "awful", "poor", "dull"])
COUNTS = {"ann": 8, "bob": 5, "cy": 9}


@pytest.fixture(scope="session")
def calm_bert(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny_bert without dropout, so that what is trained together can be compared with what is trained alone."""
    folder = tmp_path_factory.mktemp("calm") / "bert"
    shutil.copytree(tiny_bert, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def make_rows() -> Callable[..., list[dict[str, Any]]]:
    """Rows mixed by chance, 8 of ann, 5 of bob and 9 of cy if not told otherwise; for bob, good is bad."""

    def make(**counts: int) -> list[dict[str, Any]]:
        draw, rows = random.Random(0), []
        for name, count in (counts or COUNTS).items():
            for _ in range(count):
                is_good = draw.random() < 0.5
                text = f"the film is {'very ' * draw.randrange(3)}{draw.choice(WORDS[is_good != (name == 'bob')])}"
                rows.append({"adapter": name, "text": text, "label": "yes" if is_good else "no"})
        draw.shuffle(rows)
        return rows

    return make


@pytest.fixture
def write() -> Callable[[list[dict[str, Any]], Path], Path]:
    """Writes rows as csv."""

    def write(rows: list[dict[str, Any]], file: Path) -> Path:
        with file.open("w", newline="") as sink:
            writer = csv.DictWriter(sink, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return file

    return write


@pytest.fixture
def data(make_rows: Any, write: Any, tmp_path: Path) -> Path:
    return write(make_rows(), tmp_path / "data.csv")


@pytest.fixture
def build(calm_bert: Path, data: Path, tmp_path: Path) -> Callable[..., FleetArguments]:
    """Arguments of a training of the three, with any setting changed."""

    def build(**changes: Any) -> FleetArguments:
        def fill(kind: Any, **defaults: Any) -> Any:
            names = kind.__dataclass_fields__
            return kind(**{**defaults, **{name: value for name, value in changes.items() if name in names}})

        return FleetArguments(
            model=fill(ModelArguments, model_name_or_path=str(calm_bert)),
            data=fill(DataArguments, train_file=str(data)),
            store=str(tmp_path / changes.get("store", "fleet.db")),
            method=fill(MethodArguments, n_frequency=40),
            fleet=fill(FleetSettings, adapters=2, epochs=4, validation_fraction=0.0),
            resume=changes.get("resume", False),
        )

    return build
