"""Images of a pipeline, and of one that was trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fourierft.errors import CheckpointError, ConfigError, OutputExistsError
from fourierft.training.diffusion.arguments import DreamBoothArguments
from fourierft.training.diffusion.pipeline import load_pipeline
from fourierft.training.diffusion.sampling import count_others, fill_folder, load_trained_pipeline
from fourierft.training.diffusion.trainer import train_dreambooth

SMALL: dict[str, Any] = {"seed": 0, "steps": 2, "height": 16, "width": 16}


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_only_missing_images_are_made_and_they_are_the_same(tiny_sd: Path, tmp_path: Path) -> None:
    pipeline = load_pipeline(str(tiny_sd))
    paths = fill_folder(pipeline, "a dog", 3, tmp_path / "all", **SMALL)
    assert [path.name for path in paths] == ["0000.png", "0001.png", "0002.png"]
    assert not np.array_equal(pixels(paths[0]), pixels(paths[1]))
    for part in ((0, 2), (1, 2)):
        fill_folder(pipeline, "a dog", 3, tmp_path / "shared", part=part, **SMALL)
    for path in paths:
        assert np.array_equal(pixels(path), pixels(tmp_path / "shared" / path.name))
    before = paths[0].stat().st_mtime_ns
    paths[2].unlink()
    fill_folder(pipeline, "a dog", 3, tmp_path / "all", **SMALL)
    assert paths[0].stat().st_mtime_ns == before
    assert np.array_equal(pixels(paths[2]), pixels(tmp_path / "shared" / "0002.png"))


def test_images_of_whatever_name_that_were_not_made_are_the_users_own(tiny_sd: Path, tmp_path: Path) -> None:
    assert count_others(tmp_path / "nowhere") == 0
    photo = Image.new("RGB", (16, 16), (200, 0, 0))
    for name in ("0001.png", "0001.jpg", "rex.png"):
        photo.save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "0012.png").touch()
    paths = fill_folder(load_pipeline(str(tiny_sd)), "a dög", 2, tmp_path, **SMALL)
    assert [path.name for path in paths] == ["0000.png", "0002.png"]
    assert np.array_equal(pixels(tmp_path / "0001.png"), np.asarray(photo))
    assert count_others(tmp_path) == 4
    with pytest.raises(
        OutputExistsError, match="holds images of the prompt 'a dög', not of 'a cat'; name another folder"
    ):
        fill_folder(load_pipeline(str(tiny_sd)), "a cat", 2, tmp_path, **SMALL)


def test_trained_pipeline_makes_other_images_than_its_base(
    build: Callable[..., DreamBoothArguments], tiny_sd: Path, tmp_path: Path
) -> None:
    train_dreambooth(build(learning_rate=1e-1))
    images = [
        fill_folder(pipeline, "a photo of sks dog", 1, tmp_path / name, **SMALL)[0]
        for name, pipeline in (("base", load_pipeline(str(tiny_sd))), ("new", load_trained_pipeline(tmp_path / "out")))
    ]
    assert not np.array_equal(pixels(images[0]), pixels(images[1]))
    assert load_trained_pipeline(tmp_path / "out", torch.bfloat16).unet.dtype == torch.bfloat16


def test_training_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fourierft.json").write_text(json.dumps({"format": 1, "task": "classification"}))
    with pytest.raises(CheckpointError, match="holds another kind of training"):
        load_trained_pipeline(tmp_path)


def test_pipeline_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere can't be loaded"):
        load_pipeline(str(tmp_path / "nowhere"))
