"""An image of any kind as red, green and blue of 8 bits, of which white is white and black is black.

Pillow's own conversion cuts off what is above 255, and uncovers what transparent parts hide.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fourierft.extras import needs

_ROUNDED = 1e-3  # by which a float may lie outside its range


def as_rgb(image: Any) -> Any:
    """An image of Pillow in mode RGB: more than 8 bits scaled by what is white (`find_white`), transparent parts white.

    Raises: ValueError, saying why, if its numbers have no range that is known.
    """
    with needs("train", "reading images"):
        from PIL import Image

    white = find_white(image)
    if white is not None:
        levels = np.asarray(image, dtype=np.float64) * (255 / white)
        return Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("La", "RGBa"):  # colours that are multiplied by their alpha
        image = image.convert(image.mode.upper())
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, "white")
        canvas.alpha_composite(image.convert("RGBA"))
        return canvas.convert("RGB")
    return image.convert("RGB")


def find_white(image: Any) -> float | None:
    """The number that is white where 0 is black, of an image of more than 8 bits; None of others.

    It is 65535 in 16 bits, and in 32 bits if no number is larger, or else 2147483647. Floats are from 0 to 1, or, if
    one is larger, to 255.

    Raises: ValueError, saying why, if its numbers are of no such range.
    """
    if not image.mode.startswith(("I", "F")):
        return None
    numbers = np.asarray(image)
    least, most = float(numbers.min()), float(numbers.max())
    ranges = {"I": (65535.0, 2147483647.0), "F": (1.0, 255.0)}.get(image.mode, (65535.0,))
    white = next((end for end in ranges if most <= end + _ROUNDED), None)
    if white is None or not least >= -_ROUNDED:
        raise ValueError(f"its numbers go from {least:g} to {most:g}; save it in 8 bits, or as floats from 0 to 1")
    return white


def largest(image: Any) -> float:
    """The largest number of an image of one channel."""
    return float(np.asarray(image).max())
