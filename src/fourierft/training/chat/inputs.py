"""Conversations and instructions; see `inputs.Inputs`. The loss counts the assistant's answers alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedTokenizerBase

from fourierft.errors import DataError
from fourierft.training.arguments import DataArguments, ModelArguments
from fourierft.training.cells import column_names, iterate_rows, place_of
from fourierft.training.chat.conversation import CONVERSATION_COLUMNS, holds_list, read_row
from fourierft.training.chat.template import INPUT_HEADING, encode_conversation, ensure_template, is_alpaca
from fourierft.training.columns import Columns, check_columns, require_columns
from fourierft.training.prompts import ANSWER_COLUMNS, PROMPT_COLUMNS, Prompts

if TYPE_CHECKING:
    from datasets import Dataset


class Chats(Prompts):
    """Rows of messages, or of a prompt and its answer, in the model's chat template."""

    name = "chat"

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
        """Tokens and labels of a conversation."""
        separator = INPUT_HEADING if is_alpaca(tokenizer) else "\n"
        return encode_conversation(read_row(row, columns, separator, place_of(row, 0)), tokenizer)
