"""All a training needs, checked, before its first step: rows, processor, model, and what of it is trained."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fourierft.errors import ConfigError
from fourierft.training.arguments import Arguments
from fourierft.training.data import load_splits
from fourierft.training.groundwork import Groundwork, divide, lay_groundwork, read_rows
from fourierft.training.images import EncodedImages
from fourierft.training.methods import Trainable, attach
from fourierft.training.tasks import choose_metric
from fourierft.training.trainer import count_steps

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Preparation:
    """All a training needs, checked.

    Attributes:
        splits: encoded rows, by the names train, validation, test.
        left_out: names of splits that were there, but without labels.
        record: what the training will write of itself, so that it can be resumed and evaluated.
    """

    ground: Groundwork
    trainable: Trainable
    splits: dict[str, Dataset]
    left_out: tuple[str, ...]
    record: dict[str, Any]


def prepare(arguments: Arguments, only_shapes: bool = False) -> Preparation:
    """Load and check data, processor and model, and make the method's parameters the trained ones. Writes nothing.

    Args:
        only_shapes: as for `models.load_model`.

    Raises: FourierFTError, if anything given is wrong.
    """
    seed = arguments.training.seed
    reading = divide(read_rows(load_splits(arguments.data), arguments.data), arguments.data, seed)
    rows = reading.rows
    ground = lay_groundwork(reading, arguments.model, arguments.data, seed, only_shapes)
    ground = replace(ground, task=choose_metric(ground.task, arguments.training.metric_for_best_model))
    splits = {name: ground.encode(rows[name], labels) for name, labels in ground.labels.items()}
    count = count_rows(splits["train"], ground.max_length, arguments.data.packing and ground.inputs.name == "chat")
    trainable = attach(ground.base, arguments.method, count_steps(count, arguments.training))
    if arguments.data.augment_images:
        if not isinstance(splits["train"], EncodedImages):
            raise ConfigError(f"augment_images=True, but the data are of kind {ground.inputs.name}; leave it out")
        splits["train"].crop_seed = seed
    record = ground.record(trainable.method, trainable.settings, trainable.is_adapter)
    return Preparation(ground, trainable, splits, tuple(name for name in rows if name not in splits), record)


def count_rows(train: Any, max_length: int | None, packing: bool) -> int:
    """The number of rows that are trained on, which is that of the packed ones if they are.

    Args:
        train: encoded rows.
    """
    return int(import_chat().count_packed(train, max_length)) if packing else len(train)


def import_chat() -> Any:
    """The module of the chat trainer.

    Raises: MissingExtraError, if TRL is not installed.
    """
    return importlib.import_module("fourierft.training.chat.trainer")
