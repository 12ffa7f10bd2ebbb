"""What a task family says of itself; training, evaluation, comparison and the fleet ask it, and know no task by name.

A family joins what a row gives the model (a text, a prompt, an image) with what is learned of it (a class, a number, an
answer). `registry.py` tells how a file of one is found. Rows are read in this order: `claims`, `find_columns`,
`check_rows`, `learn`, `encode_labels`, `encode_rows`, `collator`; results in this: `reduce`, `score`, `decode`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import EvalPrediction, PreTrainedModel, TrainerCallback

from fourierft.errors import ConfigError
from fourierft.training.arguments import DataArguments, ModelArguments
from fourierft.training.columns import Columns
from fourierft.training.digests import row_digests
from fourierft.training.families.outputs import Scored, predict
from fourierft.training.labels import Where, by_index
from fourierft.training.trainer import HeadTrainer

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import TaskType


@dataclass(frozen=True)
class Family:
    """One kind of task; what is not given here is for the family to give.

    Class attributes:
        name: of the task, for `--task` and in the record of a training.
        kind: of the rows, in that record; families of one kind find and check the same columns.
        model_class: class of transformers that loads the model.
        task_type: PEFT's word for it; None if it has none.
        pipeline_tag: the hub's word for it.
        processor_class: name of the class of transformers that loads the processor.
        metrics: names of what `score` returns, the main one first.
        lower_is_better: those of them that count what went wrong.
        needs_head: whether the model gets a head, to be trained, on top of what was pretrained.
        packs, augments, writes: whether rows can be packed, images cropped, and whether the models write texts.

    Args:
        labels: names of the model's outputs, in their order, if they have names.
        chosen_metric: the main metric, if it is not the first.
        assumption: what of it is taken for granted until the data are there, as the end of "Not known: ".
    """

    labels: tuple[str, ...] = ()
    chosen_metric: str = ""
    assumption: str = ""

    name: ClassVar[str]
    kind: ClassVar[str]
    model_class: ClassVar[Any]
    task_type: ClassVar[TaskType | None] = None
    pipeline_tag: ClassVar[str]
    processor_class: ClassVar[str] = "AutoTokenizer"
    lower_is_better: ClassVar[tuple[str, ...]] = ()
    needs_head: ClassVar[bool] = True
    packs: ClassVar[bool] = False
    augments: ClassVar[bool] = False
    writes: ClassVar[bool] = False

    # Whose rows they are

    def claims(self, rows: Dataset | None, data: DataArguments) -> bool:
        """Whether rows are of this kind, by their columns and the settings; None are rows that are not here.

        Asked only if `--task` is auto or this family's name.
        """
        return bool(data.task == self.name)

    def learn(
        self, values: Sequence[Any], column: str, declared: Sequence[str], where: Where, is_named: bool
    ) -> Family | None:
        """The family with the labels that training rows have; None if they are not its, and it was not named.

        Args:
            values: labels of all training rows.
            column: where they stand, for errors.
            declared: the classes that the data set itself names, in its order.
            where: names a row, for errors.
            is_named: whether the user asked for this family.

        Raises: DataError, if the labels can't be learned.
        """
        return self

    def expect(self, feature: Any, is_named: bool) -> Family | None:
        """The same from the description of a column of labels, a feature of `datasets`; None as for `learn`."""
        return self.guess()

    def with_settings(self, settings: Mapping[str, Any]) -> Family:
        """The family with what it takes of the settings of a training, or of its record."""
        return self

    def guess(self) -> Family:
        """The family where nothing is known of the labels, with an `assumption` if it makes one."""
        return self

    # What stands where

    def wanted_columns(self, data: DataArguments) -> list[str] | None:
        """The columns of the input that the settings name."""
        return data.text_column

    def find_columns(self, rows: Dataset, wanted: list[str] | None, label: str | None) -> Columns:
        """Columns of input and label: those named, else those of the usual names.

        Raises: DataError, naming the columns there are, if one is missing.
        """
        raise NotImplementedError

    def expect_columns(self, rows: Dataset, wanted: list[str] | None, label: str | None) -> Columns:
        """The same of a data set whose columns are known, but none of its rows."""
        return self.find_columns(rows, wanted, label)

    def check_rows(self, rows: Dataset, columns: Columns) -> None:
        """Raise DataError if rows can't be trained on."""
        raise NotImplementedError

    def describe(self, rows: Dataset, columns: Columns) -> list[dict[str, Any]]:
        """What was given, a row, for a file of predictions."""
        raise NotImplementedError

    # What the model reads

    def model_settings(self) -> dict[str, Any]:
        """What the model's config must say."""
        return {}

    def load_processor(self, arguments: ModelArguments, data: DataArguments) -> Any:
        """What makes numbers of an input: a tokenizer, an image processor."""
        raise NotImplementedError

    def record_processor(self, processor: Any, arguments: ModelArguments) -> dict[str, Any]:
        """What a record says of the processor, beyond what that of the model does."""
        return {"tokenizer": arguments.tokenizer_name}

    def fit(self, model: PreTrainedModel, processor: Any, wanted: int | None) -> int | None:
        """The number of tokens an input is cut to; None if it has none."""
        return None

    def encode_labels(self, values: Sequence[Any], where: Where = by_index) -> list[Any]:
        """A label a row as the model's loss takes it.

        Raises: DataError, if one is none.
        """
        raise NotImplementedError

    def encode_rows(self, rows: Dataset, columns: Columns, labels: list[Any], processor: Any, limit: int | None) -> Any:
        """Rows as the model reads them.

        Args:
            labels: one a row, encoded.
            limit: tokens they are cut to.
        """
        raise NotImplementedError

    def collator(self, processor: Any) -> Any:
        """What makes a batch of encoded rows."""
        raise NotImplementedError

    # How it is trained

    def check_settings(self, data: DataArguments) -> None:
        """Raise ConfigError if a setting is for another kind of data."""
        if data.augment_images and not self.augments:
            raise ConfigError(f"augment_images=True works only with images, but the data are {self.kind}; leave it out")
        if data.packing and not self.packs:
            raise ConfigError(f"packing=True works only with --task chat, not {self.name}; leave it out, or give that")

    def check_batch(self, rows: int) -> None:
        """Raise ConfigError if a device can't train on so few rows at a time."""

    def require(self) -> None:
        """Raise MissingExtraError if a library is missing."""

    def start(self, train: Any, data: DataArguments, seed: int) -> list[TrainerCallback]:
        """Make encoded rows ready to be trained on, and return what the trainer is to call on the way."""
        return []

    def make_trainer(
        self, options: dict[str, Any], heads: tuple[str, ...], head_rate: float | None, limit: int | None, packing: bool
    ) -> Any:
        """The Trainer, of its options.

        Args:
            heads, head_rate: names of the modules of the head, and their learning rate.
            limit: tokens of a row at most.
            packing: put several rows into one.
        """
        return HeadTrainer(
            data_collator=self.collator(options["processing_class"]),
            preprocess_logits_for_metrics=self.reduce,
            heads=heads,
            head_learning_rate=head_rate,
            **options,
        )

    def count_rows(self, train: Any, limit: int | None, packing: bool) -> int:
        """The number of rows that are trained on, of encoded ones."""
        return len(train)

    def strata(self, labels: Sequence[Any]) -> Sequence[int] | None:
        """The class of each row, if rows that are held out are to have the same shares of classes; None if not."""
        return None

    def row_shape(self, train: Any, limit: int | None, packing: bool) -> tuple[int, ...]:
        """The largest shape of an encoded row: its tokens, or channels, height and width of an image."""
        raise NotImplementedError

    def expected_shape(self, config: Any, data: DataArguments) -> tuple[int, ...]:
        """The same, by the model's config, of rows that are not here."""
        raise NotImplementedError

    def empty_batch(self, rows: int, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """A batch as the model is trained on, `labels` last; called with torch's meta device as the default."""
        raise NotImplementedError

    # Row by row, as the fleet trains

    def row_lengths(self, encoded: Any) -> list[int]:
        """Tokens of each encoded row; 1 where all are alike."""
        return [len(tokens) for tokens in encoded["input_ids"]]

    def row_digests(self, encoded: Any) -> Iterator[bytes]:
        """A digest of each encoded row."""
        return row_digests(encoded)

    def row_counts(self, labels: Tensor) -> Tensor:
        """How much each row counts in the loss of a batch, which is a mean, [rows]; labels as a batch has them."""
        return torch.ones(len(labels))

    def row_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of transformers' model, row by row, summed over what `row_counts` counts: [rows].

        Args:
            logits: [rows, ...] in float32.
            labels: as a batch has them.
        """
        raise NotImplementedError

    # What came of it

    def predict(
        self, model: nn.Module, rows: Any, processor: Any, record: Mapping[str, Any], **settings: Any
    ) -> Scored:
        """What `reduce` kept of a trained model on encoded rows, and metrics; settings are of TrainingArguments."""
        return predict(self, model, rows, processor, record, settings)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of what `score` returns, the main one first."""
        raise NotImplementedError

    @property
    def main_metric(self) -> str:
        """The metric that tells the best model."""
        return self.chosen_metric or self.metrics[0]

    def scored_by(self, wanted: str | None) -> Family:
        """The family with another main metric.

        Args:
            wanted: name of the metric, with or without eval_ before it; None leaves it as it is.

        Raises: ConfigError, if there is no such metric.
        """
        if wanted is None:
            return self
        metric = wanted.removeprefix("eval_")
        if metric not in (*self.metrics, "loss"):
            labelled = f"{self.name} with {len(self.labels)} labels" if self.labels else self.name
            raise ConfigError(
                f"metric_for_best_model={wanted} is not a metric of {labelled}; use {', '.join(self.metrics)} or loss"
            )
        return replace(self, chosen_metric=metric)

    def reduce(self, logits: Any, labels: Tensor) -> Any:
        """What is kept of a batch's logits to be scored; [rows, ...]."""
        return logits

    def score(self, prediction: EvalPrediction) -> dict[str, float]:
        """The metrics of what `reduce` kept of all rows, where widths differ filled up with -100, and their labels."""
        raise NotImplementedError

    def decode(self, outputs: np.ndarray) -> list[dict[str, Any]]:
        """What is predicted for every row, of what `reduce` kept, for a file of predictions."""
        raise NotImplementedError

    def shown(self, label: Any) -> Any:
        """An encoded label as people read it; `encode_labels` takes it back."""
        return label
