"""Every recipe of `fourierft train` can be asked what it would do, without network, model and data."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest

from fourierft.cli.main import main
from fourierft.training.catalogue import ASSETS
from fourierft.training.settings import read_config

RECIPES = Path(__file__).parents[2] / "recipes"
TRAINED = sorted(path for path in RECIPES.rglob("*.yaml") if path.read_text().startswith("# fourierft train "))


def test_recipes_of_every_family_are_there() -> None:
    counts = {folder: len([path for path in TRAINED if path.parent.name == folder]) for folder in ("glue", "images")}
    assert counts == {"glue": 16, "images": 16}
    assert {path.parent.name for path in TRAINED} == {"glue", "images", "e2e", "instructions", "labels", "stand-ins"}


@pytest.mark.parametrize("path", TRAINED, ids=lambda path: str(path.relative_to(RECIPES)))
def test_recipe_says_what_it_would_download_and_what_is_not_known(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FOURIERFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    status = main(["train", "--config", str(path), "--dry_run"])
    printed, errors = capsys.readouterr()
    recipe, lines = read_config(path), printed.splitlines()
    missing = [name for key in ("model_name_or_path", "dataset_name", "train_file") if (name := recipe.get(key))]
    assert status == (2 if missing else 0)  # it could not start without the hub, and without the file
    assert len(errors.splitlines()) == (1 if missing else 0)
    assert all(name in errors for name in missing)
    model = recipe.get("model_name_or_path") or ASSETS[recipe["model_asset"]].project
    data = recipe.get("dataset_name") or (ASSETS[recipe["data_asset"]].project if "data_asset" in recipe else None)
    for name in filter(None, (model, data)):
        assert [line for line in lines if line.startswith("to download") and name in line]
    rows = data or recipe["train_file"]
    assert [line for line in lines if line.startswith("Not known: the rows and the steps, as") and rows in line]
    assert [line for line in lines if line.startswith("Not known: the parameters, their bytes and the memory, as")]
    assert not list(tmp_path.iterdir())
