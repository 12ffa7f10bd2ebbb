"""The plan of a training: made once from its settings, shown by `--dry_run`, run, and written into its record."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fourierft.training import report
from fourierft.training.arguments import Arguments
from fourierft.training.data import load_splits
from fourierft.training.methods import Trainable, attach
from fourierft.training.reading import divide, read_rows
from fourierft.training.setup import Setup, load_setup
from fourierft.training.trainer import count_steps

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import TrainerCallback


@dataclass(frozen=True)
class Plan:
    """All that a training will do, checked.

    Attributes:
        arguments: what was asked for.
        setup: what it stands on, the task with its main metric among it.
        trainable: the model, and what of it is trained.
        splits: encoded rows, by the names train, validation, test.
        left_out: names of splits that were there, but without labels.
        packed: rows that are trained on: those of train, or the packed ones.
        record: what the training will write of itself, so that it can be resumed and evaluated.
        callbacks: that the task's family wants the trainer to call.
    """

    arguments: Arguments
    setup: Setup
    trainable: Trainable
    splits: dict[str, Dataset]
    left_out: tuple[str, ...]
    packed: int
    record: dict[str, Any]
    callbacks: list[TrainerCallback]

    @property
    def rows(self) -> dict[str, int]:
        return {name: len(split) for name, split in self.splits.items()}

    @property
    def steps(self) -> int:
        return count_steps(self.packed, self.arguments.training)

    def describe(self) -> str:
        """Tables of what will be trained, on what, and of its size."""
        return report.describe_training(self.trainable, self.record, self.rows, self.left_out)

    def largest_batch(self) -> dict[str, Tensor]:
        """A batch as the model is trained on, of the longest rows, on the meta device."""
        family, packing = self.setup.family, self.arguments.data.packing
        shape = family.row_shape(self.splits["train"], self.setup.max_length, packing)
        with torch.device("meta"):
            return family.empty_batch(min(self.arguments.training.per_device_train_batch_size, self.packed), shape)


def plan_training(arguments: Arguments, only_shapes: bool = False) -> Plan:
    """Load and check data, processor and model, and make the method's parameters the trained ones. Writes nothing.

    Args:
        only_shapes: as for `models.load_model`.

    Raises: FourierFTError, if anything given is wrong.
    """
    data, training = arguments.data, arguments.training
    reading = divide(read_rows(load_splits(data), data), data, training.seed)
    reading.family.check_batch(training.per_device_train_batch_size)
    setup = load_setup(reading, arguments.model, data, training.seed, only_shapes)
    setup = replace(setup, family=setup.family.scored_by(training.metric_for_best_model))
    splits = {name: setup.encode(reading.rows[name], labels) for name, labels in setup.labels.items()}
    packed = setup.family.count_rows(splits["train"], setup.max_length, data.packing)
    trainable = attach(setup.base, arguments.method, count_steps(packed, training))
    callbacks = setup.family.start(splits["train"], data, training.seed)
    record = setup.record(trainable.method, trainable.settings, trainable.is_adapter)
    left_out = tuple(name for name in reading.rows if name not in splits)
    return Plan(arguments, setup, trainable, splits, left_out, packed, record, callbacks)
