"""The recipes of other labels train as written, but for steps, on a tiny model and rows of their data sets' layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from fourierft.training.run import train
from fourierft.training.settings import build_arguments, read_config

FOLDER = Path(__file__).parents[2] / "recipes" / "labels"
TAGS = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"]
WORDS = ["the", "film", "is", "good"]


def make_emotions() -> Dataset:
    """Rows as GoEmotions has them."""
    names = [f"emotion {k}" for k in range(27)] + ["neutral"]
    features = Features({"text": Value("string"), "labels": List(ClassLabel(names=names)), "id": Value("string")})
    rows = {"text": ["the film is good", "a book"] * 8, "labels": [[k, 27] for k in range(16)], "id": ["x"] * 16}
    return Dataset.from_dict(rows, features=features)


def make_names() -> Dataset:
    """Rows as WikiANN has them."""
    words = List(Value("string"))
    features = Features({"tokens": words, "ner_tags": List(ClassLabel(names=TAGS)), "langs": words, "spans": words})
    rows = {"tokens": [WORDS] * 16, "ner_tags": [[0, 1, 2, 5]] * 16}
    rows |= {"langs": [["en"] * 4] * 16, "spans": [["PER: film is"]] * 16}
    return Dataset.from_dict(rows, features=features)


@pytest.mark.parametrize(("name", "rows"), [("emotions", make_emotions()), ("names", make_names())])
def test_a_recipe_trains_as_written(name: str, rows: Dataset, tiny_bert: Path, tmp_path: Path) -> None:
    recipe = FOLDER / f"{name}.yaml"
    first = recipe.read_text().splitlines()[0]
    assert first == f"# fourierft train --config recipes/labels/{name}.yaml --output_dir runs/{name}"
    folder = tmp_path / "data"
    for split in ("train", "validation"):
        rows.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    here: dict[str, Any] = {
        "model_name_or_path": str(tiny_bert),
        "dataset_name": str(folder),
        "dataset_config_name": None,
    }
    here |= {"max_length": 16, "max_steps": 2, "use_cpu": True, "disable_tqdm": True, "report_to": "none"}
    settings = {**read_config(recipe), **here, "output_dir": str(tmp_path / "out")}
    settings |= {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    metrics = train(build_arguments(settings))
    assert metrics["main_metric"] == settings["metric_for_best_model"]
    assert metrics["rows"] == {"train": 16, "validation": 16}
    assert not metrics["diverged"]
