"""What a row gives the model: a text, a prompt, or an image. The first choice of a training; much follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from peft import TaskType
from transformers import PreTrainedModel

from fourierft.training.arguments import DataArguments, ModelArguments
from fourierft.training.cells import column_names
from fourierft.training.chat.conversation import CONVERSATION_COLUMNS
from fourierft.training.chat.inputs import Chats
from fourierft.training.columns import Columns
from fourierft.training.images import Images
from fourierft.training.pictures import is_image
from fourierft.training.prompts import ANSWER_COLUMNS, PROMPT_COLUMNS, Prompts
from fourierft.training.texts import LABEL_COLUMNS, Texts

if TYPE_CHECKING:
    from datasets import Dataset


class Inputs(Protocol):
    """From columns to batches, for one kind of input.

    Attributes:
        name: in the record of a training.
        model_class: class of transformers that loads the model.
        task_type: PEFT's word for it; None if it has none.
        pipeline_tag: the hub's word for it.
    """

    name: str
    model_class: Any
    task_type: TaskType | None
    pipeline_tag: str

    def find_columns(self, rows: Dataset, wanted: list[str] | None, label: str | None) -> Columns:
        """Columns of input and label: those named, else those of the usual names."""

    def check_rows(self, rows: Dataset, columns: Columns) -> None:
        """Raise DataError if rows can't be trained on."""

    def load_processor(self, arguments: ModelArguments, data: DataArguments) -> Any:
        """What makes numbers of an input: a tokenizer, an image processor."""

    def fit(self, model: PreTrainedModel, processor: Any, wanted: int | None) -> int | None:
        """The number of tokens an input is cut to; None if it has none."""

    def encode(self, rows: Dataset, columns: Columns, labels: list[Any], processor: Any, limit: int | None) -> Any:
        """Rows as the model reads them."""

    def collator(self, processor: Any) -> Any:
        """What makes a batch of encoded rows."""

    def describe(self, rows: Dataset, columns: Columns) -> list[dict[str, Any]]:
        """What was given, a row, for a file of predictions."""


KINDS: tuple[Inputs, ...] = (Texts(), Prompts(), Chats(), Images())


def inputs_named(name: str) -> Inputs:
    """The inputs of a finished training, from what was saved of it."""
    return next(kind for kind in KINDS if kind.name == name)


def detect_inputs(rows: Dataset, data: DataArguments) -> Inputs:
    """The kind of input that the settings name, or else the columns call for."""
    columns = set(column_names(rows))
    if data.image_column or (not data.text_column and any(is_image(rows, column) for column in columns)):
        return inputs_named("image")
    is_automatic = data.task == "auto" and not (data.text_column or data.label_column)
    if data.task == "chat" or (is_automatic and columns & set(CONVERSATION_COLUMNS[:2])):
        return inputs_named("chat")
    is_usual = any(set(names) <= columns for names in PROMPT_COLUMNS) and columns & set(ANSWER_COLUMNS)
    is_labelled = data.label_column or columns & set(LABEL_COLUMNS)
    if data.task == "answers" or (data.task == "auto" and is_usual and not is_labelled):
        return inputs_named("prompt")
    return inputs_named("text")
