"""Images as data sets store them: opening them, and finding those that can't be."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from fourierft.errors import ConfigError, DataError, MissingExtraError
from fourierft.extras import needs
from fourierft.training.cells import place_at, source_of

if TYPE_CHECKING:
    from datasets import Dataset

UNREADABLE = ("stop", "skip")


def is_image(rows: Dataset, column: str) -> bool:
    """Whether a column holds images."""
    return type(rows.features[column]).__name__ == "Image"


def stored_images(rows: Dataset, column: str) -> Any:
    """A column of images as dictionaries of `bytes` and `path`, not opened."""
    return rows.cast_column(column, type(rows.features[column])(decode=False))[column]


def open_image(stored: dict[str, Any]) -> Any:
    """The image that a data set stores as bytes or as a path."""
    with needs("train", "reading images"):
        from PIL import Image
    return Image.open(io.BytesIO(stored["bytes"]) if stored["bytes"] else stored["path"])


def find_unreadable(rows: Dataset, column: str) -> Iterator[tuple[int, str]]:
    """The rows, by index, whose image can't be opened and read to its end, each with where it stands."""
    images = tqdm(stored_images(rows, column), desc="checking images", leave=False, disable=None)
    for index, stored in enumerate(images):
        try:
            with open_image(stored) as image:
                image.load()
        except MissingExtraError:
            raise
        except Exception:  # whatever a decoder trips over; Pillow names no common base of it
            path = stored["path"] if stored else None
            yield index, place_at(rows, index) + (f" ({path})" if path else "")


def check_images(rows: Dataset, column: str) -> None:
    """Raise DataError, naming the first, if an image of `rows` can't be read."""
    for _, where in find_unreadable(rows, column):
        raise DataError(f"the image in {where} can't be read; replace or remove it, or give --unreadable_images skip")


def skip_unreadable(rows: Dataset) -> Dataset:
    """The rows whose images can all be read; the others are named.

    Raises: DataError, if none is left.
    """
    bad: set[int] = set()
    for column in [column for column in rows.column_names if is_image(rows, column)]:
        for index, where in find_unreadable(rows, column):
            print(f"skipped the image in {where}: it can't be read", flush=True)
            bad.add(index)
    if len(bad) == len(rows):
        raise DataError(f"none of the images of {source_of(rows)} can be read; give at least one that can")
    return rows.select([index for index in range(len(rows)) if index not in bad]) if bad else rows


def check_choice(unreadable: str) -> None:
    """Raise ConfigError if what to do about an image that can't be read is unknown."""
    if unreadable not in UNREADABLE:
        raise ConfigError(f"unreadable_images={unreadable} is unknown; use stop or skip")
