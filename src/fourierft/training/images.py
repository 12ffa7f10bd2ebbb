"""Images that get a class."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from peft import TaskType
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    PreTrainedModel,
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
from fourierft.training.models import explained, required_name
from fourierft.training.pictures import check_images, is_image, stored_images
from fourierft.training.pixels import as_rgb
from fourierft.training.texts import LABEL_COLUMNS

if TYPE_CHECKING:
    from datasets import Dataset


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
    def epoch(self) -> int:  # noqa: D102
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
        """Note it down."""
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


class Images:
    """Rows of one image; see `inputs.Inputs`. An image is opened and resized when its batch is made."""

    name = "image"
    model_class = AutoModelForImageClassification
    task_type: TaskType | None = None
    pipeline_tag = "image-classification"

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

    def fit(self, model: PreTrainedModel, processor: Any, wanted: int | None) -> int | None:
        """Nothing: images are of the processor's size."""
        return None

    def encode(self, rows: Dataset, columns: Columns, labels: list[Any], processor: Any, limit: int | None) -> Any:
        """The rows as the model reads them: `pixel_values` [3, height, width], made when asked for, and `labels`.

        Args:
            labels: one per row, encoded for the model's loss.
        """
        return EncodedImages(rows.select_columns([columns.inputs[0]]), columns.inputs[0], labels, processor)

    def collator(self, processor: Any) -> Any:
        """Makes a batch of rows."""
        return default_data_collator

    def describe(self, rows: Dataset, columns: Columns) -> list[dict[str, Any]]:
        """Which image it was, a row, for a file of predictions."""
        images = stored_images(rows, columns.inputs[0])
        return [
            {"row": number, "image": image["path"]} for number, image in zip(row_numbers(rows), images, strict=True)
        ]
