"""Photos in, samples out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fourierft.errors import DataError
from fourierft.training.diffusion.data import (
    Concept,
    cut_square,
    draw_sample,
    encode_concept,
    find_images,
    open_photo,
    open_readable,
)
from fourierft.training.diffusion.pipeline import load_pipeline


def concept(photos: int, flips: int = 1) -> Concept:
    means = torch.arange(photos * flips, dtype=torch.float32).view(photos, flips, 1, 1, 1).expand(-1, -1, 2, 3, 3)
    return Concept(means, torch.zeros_like(means), {}, torch.arange(photos * 6.0).view(photos, 6))


def test_square_is_the_middle_of_the_photo() -> None:
    pixels = np.zeros((8, 24, 3), dtype=np.uint8)
    pixels[:, 8:16] = 255
    square, sizes = cut_square(Image.fromarray(pixels), 8)
    assert torch.equal(square, torch.ones(3, 8, 8))
    assert sizes == [8, 24, 0, 8, 8, 8]
    square, sizes = cut_square(Image.fromarray(pixels).resize((12, 48)), 6)
    assert square.shape == (3, 6, 6)
    assert sizes == [48, 12, 9, 0, 6, 6]


def test_every_photo_comes_once_in_each_round_in_another_order() -> None:
    rounds = [
        [int(draw_sample(concept(5), number, 0, 0, 1000).latents[0, 0, 0]) for number in range(first, first + 5)]
        for first in (0, 5, 10)
    ]
    assert all(sorted(order) == list(range(5)) for order in rounds)
    assert len({tuple(order) for order in rounds}) == 3


def test_sample_depends_on_seed_stream_and_number_alone() -> None:
    first = draw_sample(concept(3), 4, 7, 0, 1000)
    torch.manual_seed(99)
    again = draw_sample(concept(3), 4, 7, 0, 1000)
    assert torch.equal(first.noise, again.noise)
    assert first.timestep == again.timestep
    assert torch.equal(first.sizes, again.sizes)
    for number, seed, stream in ((5, 7, 0), (4, 8, 0), (4, 7, 1)):
        assert not torch.equal(first.noise, draw_sample(concept(3), number, seed, stream, 1000).noise)


def test_half_of_the_samples_are_mirrored() -> None:
    flips = [int(draw_sample(concept(1, flips=2), number, 0, 0, 1000).latents[0, 0, 0]) for number in range(200)]
    assert 70 < sum(flips) < 130


def test_latents_are_those_of_the_autoencoder(tiny_sd: Path, photos: Path) -> None:
    pipeline = load_pipeline(str(tiny_sd))
    image = open_photo(photos / "1.png")
    pixels, _ = cut_square(image, 16)
    encoded = encode_concept(pipeline, [image], "a dog", 16, True, torch.device("cpu"))
    expected = pipeline.vae.encode(pixels.flip(-1)[None]).latent_dist
    torch.testing.assert_close(encoded.means[0, 1], expected.mean[0] * pipeline.vae.config.scaling_factor)
    torch.testing.assert_close(encoded.deviations[0, 1], expected.std[0] * pipeline.vae.config.scaling_factor)


def test_photo_taken_sideways_is_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    Image.new("RGB", (20, 10)).save(tmp_path / "photo.jpg", exif=exif)
    assert open_photo(tmp_path / "photo.jpg").size == (10, 20)


def test_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"instance_data_dir=.*nowhere is not a folder"):
        find_images(tmp_path / "nowhere", "instance_data_dir")
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match=r"holds no images \(.png, .jpg"):
        find_images(tmp_path, "instance_data_dir")


def test_photo_that_cannot_be_read_is_named_and_skipped_or_stops(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "1.png").write_bytes((photos / "1.png").read_bytes()[:100])
    with pytest.raises(DataError, match=r"1\.png can't be read as an image; replace or remove it"):
        open_readable(find_images(photos, ""), "stop")
    assert len(open_readable(find_images(photos, ""), "skip")) == 2
    assert "skipped" in capsys.readouterr().out
    with pytest.raises(DataError, match="none of the images can be read"):
        open_readable([photos / "1.png"], "skip")
