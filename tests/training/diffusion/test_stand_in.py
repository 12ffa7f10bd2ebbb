"""The stand-in in seconds: its pieces, and that nothing is made twice."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fourierft.errors import OutputExistsError
from fourierft.training.diffusion import stand_in
from fourierft.training.diffusion.pipeline import load_pipeline
from fourierft.training.diffusion.small import make_small_pipeline, read_images
from fourierft.training.diffusion.stand_in import Sizes, run_stand_in


def digit(value: int, seed: int) -> dict:
    pixels = np.random.default_rng(seed).integers(0, 30, (28, 28), dtype=np.uint8)
    pixels[2 + 2 * value : 6 + 2 * value, 4:24] = 255
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, format="PNG")
    return {"image": {"bytes": sink.getvalue(), "path": None}, "label": str(value)}


def test_images_are_the_middle_in_grey_and_smaller() -> None:
    images = read_images([digit(3, 0)])
    assert images.shape == (1, 3, 16, 16)
    assert torch.equal(images[0, 0], images[0, 2])
    assert (images[0, 0, 5, 2:13] > 0.9).all()  # in the midst of rows 8 to 11 of 28, columns 4 to 23
    assert (images[0, 0, 9:] < -0.7).all()


def test_small_pipeline_learns_to_keep_images_and_to_find_noise(tmp_path: Path) -> None:
    images = read_images([digit(k % 5, k) for k in range(8)])
    prompts = [f"a photo of {'abcde'[k % 5]}" for k in range(8)]
    losses = {}
    for name, steps in (("new", 1), ("trained", 30)):
        make_small_pipeline(images, prompts, tmp_path / name, autoencoder_steps=steps, unet_steps=steps, seed=0)
        pipeline = load_pipeline(str(tmp_path / name))
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            latents = pipeline.vae.encode(images).latent_dist.mean * pipeline.vae.config.scaling_factor
            kept = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
            noise = torch.randn(latents.shape, generator=generator)
            timesteps = torch.linspace(20, 980, 8).long()
            noisy = pipeline.scheduler.add_noise(latents, noise, timesteps)
            found = pipeline.unet(noisy, timesteps, torch.zeros(8, 24, 64)).sample
        assert latents.std() == pytest.approx(1.0, rel=1e-3)
        losses[name] = ((kept - images).square().mean(), (found - noise).square().mean())
    assert losses["trained"][0] < 0.7 * losses["new"][0]
    assert losses["trained"][1] < 0.9 * losses["new"][1]


def test_every_way_leaves_a_line_and_is_done_once(
    tmp_path: Path, tiny_dinov2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stand_in, "read_digits", lambda: [digit(k % 10, k) for k in range(90)])
    monkeypatch.setattr(stand_in, "find_asset_model", lambda name: tiny_dinov2)
    sizes = Sizes(autoencoder_steps=1, unet_steps=1, photos=2, others=4, steps=1, images=2, inference_steps=1)
    folder = tmp_path / "nines"
    lines = run_stand_in(folder, sizes)
    assert [line["method"] for line in lines] == ["before", "LoRA r=4", "FourierFT n=500", "real photos"]
    assert len({line["fid"] for line in lines}) == 4
    assert lines[2]["parameters"] % 500 == 0
    assert [len(list((folder / name).iterdir())) for name in ("photos", "others", "real-photos")] == [2, 4, 2]
    monkeypatch.setattr(stand_in, "train_dreambooth", lambda arguments: pytest.fail("all was there"))
    monkeypatch.setattr(stand_in, "make_small_pipeline", lambda *args, **options: pytest.fail("all was there"))
    assert run_stand_in(folder, sizes) == lines


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"is not empty and has no complete stand-in\.json"):
        run_stand_in(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
