"""All a training needs, checked, before its first step: rows, processor, model, and what of it is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fourierft.training.arguments import Arguments
from fourierft.training.data import load_splits
from fourierft.training.groundwork import Groundwork, divide, lay_groundwork, read_rows
from fourierft.training.methods import Trainable, attach
from fourierft.training.trainer import count_steps

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import TrainerCallback


@dataclass(frozen=True)
class Preparation:
    """All a training needs, checked.

    Attributes:
        splits: encoded rows, by the names train, validation, test.
        left_out: names of splits that were there, but without labels.
        record: what the training will write of itself, so that it can be resumed and evaluated.
        callbacks: that the task's family wants the trainer to call.
    """

    ground: Groundwork
    trainable: Trainable
    splits: dict[str, Dataset]
    left_out: tuple[str, ...]
    record: dict[str, Any]
    callbacks: list[TrainerCallback]


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
    ground = replace(ground, family=ground.family.scored_by(arguments.training.metric_for_best_model))
    splits = {name: ground.encode(rows[name], labels) for name, labels in ground.labels.items()}
    count = ground.family.count_rows(splits["train"], ground.max_length, arguments.data.packing)
    trainable = attach(ground.base, arguments.method, count_steps(count, arguments.training))
    callbacks = ground.family.start(splits["train"], arguments.data, seed)
    record = ground.record(trainable.method, trainable.settings, trainable.is_adapter)
    left_out = tuple(name for name in rows if name not in splits)
    return Preparation(ground, trainable, splits, left_out, record, callbacks)
