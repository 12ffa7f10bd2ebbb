"""Rows of the usual forms of chat data, as conversations.

messages        [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}, ...]
conversations   [{"from": "human", "value": ...}, {"from": "gpt", "value": ...}, ...], or as above
instruction, input, output    texts, as of Alpaca; input may be empty or absent
prompt, completion            texts, or messages each

Beside them may stand system (a text), history (earlier questions and answers), tools (functions that the model may
call) and chat_template_kwargs (what else the template is given). Lists may be given as JSON, which csv needs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fourierft.errors import DataError
from fourierft.training.cells import NESTED, as_text, is_blank, read_cell, shorten
from fourierft.training.chat.messages import Message, read_message
from fourierft.training.columns import Columns

CONVERSATION_COLUMNS = ("messages", "conversations", "conversation")
SYSTEM_COLUMNS = ("system", "system_prompt")
TOOL_COLUMNS = ("tools", "functions")
HISTORY, OPTIONS = "history", "chat_template_kwargs"
MEDIA_COLUMNS = ("images", "image", "videos", "video", "audios", "audio")
BESIDE = (*SYSTEM_COLUMNS, HISTORY, *TOOL_COLUMNS, OPTIONS, *MEDIA_COLUMNS)


@dataclass(frozen=True)
class Conversation:
    """What chat templates take.

    Attributes:
        messages: each with `role`, `content`, and what else it says, such as `tool_calls`.
        tools: functions that may be called, as JSON schemas.
        options: further variables of the template.
        unlearned: places of answers that are not to be learned.
    """

    messages: list[Message]
    tools: list[dict[str, Any]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    unlearned: frozenset[int] = frozenset()

    @property
    def answers(self) -> list[int]:
        """Places of the messages of the assistant."""
        return [place for place, message in enumerate(self.messages) if message["role"] == "assistant"]

    def until(self, place: int) -> Conversation:
        """The conversation before a place."""
        return replace(self, messages=self.messages[:place])


def read_row(row: Mapping[str, Any], columns: Columns, separator: str, where: str) -> Conversation:
    """The conversation of a row, one answer to learn at least in it.

    Args:
        separator: between the parts of a prompt.
        where: names the row, for errors.

    Raises: DataError, if it holds something that can't be learned from, or no answer.
    """
    whole = columns.inputs == (columns.label,)
    if whole and not isinstance(_from_json(_cell(row, columns.label)), list):
        held = shorten(_cell(row, columns.label))
        raise DataError(f"{where} has {held} instead of a list of messages; fill or remove it")
    found = read_conversation(row, columns.inputs, None if whole else columns.label, separator, where)
    if not found.answers:
        raise DataError(f"{where} has no message of the assistant, so there is no answer; add one, or remove the row")
    if found.unlearned.issuperset(found.answers):
        raise DataError(f"{where} has no answer to train on, because all have weight 0; remove the row")
    return found


def read_conversation(
    row: Mapping[str, Any], prompt: Sequence[str], answer: str | None, separator: str, where: str
) -> Conversation:
    """The conversation of a row, with or without an answer.

    Args:
        prompt: the column of messages, or those of a prompt.
        answer: the column of the answer; None if there is none.
        separator, where: as for `read_row`.

    Raises: DataError, if it holds something that can't be learned from.
    """
    beside = {name: _cell(row, name) for name in BESIDE if name in row and name not in (*prompt, answer)}
    media = next((name for name in MEDIA_COLUMNS if not _is_empty(_from_json(beside.get(name)))), None)
    if media is not None:
        raise DataError(f"{where} has {media}, which cannot be used here; remove the column, or the row")
    parts = [_cell(row, name) for name in prompt]
    read = [*_read_history(beside.get(HISTORY), where)]
    asked = parts[0] if len(parts) == 1 else _join(parts, separator)
    read += _as_messages(asked, "user", where)
    if answer is not None:
        read += _as_messages(_cell(row, answer), "assistant", where)
    system = next((beside[name] for name in SYSTEM_COLUMNS if not is_blank(beside.get(name))), None)
    if system is not None:
        read = _with_system(read, as_text(system), where)
    tools = next((beside[name] for name in TOOL_COLUMNS if not _is_empty(beside.get(name))), None)
    return Conversation(
        [message for message, _ in read],
        _read_tools(tools, where),
        _read_options(beside.get(OPTIONS), where),
        frozenset(place for place, (_, is_learned) in enumerate(read) if not is_learned),
    )


def holds_list(value: Any) -> bool:
    """Whether a cell holds a list, or is empty, as one of conversations may be."""
    return not isinstance(_from_json(read_cell(value)), str)


def find_beside(row: Mapping[str, Any], taken: Sequence[str]) -> str | None:
    """The first column beside those taken that says something to a conversation; None if there is none."""
    names = [name for name in (*SYSTEM_COLUMNS, HISTORY, *TOOL_COLUMNS) if name in row and name not in taken]
    return next((name for name in names if not _is_empty(_from_json(_cell(row, name)))), None)


def _is_empty(value: Any) -> bool:
    return is_blank(value) or value in ([], {})


def _cell(row: Mapping[str, Any], name: str) -> Any:
    """A cell; of a typed column without what is missing, as its type has a place for whatever any row has."""
    value = row.get(name)
    is_typed = isinstance(value, list | dict) and not (isinstance(value, dict) and NESTED in value)
    return _without_missing(value) if is_typed else read_cell(value)


def _without_missing(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_missing(item) for key, item in value.items() if item is not None}
    return [_without_missing(item) for item in value] if isinstance(value, list) else value


def _from_json(value: Any) -> Any:
    """A list or an object that is given as its JSON."""
    if isinstance(value, str) and value.strip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _as_messages(value: Any, role: str, where: str) -> list[tuple[Message, bool]]:
    """Messages of a list, or the one that a text is, each with whether it is learned if it is an answer."""
    if isinstance(value, str) and isinstance(found := _from_json(value), list) and any(map(_is_message, found)):
        value = found
    if isinstance(value, list):
        if not value:
            raise DataError(f"{where} has [] instead of a list of messages; fill or remove it")
        return [read_message(item, where) for item in value]
    text = as_text(value)
    if text is None or is_blank(text):
        what = "answer" if role == "assistant" else "prompt"
        raise DataError(f"{where} has the {what} {shorten(value)}, which is not a text; fill or remove it")
    return [({"role": role, "content": text}, True)]


def _is_message(item: Any) -> bool:
    return isinstance(item, dict) and bool(item.keys() & {"role", "from"})


def _join(parts: list[Any], separator: str) -> Any:
    """A prompt of its parts, those that are empty left out."""
    odd = next((part for part in parts if not is_blank(part) and as_text(part) is None), None)
    return odd if odd is not None else separator.join(as_text(part) or "" for part in parts if not is_blank(part))


def _read_history(value: Any, where: str) -> list[tuple[Message, bool]]:
    """Earlier turns: pairs of question and answer, or messages."""
    turns = _from_json(value)
    if _is_empty(turns):
        return []
    if isinstance(turns, list) and all(map(_is_message, turns)):
        return [read_message(item, where) for item in turns]
    found = []
    for turn in turns if isinstance(turns, list) else [turns]:
        if not isinstance(turn, list) or len(turn) != 2 or not all(isinstance(text, str) for text in turn):
            raise DataError(
                f"{where} has the history {shorten(value)}, which is not a list of pairs "
                "of question and answer; correct it, or remove the column"
            )
        found += [
            ({"role": role, "content": text}, True) for role, text in zip(("user", "assistant"), turn, strict=True)
        ]
    return found


def _with_system(read: list[tuple[Message, bool]], system: str | None, where: str) -> list[tuple[Message, bool]]:
    first = read[0][0]
    if system is None:
        raise DataError(f"{where} has a system message that is not a text; correct it, or remove the column")
    if first["role"] != "system":
        return [({"role": "system", "content": system}, True), *read]
    if first["content"] != system:
        raise DataError(f"{where} has two system messages, one in the messages and one in a column; remove one of them")
    return read


def _read_tools(value: Any, where: str) -> list[dict[str, Any]]:
    tools = _from_json(value)
    if _is_empty(tools):
        return []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) and tool for tool in tools):
        raise DataError(
            f"{where} has the tools {shorten(value)}, which is not a list of functions; "
            "correct it, or remove the column"
        )
    return [tool if "function" in tool else {"type": "function", "function": tool} for tool in tools]


def _read_options(value: Any, where: str) -> dict[str, Any]:
    options = _from_json(value)
    if _is_empty(options):
        return {}
    if not isinstance(options, dict):
        raise DataError(
            f"{where} has the {OPTIONS} {shorten(value)}, which is not an object; correct it, or remove the column"
        )
    return options
