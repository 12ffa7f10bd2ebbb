"""Images that get a class, or a number."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    default_data_collator,
)

from fourierft.adapters.base import quiet
from fourierft.errors import ConfigError, DataError
from fourierft.extras import needs
from fourierft.training.arguments import DataArguments, ModelArguments
from fourierft.training.cells import column_names, row_numbers
from fourierft.training.columns import Columns, check_columns, check_labels, find_column
from fourierft.training.families.classes import ClassLabels
from fourierft.training.families.family import Family
from fourierft.training.families.regression import NumberLabels
from fourierft.training.families.texts import LABEL_COLUMNS
from fourierft.training.models import explained, required_name
from fourierft.training.pictures import check_images, is_image, stored_images
from fourierft.training.pixels import as_rgb

if TYPE_CHECKING:
    from datasets import Dataset

PIXELS = 224  # side of an image of which nothing is known
SMALLEST_CROP, WIDEST_CROP, TRIES = 0.08, 4 / 3, 10


class EncodedImages(torch.utils.data.Dataset[dict[str, Any]]):
    """Rows whose images are opened and resized one by one, when they are asked for.

    Attributes:
        crop_seed: if it is a number, a row is a random crop of its image, half of them mirrored.
        epoch: of the training; crops depend on the seed, the epoch and the row alone, so that a resumed training is the
            same, whatever was fetched ahead. Processes that fetch rows see it change.
    """

    def __init__(self, rows: Dataset, column: str, labels: list[Any], processor: Any) -> None:
        self.rows, self.column, self.labels, self.processor = rows, column, labels, processor
        self.crop_seed: int | None = None
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = as_rgb(self.rows[index][self.column])
        if self.crop_seed is not None:
            image = crop_randomly(image, np.random.default_rng((self.crop_seed, self.epoch, index)))
        pixels = self.processor(image, return_tensors="pt")["pixel_values"][0]
        return {"pixel_values": pixels, "labels": self.labels[index]}


class CropsByEpoch(TrainerCallback):
    """Tells the training images which epoch it is."""

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **options: Any
    ) -> None:
        options["train_dataloader"].dataset.epoch = int(state.epoch or 0)


def crop_randomly(image: Any, draw: np.random.Generator) -> Any:
    """A part of an image, of 8% to 100% of its area and sides of at most 4 to 3, mirrored half of the time."""
    with needs("train", "reading images"):
        from PIL import Image

    width, height = image.size
    for _ in range(TRIES):
        area = width * height * draw.uniform(SMALLEST_CROP, 1.0)
        ratio = math.exp(draw.uniform(-math.log(WIDEST_CROP), math.log(WIDEST_CROP)))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            left, top = (int(draw.integers(room + 1)) for room in (width - across, height - down))
            image = image.crop((left, top, left + across, top + down))
            break
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draw.random() < 0.5 else image


class ImageRows(Family):
    """Rows of one image, which is opened and resized when its batch is made."""

    kind = "image"
    model_class = AutoModelForImageClassification
    pipeline_tag = "image-classification"
    processor_class = "AutoImageProcessor"
    augments = True

    def claims(self, rows: Dataset | None, data: DataArguments) -> bool:
        """Whether a column of images is named, or is there and no text is named."""
        if rows is None:
            return bool(data.image_column or data.image_size or data.augment_images)
        columns = [] if data.text_column else column_names(rows)
        return bool(data.image_column) or any(is_image(rows, column) for column in columns)

    def wanted_columns(self, data: DataArguments) -> list[str] | None:
        """The column of the image that the settings name."""
        return [data.image_column] if data.image_column else data.text_column

    def find_columns(self, rows: Dataset, wanted: list[str] | None, label: str | None) -> Columns:
        """The columns of image and label: those named, else the first that holds images and the usual label.

        Raises: DataError, naming the columns there are, if one is missing or holds no images.
        """
        holders = [column for column in column_names(rows) if is_image(rows, column)]
        image = find_column(rows, wanted[0] if wanted else None, holders, "image")
        if image not in holders:
            raise DataError(f"column {image} holds no images; name another --image_column, or save it as datasets do")
        return Columns((image,), find_column(rows, label, LABEL_COLUMNS, "label"))

    def check_rows(self, rows: Dataset, columns: Columns) -> None:
        """Raise DataError if `rows` lack a label, or hold an image that can't be read."""
        check_columns(rows, columns)
        check_labels(rows, columns.label)
        check_images(rows, columns.inputs[0])

    def load_processor(self, arguments: ModelArguments, data: DataArguments) -> Any:
        """The image processor, on Pillow, for images of `image_size` if that is given.

        Raises: ConfigError, if it can't be had or image_size is no size.
        """
        name = required_name(arguments)
        with explained(name), quiet():
            processor: Any = AutoImageProcessor.from_pretrained(
                name,
                revision=arguments.model_revision,
                trust_remote_code=arguments.trust_remote_code,
                backend="pil",
            )
        if data.image_size is not None:
            if data.image_size < 1:
                raise ConfigError(f"image_size={data.image_size} is not positive; use the side of an image in pixels")
            square = {"height": data.image_size, "width": data.image_size}
            processor.size = type(processor.size)(**square)
            processor.do_center_crop = False
        return processor

    def record_processor(self, processor: Any, arguments: ModelArguments) -> dict[str, Any]:
        """All of the image processor, the size among it."""
        return {"processor": json.loads(processor.to_json_string())}

    def encode_rows(self, rows: Dataset, columns: Columns, labels: list[Any], processor: Any, limit: int | None) -> Any:
        """The rows as the model reads them: `pixel_values` [3, height, width], made when asked for, and `labels`.

        Args:
            labels: one per row, encoded for the model's loss.
        """
        return EncodedImages(rows.select_columns([columns.inputs[0]]), columns.inputs[0], labels, processor)

    def collator(self, processor: Any) -> Any:
        return default_data_collator

    def describe(self, rows: Dataset, columns: Columns) -> list[dict[str, Any]]:
        """Which image it was, a row, for a file of predictions."""
        images = stored_images(rows, columns.inputs[0])
        return [
            {"row": number, "image": image["path"]} for number, image in zip(row_numbers(rows), images, strict=True)
        ]

    def start(self, train: Any, data: DataArguments, seed: int) -> list[TrainerCallback]:
        """Crop the images at random, if that is wanted."""
        if not data.augment_images:
            return []
        train.crop_seed = seed
        return [CropsByEpoch()]

    def row_shape(self, train: Any, limit: int | None, packing: bool) -> tuple[int, ...]:
        return tuple(train[0]["pixel_values"].shape)

    def expected_shape(self, config: Any, data: DataArguments) -> tuple[int, ...]:
        side: Any = data.image_size or getattr(config, "image_size", PIXELS)
        height, width = (side, side) if isinstance(side, int) else side
        return (getattr(config, "num_channels", 3), height, width)

    def empty_batch(self, rows: int, shape: tuple[int, ...]) -> dict[str, Tensor]:
        return {"pixel_values": torch.empty(rows, *shape), "labels": self.empty_labels(rows, shape)}

    def empty_labels(self, rows: int, shape: tuple[int, ...]) -> Tensor:
        """Labels of a batch; called as `empty_batch`."""
        raise NotImplementedError

    def row_lengths(self, encoded: Any) -> list[int]:
        """Images are all alike."""
        return [1] * len(encoded)

    def row_digests(self, encoded: EncodedImages) -> Iterator[bytes]:
        """A digest of each image, its label and what all images are resized by."""
        shared = encoded.processor.to_json_string()
        for stored, label in zip(stored_images(encoded.rows, encoded.column), encoded.labels, strict=True):
            content = stored["bytes"] or Path(stored["path"]).read_bytes()
            yield hashlib.sha256(f"{shared} {label} ".encode() + content).digest()


class ImageClasses(ClassLabels, ImageRows):
    """A class of an image."""


class ImageNumbers(NumberLabels, ImageRows):
    """A number for an image."""


FAMILIES = (ImageClasses(), ImageNumbers())
