"""Conversations and instructions: the assistant's answers are learned, token by token, by TRL's trainer."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedTokenizerBase

from fourierft.errors import DataError
from fourierft.training.arguments import DataArguments, ModelArguments
from fourierft.training.cells import column_names, iterate_rows, place_of
from fourierft.training.chat.conversation import CONVERSATION_COLUMNS, holds_list, read_row
from fourierft.training.chat.template import (
    INPUT_HEADING,
    encode_conversation,
    ensure_template,
    is_alpaca,
    template_name,
)
from fourierft.training.columns import Columns, check_columns, require_columns
from fourierft.training.families.answers import ANSWER_COLUMNS, PROMPT_COLUMNS, Answers
from fourierft.training.labels import Where, by_index
from fourierft.training.models import LONGEST

if TYPE_CHECKING:
    from datasets import Dataset


class Chats(Answers):
    """Rows of messages, or of a prompt and its answer, in the model's chat template."""

    name = kind = "chat"
    packs = True

    def claims(self, rows: Dataset | None, data: DataArguments) -> bool:
        """Whether there is a column of messages, and no other is named, or the family was named."""
        if data.image_column or rows is None or data.task == self.name:
            return data.task == self.name and not data.image_column
        is_open = not (data.text_column or data.label_column)
        return is_open and bool(set(column_names(rows)) & set(CONVERSATION_COLUMNS[:2]))

    def find_columns(self, rows: Dataset, wanted: list[str] | None, label: str | None) -> Columns:
        """The column of the messages, or those of prompt and answer: those named, else the usual ones.

        Raises: DataError, naming the columns there are, if there is no answer among them.
        """
        require_columns(rows, [*(wanted or []), *([label] if label else [])])
        held = column_names(rows)
        whole = wanted[0] if wanted and (label is None or wanted == [label]) else None
        if whole is None and not wanted and not label:
            whole = next((name for name in CONVERSATION_COLUMNS if name in held), None)
        if whole is not None and holds_list(rows[0][whole]):
            return Columns((whole,), whole)
        prompt = tuple(wanted) if wanted else next((names for names in PROMPT_COLUMNS if set(names) <= set(held)), None)
        answer = label or next((name for name in ANSWER_COLUMNS if name in held), None)
        if prompt is None or answer is None:
            raise DataError(
                f"the data has the columns {', '.join(held)}, among them no {'prompt' if answer else 'answer'}; chat "
                "data are messages, conversations, instruction (and input) with output, or prompt with completion: "
                "name others with --text_column and --label_column"
            )
        return Columns(prompt, answer)

    def expect_columns(self, rows: Dataset, wanted: list[str] | None, label: str | None) -> Columns:
        """Those named, as it takes a row to see what a column holds."""
        require_columns(rows, [*(wanted or []), *([label] if label else [])])
        return Columns(tuple(wanted or ()), label or "?")

    def check_rows(self, rows: Dataset, columns: Columns) -> None:
        """Raise DataError if `rows` lack a column, or one of them is no conversation."""
        check_columns(rows, columns)
        for index, row in enumerate(iterate_rows(rows)):
            read_row(row, columns, "\n", place_of(row, index))

    def load_processor(self, arguments: ModelArguments, data: DataArguments) -> PreTrainedTokenizerBase:
        """The tokenizer, with a chat template: its own, or that of the Alpaca prompt.

        Raises: ConfigError, if it has no token that ends a text.
        """
        tokenizer = super().load_processor(arguments, data)
        ensure_template(tokenizer)
        return tokenizer

    def encode_row(
        self, row: Mapping[str, Any], columns: Columns, label: Any, tokenizer: PreTrainedTokenizerBase
    ) -> tuple[list[int], list[int]]:
        separator = INPUT_HEADING if is_alpaca(tokenizer) else "\n"
        return encode_conversation(read_row(row, columns, separator, place_of(row, 0)), tokenizer)

    def record_processor(self, processor: PreTrainedTokenizerBase, arguments: ModelArguments) -> dict[str, Any]:
        """The tokenizer, if it is not the model's, and the name of its template."""
        return {"tokenizer": arguments.tokenizer_name, "chat_template": template_name(processor)}

    def encode_labels(self, values: Sequence[Any], where: Where = by_index) -> list[Any]:
        """The answers, or the conversations that hold them, as they are."""
        return list(values)

    def require(self) -> None:
        """Raise MissingExtraError if TRL is not installed."""
        _import_trainer()

    def make_trainer(
        self, options: dict[str, Any], heads: tuple[str, ...], head_rate: float | None, limit: int | None, packing: bool
    ) -> Any:
        return _import_trainer().ChatTrainer(packing=packing, max_length=limit, **options)

    def count_rows(self, train: Any, limit: int | None, packing: bool) -> int:
        """The number of packed rows, if they are packed."""
        return int(_import_trainer().count_packed(train, limit)) if packing else len(train)

    def row_shape(self, train: Any, limit: int | None, packing: bool) -> tuple[int, ...]:
        """The tokens of the longest row, or those of a packed one."""
        return (limit or LONGEST,) if packing else super().row_shape(train, limit, packing)


FAMILIES = (Chats(),)


def _import_trainer() -> Any:
    """The module of the chat trainer.

    Raises: MissingExtraError, if TRL is not installed.
    """
    return importlib.import_module("fourierft.training.chat.trainer")
