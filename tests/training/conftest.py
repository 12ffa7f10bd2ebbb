"""Small data to train on, and the settings of a training of seconds."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fourierft.training.arguments import Arguments
from fourierft.training.settings import build_arguments

GOOD, BAD, OTHER = (
    ["good", "great", "fine", "lovely"],
    ["bad", "awful", "poor", "dull"],
    ["the film is", "a book was so"],
)


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
