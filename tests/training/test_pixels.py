"""Images of every mode as 8 bits of red, green and blue, compared with arithmetic on their numbers."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fourierft.training.pixels import as_rgb, find_white

RAMP = np.linspace(0, 65535, 256).reshape(16, 16)  # 257 apart
LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16)


def reopen(image: Image.Image, kind: str, **options: Any) -> Image.Image:
    """The image, as it is read from a file."""
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return Image.open(file)


@pytest.mark.parametrize(
    ("image", "mode"),
    [
        (lambda: reopen(Image.fromarray(RAMP.astype(np.uint16)), "PNG"), "I;16"),
        (lambda: reopen(Image.fromarray(RAMP.astype(">u2")), "TIFF"), "I;16B"),
        (lambda: reopen(Image.fromarray(RAMP.astype(np.int32)), "PPM"), "I"),
        (lambda: reopen(Image.fromarray(RAMP.astype(np.int32)), "TIFF"), "I"),
        (lambda: reopen(Image.fromarray((RAMP / 65535 * (2**31 - 1)).astype(np.int32)), "TIFF"), "I"),
        (lambda: reopen(Image.fromarray((RAMP / 65535).astype(np.float32)), "TIFF"), "F"),
        (lambda: reopen(Image.fromarray((RAMP / 257).astype(np.float32)), "TIFF"), "F"),
        (lambda: reopen(Image.fromarray(LEVELS), "PNG"), "L"),
        (lambda: reopen(Image.fromarray(LEVELS).convert("RGB").quantize(256), "PNG"), "P"),
    ],
)
def test_a_ramp_is_a_ramp_in_every_mode(image: Any, mode: str) -> None:
    given = image()
    assert given.mode == mode
    found = as_rgb(given)
    assert found.mode == "RGB"
    assert np.array_equal(np.asarray(found), np.repeat(LEVELS[..., None], 3, axis=2))


def test_levels_between_are_rounded() -> None:
    numbers = [0, 128, 129, 385, 386, 65535]
    image = Image.fromarray(np.array([numbers], dtype=np.uint16))
    assert np.asarray(as_rgb(image))[0, :, 0].tolist() == [round(number * 255 / 65535) for number in numbers]
    floats = np.array([[-1e-4, 0.0, 0.5, 1.0005]], dtype=np.float32)
    assert np.asarray(as_rgb(Image.fromarray(floats)))[0, :, 0].tolist() == [0, 0, 128, 255]


def test_transparent_parts_are_white() -> None:
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)  # black
    rgba[0, :, 3] = [0, 255, 51]
    over_white = [[255, 255, 255], [0, 0, 0], [204, 204, 204]]
    assert np.asarray(as_rgb(Image.fromarray(rgba)))[0].tolist() == over_white
    assert np.asarray(as_rgb(Image.fromarray(rgba[..., 2:])))[0].tolist() == over_white  # grey with alpha
    assert np.asarray(as_rgb(Image.fromarray(rgba).convert("RGBa")))[0].tolist() == over_white
    keyed = reopen(Image.fromarray(LEVELS), "PNG", transparency=0)
    assert np.asarray(as_rgb(keyed))[0, :3, 0].tolist() == [255, 1, 2]
    palette = reopen(Image.fromarray(LEVELS).convert("P"), "PNG", transparency=7)
    assert np.asarray(as_rgb(palette))[0, 6:9, 0].tolist() == [6, 255, 8]


def test_inks_and_bits_are_colours() -> None:
    inks = Image.merge(
        "CMYK", [Image.fromarray(np.array([[0, 255, 0]], dtype=np.uint8)), *[Image.new("L", (3, 1))] * 3]
    )
    assert np.asarray(as_rgb(inks))[0].tolist() == [[255, 255, 255], [0, 255, 255], [255, 255, 255]]
    assert np.asarray(as_rgb(Image.fromarray(np.array([[True, False]]))))[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (
            np.array([[-5, 10]], dtype=np.int32),
            "its numbers go from -5 to 10; save it in 8 bits, or as floats",
        ),
        (np.array([[0, 1200]], dtype=np.float32), "from 0 to 1200"),
        (np.array([[0, np.nan]], dtype=np.float32), "from nan to nan"),
        (np.array([[0, np.inf]], dtype=np.float32), "from 0 to inf"),
        (np.array([[-1, 1]], dtype=np.float32), "from -1 to 1"),
    ],
)
def test_numbers_without_a_known_range_are_refused(numbers: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_white(Image.fromarray(numbers))
