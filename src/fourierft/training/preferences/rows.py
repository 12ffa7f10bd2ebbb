"""Rows of preferences as tokens: a prompt, and answers to it, in the model's chat template.

pairs      prompt, chosen, rejected: texts or messages; or chosen and rejected alone, as whole conversations
feedback   prompt, completion: likewise, or messages; and label, whether the last answer is a good one
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from fourierft.errors import ConfigError, DataError
from fourierft.training.cells import column_names, read_cell, shorten
from fourierft.training.chat.conversation import (
    CONVERSATION_COLUMNS,
    Conversation,
    holds_list,
    read_conversation,
    read_row,
)
from fourierft.training.chat.template import INPUT_HEADING, encode_conversation, is_alpaca
from fourierft.training.columns import Columns, require_columns
from fourierft.training.labels import IGNORED

if TYPE_CHECKING:
    from datasets import Dataset

CHOSEN, REJECTED, COMPLETION, LABEL = "chosen", "rejected", "completion", "label"
PROMPT_COLUMNS = (
    *(("instruction", "input"), ("instruction",), ("prompt",), ("question",)),
    *((name,) for name in CONVERSATION_COLUMNS),
)
YES, NO = ("true", "1", "1.0", "yes", "good"), ("false", "0", "0.0", "no", "bad")


class Answered(NamedTuple):
    """The tokens of a prompt, and of an answer with what ends it."""

    prompt: list[int]
    answer: list[int]


def find_prompt(rows: Dataset, wanted: Sequence[str] | None, answers: Sequence[str]) -> tuple[str, ...]:
    """The columns of the prompt: those named, else the usual ones; none if the answers are whole conversations.

    Args:
        wanted: columns, those of answers possibly among them.
        answers: their columns.

    Raises: DataError, if a column is missing, or there is neither a prompt nor a conversation.
    """
    require_columns(rows, [*(wanted or ()), *answers])
    named = tuple(name for name in wanted or () if name not in answers)
    if named:
        return named
    held, first = set(column_names(rows)), rows[0][answers[0]] if len(rows) else None  # none of data that are not here
    if wanted is None and (first is None or not _is_whole(first)):
        usual = next((names for names in PROMPT_COLUMNS if set(names) <= held), None)
        if usual is not None:
            return usual
    if first is not None and not holds_list(first):
        raise DataError(
            f"the data has the columns {', '.join(column_names(rows))}, among them no prompt; name its column with "
            f"--text_column, or give {' and '.join(answers)} as lists of messages, the prompt's first"
        )
    return ()


def _is_whole(value: Any) -> bool:
    """Whether a cell holds a conversation with a question in it, and not the messages of an answer alone."""
    if not holds_list(value) or isinstance(read_cell(value), dict):
        return False
    try:
        talk = read_conversation({"it": value}, ("it",), None, "\n", "the first row")
    except DataError:
        return True  # told with its place when rows are checked
    return talk.messages[0]["role"] != "assistant"


def read_answer(
    row: Mapping[str, Any], prompt: tuple[str, ...], answer: str, separator: str, where: str
) -> Conversation:
    """The conversation of a prompt and one answer, of which the last message is learned.

    Raises: DataError, if it holds something that can't be learned from, or does not end with an answer.
    """
    columns = Columns(prompt or (answer,), answer)
    talk = read_row({**row, answer: _as_list(row.get(answer))}, columns, separator, where)
    if talk.messages[-1]["role"] != "assistant" or len(talk.messages) < 2:
        lacks = "an answer without a prompt" if len(talk.messages) < 2 else "a conversation that ends with no answer"
        raise DataError(f"{where} has in {answer} {lacks}; add it, or remove the row")
    return replace(talk, unlearned=frozenset(talk.answers[:-1]))


def _as_list(value: Any) -> Any:
    """A cell of one message as one of a list of it."""
    read = read_cell(value)
    return [read] if isinstance(read, dict) else value


def separator_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """What stands between the parts of a prompt."""
    return INPUT_HEADING if is_alpaca(tokenizer) else "\n"


def encode_answer(talk: Conversation, tokenizer: PreTrainedTokenizerBase, limit: int | None, where: str) -> Answered:
    """Tokens of a conversation, split where its last answer begins, the answer not yet cut.

    Raises: DataError, if the template can't write it, or the prompt leaves no room within `limit` tokens.
    """
    try:
        tokens, labels = encode_conversation(talk, tokenizer)
    except ConfigError as error:
        raise DataError(f"{where}: {error}") from error
    place = next(number for number, label in enumerate(labels) if label != IGNORED)
    if limit is not None and place >= limit:
        raise DataError(
            f"the prompt in {where} has {place} tokens, which leaves no room for an "
            f"answer within max_length={limit}; raise --max_length, or remove the row"
        )
    return Answered(tokens[:place], tokens[place:])


def read_labels(values: Iterable[Any], where: Any) -> list[bool]:
    """Whether each completion is a good one.

    Raises: DataError, if a label says neither, or all say the same.
    """
    found = []
    for index, value in enumerate(values):
        told = str(value).strip().lower()
        if told not in (*YES, *NO):
            raise DataError(
                f"column {LABEL} holds {shorten(value)} in {where(index)}, which does not say whether the completion "
                "is good; use true or false"
            )
        found.append(told in YES)
    return found
