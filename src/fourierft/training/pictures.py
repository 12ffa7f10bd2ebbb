"""Images as data sets store them: opening them, and finding those that can't be, or mean something else than others."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fourierft.bars import bar
from fourierft.errors import ConfigError, DataError, MissingExtraError
from fourierft.extras import needs
from fourierft.training.cells import place_at, source_of
from fourierft.training.pixels import as_rgb, find_white, largest

if TYPE_CHECKING:
    from datasets import Dataset

UNREADABLE = ("stop", "skip")


@dataclass(frozen=True)
class Seen:
    """What a look at an image showed.

    Attributes:
        where: it stands.
        mode: Pillow's word for what its numbers are.
        white, largest: of an image of more than 8 bits the number that is white, and the largest in it.
        is_animated: whether it has frames.
        fault: why it can't be read, if it can't.
    """

    where: str
    mode: str = ""
    white: float | None = None
    largest: float | None = None
    is_animated: bool = False
    fault: str | None = None

    @property
    def is_black(self) -> bool:
        """Whether nothing of it is lighter than a level of 8 bits."""
        return (self.largest or 0) * 255 < 2 * (self.white or 1)


def is_image(rows: Dataset, column: str) -> bool:
    return type(rows.features[column]).__name__ == "Image"


def stored_images(rows: Dataset, column: str) -> Any:
    """A column of images as dictionaries of `bytes` and `path`, not opened."""
    return rows.cast_column(column, type(rows.features[column])(decode=False))[column]


def open_image(stored: dict[str, Any]) -> Any:
    """The image that a data set stores as bytes or as a path."""
    with needs("train", "reading images"):
        from PIL import Image
    return Image.open(io.BytesIO(stored["bytes"]) if stored["bytes"] else stored["path"])


def look_at_images(rows: Dataset, column: str) -> Iterator[Seen]:
    """What a look at each image shows; all are opened, read to their end, and brought to 8 bits."""
    images = bar(stored_images(rows, column), "checking images", "images")
    for index, stored in enumerate(images):
        path = stored["path"] if stored else None
        where = place_at(rows, index) + (f" ({path})" if path else "")
        try:
            with open_image(stored) as image:
                image.load()
                as_rgb(image)
                white = find_white(image)
                is_animated = image.format != "MPO" and getattr(image, "is_animated", False)  # a camera's has previews
                yield Seen(where, image.mode, white, white and largest(image), is_animated)
        except MissingExtraError:
            raise
        except Exception as error:  # whatever a decoder trips over; Pillow names no common base of it
            yield Seen(where, fault=" ".join(str(error).split()) or type(error).__name__)


def check_images(rows: Dataset, column: str) -> None:
    """Say which images have frames that are not looked at.

    Raises: DataError, naming the first, if an image of `rows` can't be read, or its numbers are of another range than
        those of one before; or if all images of more than 8 bits are black, as they are if 8 bits were enough.
    """
    animated: list[Seen] = []
    deep: dict[str, list[Seen]] = {}
    for seen in look_at_images(rows, column):
        if seen.fault is not None:
            raise DataError(
                f"the image in {seen.where} can't be read ({seen.fault}); replace or remove it, or give "
                "--unreadable_images skip"
            )
        if seen.is_animated:
            animated.append(seen)
        if seen.white and seen.largest:
            deep.setdefault(seen.mode, []).append(seen)
    for alike in deep.values():
        first = alike[0]
        other = next((seen for seen in alike if seen.white != first.white), None)
        if other is not None:
            raise DataError(
                f"the images have two ranges of numbers: up to {first.largest:g} in {first.where}, "
                f"but up to {other.largest:g} in {other.where}; save all in 8 bits, or with "
                "one range"
            )
        if all(seen.is_black for seen in alike):
            raise DataError(
                f"all images like the one in {first.where} would be black: its largest number "
                f"is {first.largest:g}, but white is {first.white:g}; save them in 8 bits, "
                "or with that range"
            )
    if animated:
        print(f"images with several frames: {len(animated)}, first in {animated[0].where}; the first frame is taken")


def skip_unreadable(rows: Dataset) -> Dataset:
    """The rows whose images can all be read; the others are named.

    Raises: DataError, if none is left.
    """
    bad: set[int] = set()
    for column in [column for column in rows.column_names if is_image(rows, column)]:
        for index, seen in enumerate(look_at_images(rows, column)):
            if seen.fault is not None:
                print(f"skipped the image in {seen.where}: it can't be read ({seen.fault})", flush=True)
                bad.add(index)
    if len(bad) == len(rows):
        raise DataError(f"none of the images of {source_of(rows)} can be read; give at least one that can")
    return rows.select([index for index in range(len(rows)) if index not in bad]) if bad else rows


def check_choice(unreadable: str) -> None:
    """Raise ConfigError if what to do about an image that can't be read is unknown."""
    if unreadable not in UNREADABLE:
        raise ConfigError(f"unreadable_images={unreadable} is unknown; use stop or skip")
