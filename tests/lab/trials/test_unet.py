"""The trial of a UNet: the loss is DDPM's, a run is measured before and after, and rows become a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from PIL import Image

from fourierft.training.diffusion.pipeline import load_pipeline, silent
from fourierft.training.diffusion.small import SIDE, build_small_pipeline
from lab.trials import unet
from lab.trials.unet import AS_ON_XL, LORA, fixed_loss, table_rows, train


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A pipeline of random weights, photos to train on and others."""
    (tmp_path / "words").mkdir()
    torch.manual_seed(0)
    with silent():
        build_small_pipeline(tmp_path / "words").save_pretrained(tmp_path / "model")
    draw = np.random.default_rng(0)
    for name, count in (("photos", 2), ("others", 3)):
        (tmp_path / name).mkdir()
        for number in range(count):
            pixels = draw.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    yield tmp_path
    AcceleratorState._reset_state()
    PartialState._reset_state()


def test_loss_is_that_of_finding_the_noise(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = load_pipeline(str(stand_in / "model"))
    seen: list[torch.Tensor] = []

    def find_nothing(latents: torch.Tensor, steps: torch.Tensor, text: torch.Tensor) -> Any:
        seen.append(steps)
        return type("Found", (), {"sample": torch.zeros_like(latents)})

    monkeypatch.setattr(pipeline.unet, "forward", find_nothing)
    noise = torch.randn(3, 4, SIDE // 2, SIDE // 2, generator=torch.Generator().manual_seed(0))
    assert fixed_loss(pipeline, stand_in / "others") == pytest.approx(float(noise.square().mean()), rel=1e-5)
    assert seen[0].tolist() == [166, 500, 833]
    fixed_loss(pipeline, stand_in / "others", 2)
    assert seen[1].tolist() == [83, 250, 416, 583, 750, 916]


@pytest.mark.parametrize("settings", [AS_ON_XL, LORA])
def test_a_run_is_measured_before_and_after(stand_in: Path, settings: dict[str, Any]) -> None:
    found = train(stand_in, settings, seed=0, rate=1e-2, steps=2)
    plain = load_pipeline(str(stand_in / "model"))
    assert found["others"][0] == fixed_loss(plain, stand_in / "others")
    assert found["photos"][0] == fixed_loss(plain, stand_in / "photos", 8)
    assert found["photos"][1] != found["photos"][0]
    assert found["trained"] == (56 * 1000 if settings is AS_ON_XL else 46_592)


def test_rows_become_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unet, "METHODS", {"one": {}, "other": {}})
    rows = [
        {"method": name, "photos": [0.2, after], "others": [0.3, 0.3], "trained": 1000}
        for name, after in (("one", 0.1), ("one", 0.12), ("other", 0.15))
    ]
    assert table_rows(rows)[1:] == [
        ("as it is", "0", "0.2000", "0.3000", ""),
        ("one", "1,000", "0.1100 (0.0141)", "0.3000 (0.0000)", "2"),
        ("other", "1,000", "0.1500", "0.3000", "1"),
    ]
