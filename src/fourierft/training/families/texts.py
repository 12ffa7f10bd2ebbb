"""Rows of text, or of a pair of texts, as the families that give them a label read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from peft import TaskType
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from fourierft import __version__
from fourierft.errors import DataError
from fourierft.training.arguments import DataArguments, ModelArguments
from fourierft.training.cells import PLACE, as_text, column_names, place_at, read_cell, read_column
from fourierft.training.columns import (
    WORDS,
    Columns,
    check_columns,
    check_filled,
    check_labels,
    check_texts,
    find_column,
    require_columns,
)
from fourierft.training.families.family import Family
from fourierft.training.models import LONGEST, load_tokenizer, longest_text

if TYPE_CHECKING:
    from datasets import Dataset

TEXT_COLUMNS = (
    ("text",),
    ("sentence",),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
)
LABEL_COLUMNS = ("label", "labels")
CUT = "__cut__"  # column of encoded rows: whether they were longer
WORD_COLUMNS = ("tokens", "words")  # of data for token classification


class TextRows(Family):
    """Rows of text, cut to tokens; what their labels are is for a family to say."""

    kind = "text"
    model_class: ClassVar[Any] = AutoModelForSequenceClassification
    task_type: ClassVar[TaskType | None] = TaskType.SEQ_CLS
    pipeline_tag = "text-classification"

    def claims(self, rows: Dataset | None, data: DataArguments) -> bool:
        """Whether no column of images is named; whatever nothing else claims is text."""
        return not data.image_column

    def find_columns(self, rows: Dataset, wanted: list[str] | None, label: str | None) -> Columns:
        """The columns of text and label: those named, else those of the usual names.

        Raises: DataError, naming the columns there are, if one is missing.
        """
        require_columns(rows, [*(wanted or []), *([label] if label else [])])
        if wanted is not None and len(wanted) not in (1, 2):
            raise DataError(f"text_column names {len(wanted)} columns; name one, or two for a pair of texts")
        usual = next((names for names in TEXT_COLUMNS if set(names) <= set(rows.column_names)), None)
        texts = tuple(wanted) if wanted else usual
        words = next((name for name in WORD_COLUMNS if name in column_names(rows)), None)
        if texts is None and words is not None:
            raise DataError(f"the data has a column {words}, but no text; {WORDS}, or name the text with --text_column")
        if texts is None:
            texts = (find_column(rows, None, (), "text"),)
        found = find_column(rows, label, LABEL_COLUMNS, "label")
        if found in texts:
            raise DataError(
                f"column {found} is both text and label, so there is nothing to learn; name "
                "another --text_column or --label_column"
            )
        return Columns(texts, found)

    def check_rows(self, rows: Dataset, columns: Columns) -> None:
        """Raise DataError if `rows` lack a column, a text or a label, or a label is not one."""
        check_columns(rows, columns)
        check_texts(rows, columns.inputs, "text_column")
        check_filled(rows, columns.inputs)
        check_labels(rows, columns.label)

    def load_processor(self, arguments: ModelArguments, data: DataArguments) -> PreTrainedTokenizerBase:
        return load_tokenizer(arguments)

    def fit(self, model: PreTrainedModel, processor: PreTrainedTokenizerBase, wanted: int | None) -> int | None:
        """The number of tokens texts are cut to; the model learns which token is padding."""
        if model.config.pad_token_id is None:
            model.config.pad_token_id = processor.pad_token_id
        return longest_text(model, processor, wanted)

    def encode_rows(
        self, rows: Dataset, columns: Columns, labels: list[Any], processor: PreTrainedTokenizerBase, limit: int | None
    ) -> Dataset:
        """The rows as the model reads them: tokens cut to `limit`, and `labels`.

        Args:
            labels: one per row, encoded for the model's loss.
        """

        def encode(batch: dict[str, list[Any]], indices: list[int], version: str) -> dict[str, Any]:
            texts = ([as_text(read_cell(value)) for value in batch[column]] for column in columns.inputs)
            encoded = processor(*texts, truncation=True, max_length=limit)
            return {**encoded, "labels": [labels[index] for index in indices]}

        given = select_inputs(rows, columns)
        return given.map(
            encode,
            batched=True,
            with_indices=True,
            remove_columns=given.column_names,
            fn_kwargs={"version": __version__},  # what another release made is not taken from the cache
            desc="Tokenizing",
        )

    def collator(self, processor: PreTrainedTokenizerBase) -> Any:
        return DataCollatorWithPadding(processor)

    def row_shape(self, train: Any, limit: int | None, packing: bool) -> tuple[int, ...]:
        return (max(map(len, train["input_ids"])),)

    def expected_shape(self, config: Any, data: DataArguments) -> tuple[int, ...]:
        return (data.max_length or min(getattr(config, "max_position_embeddings", LONGEST), LONGEST),)

    def empty_batch(self, rows: int, shape: tuple[int, ...]) -> dict[str, Tensor]:
        return {"input_ids": torch.empty(rows, *shape, dtype=torch.long), "labels": self.empty_labels(rows, shape)}

    def empty_labels(self, rows: int, shape: tuple[int, ...]) -> Tensor:
        """Labels of a batch of rows of that shape; called as `empty_batch`."""
        raise NotImplementedError

    def describe(self, rows: Dataset, columns: Columns) -> list[dict[str, Any]]:
        """What was given, a row, for a file of predictions."""
        return shown_inputs(rows, columns)


def select_inputs(rows: Dataset, columns: Columns) -> Dataset:
    """Rows with nothing but their inputs and their place: a column `labels` would impose its type on encoded labels."""
    return rows.select_columns([*columns.inputs, *(name for name in PLACE if name in rows.column_names)])


def tell_cut(encoded: Dataset, rows: Dataset, limit: int | None) -> Dataset:
    """Encoded rows without their column CUT, which says whether they are; how many are is printed."""
    cut = [index for index, is_cut in enumerate(encoded[CUT][:]) if is_cut]
    if cut:
        print(
            f"longer than max_length={limit} tokens, and cut there: {len(cut)} of {len(rows)} rows, first "
            f"{place_at(rows, cut[0])}",
            flush=True,
        )
    return encoded.remove_columns(CUT)


def shown_inputs(rows: Dataset, columns: Columns) -> list[dict[str, Any]]:
    """The inputs of each row by column, as JSON can write them."""
    found = [[_shown(value) for value in read_column(rows, column)] for column in columns.inputs]
    return [dict(zip(columns.inputs, values, strict=True)) for values in zip(*found, strict=True)]


def _shown(value: Any) -> Any:
    return as_text(value) if as_text(value) is not None else value
