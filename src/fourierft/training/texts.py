"""Texts, one or a pair a row, that get a label: classification and regression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peft import TaskType
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from fourierft.errors import DataError
from fourierft.training.arguments import DataArguments, ModelArguments
from fourierft.training.data import Columns, check_filled, check_texts, find_column, require_columns
from fourierft.training.models import load_tokenizer, longest_text

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


class Texts:
    """Rows of text; see `inputs.Inputs`."""

    name = "text"
    model_class = AutoModelForSequenceClassification
    task_type: TaskType | None = TaskType.SEQ_CLS
    pipeline_tag = "text-classification"

    def find_columns(self, rows: Dataset, wanted: list[str] | None, label: str | None) -> Columns:
        """The columns of text and label: those named, else those of the usual names.

        Raises: DataError, naming the columns there are, if one is missing.
        """
        require_columns(rows, [*(wanted or []), *([label] if label else [])])
        if wanted is not None and len(wanted) not in (1, 2):
            raise DataError(f"text_column names {len(wanted)} columns; name one, or two for a pair of texts")
        usual = next((names for names in TEXT_COLUMNS if set(names) <= set(rows.column_names)), None)
        texts = tuple(wanted) if wanted else usual
        if texts is None:
            texts = (find_column(rows, None, (), "text"),)
        return Columns(texts, find_column(rows, label, LABEL_COLUMNS, "label"))

    def check_rows(self, rows: Dataset, columns: Columns, name: str) -> None:
        """Raise DataError if `rows`, called `name`, lack a column, a text or a label, or are none at all."""
        check_filled(rows, columns, name)
        check_texts(rows, columns.inputs, name, "text_column")

    def load_processor(self, arguments: ModelArguments, data: DataArguments) -> PreTrainedTokenizerBase:
        """The tokenizer."""
        return load_tokenizer(arguments)

    def fit(self, model: PreTrainedModel, processor: PreTrainedTokenizerBase, wanted: int | None) -> int | None:
        """The number of tokens texts are cut to; the model learns which token is padding."""
        if model.config.pad_token_id is None:
            model.config.pad_token_id = processor.pad_token_id
        return longest_text(model, processor, wanted)

    def encode(
        self, rows: Dataset, columns: Columns, labels: list[Any], processor: PreTrainedTokenizerBase, limit: int | None
    ) -> Dataset:
        """The rows as the model reads them: tokens cut to `limit`, and `labels`.

        Args:
            labels: one per row, encoded for the model's loss.
        """

        def encode(batch: dict[str, list[Any]], indices: list[int]) -> dict[str, Any]:
            encoded = processor(*(batch[column] for column in columns.inputs), truncation=True, max_length=limit)
            return {**encoded, "labels": [labels[index] for index in indices]}

        return rows.map(encode, batched=True, with_indices=True, remove_columns=rows.column_names, desc="Tokenizing")

    def collator(self, processor: PreTrainedTokenizerBase) -> Any:
        """Makes a batch of rows."""
        return DataCollatorWithPadding(processor)

    def describe(self, rows: Dataset, columns: Columns) -> list[dict[str, Any]]:
        """What was given, a row, for a file of predictions."""
        return rows.select_columns(list(columns.inputs)).to_list()
