"""Photos of a subject, and the settings of a training of seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate.state import AcceleratorState, PartialState
from PIL import Image

from fourierft.training.diffusion.arguments import DreamBoothArguments, build_arguments


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    """Accelerate keeps its settings for the life of a process; every test has its own."""
    yield
    AcceleratorState._reset_state()
    PartialState._reset_state()


def save_photos(folder: Path, count: int, seed: int, size: tuple[int, int] = (20, 24)) -> Path:
    """Photos of a bright square on a dark ground."""
    folder.mkdir()
    draw = np.random.default_rng(seed)
    for number in range(count):
        pixels = draw.integers(0, 40, (*size, 3), dtype=np.uint8)
        pixels[6:14, 6:14] += np.uint8(200)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three photos."""
    return save_photos(tmp_path / "photos", 3, seed=0)


@pytest.fixture
def build(tiny_sd: Path, photos: Path, tmp_path: Path) -> Callable[..., DreamBoothArguments]:
    """Arguments of a training of 4 steps on those photos, with any setting changed."""

    def build(**settings: Any) -> DreamBoothArguments:
        given = {"model_name_or_path": str(tiny_sd), "instance_data_dir": str(photos), "use_cpu": True}
        given |= {"instance_prompt": "a photo of sks dog", "output_dir": str(tmp_path / "out"), "max_steps": 4}
        return build_arguments({**given, "n_frequency": 50, "learning_rate": 1e-3, "logging_steps": 1, **settings})

    return build
