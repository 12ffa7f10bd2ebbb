"""Rows of the usual forms of chat data, as messages.

messages        [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}, ...]
conversations   [{"from": "human", "value": ...}, {"from": "gpt", "value": ...}, ...], or as above
instruction, input, output    texts, as of Alpaca; input may be empty or absent
prompt, completion            texts, or messages each
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fourierft.errors import DataError
from fourierft.training.cells import read_cell
from fourierft.training.columns import Columns

CONVERSATION_COLUMNS = ("messages", "conversations", "conversation")
ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatgpt"), "assistant"),
}


def read_row(row: Mapping[str, Any], columns: Columns, separator: str, where: str) -> list[dict[str, str]]:
    """The messages of a row, one answer at least among them.

    Args:
        separator: between the parts of a prompt.
        where: names the row, for errors.

    Raises: DataError, if it holds no text where one must be, an unknown role, or no answer.
    """
    prompt = [read_cell(row.get(name)) for name in columns.inputs]
    if columns.inputs == (columns.label,):
        messages = read_messages(prompt[0], where)
    else:
        asked = _as_messages(prompt[0] if len(prompt) == 1 else _join(prompt, separator), "user", where)
        messages = [*asked, *_as_messages(read_cell(row.get(columns.label)), "assistant", where)]
    if not any(message["role"] == "assistant" for message in messages):
        raise DataError(f"{where} has no answer, that is, no message of the assistant; add one or remove the row")
    return messages


def read_messages(value: Any, where: str) -> list[dict[str, str]]:
    """Messages with a role and a content, of whichever form they have.

    Raises: DataError, if they are none.
    """
    if not isinstance(value, list) or not value:
        raise DataError(f"{where} holds {value!r} in place of a list of messages; fill or remove it")
    messages = []
    for item in value:
        item = item if isinstance(item, Mapping) else {}
        role, content = item.get("role") or item.get("from"), item.get("content") or item.get("value")
        if role not in ROLES:
            raise DataError(f"{where} has a message of role {role!r}; known are {', '.join(ROLES)}")
        if not isinstance(content, str) or not content.strip():
            raise DataError(f"{where} has a message of role {role} without text; fill or remove it")
        messages.append({"role": ROLES[role], "content": content})
    return messages


def _as_messages(value: Any, role: str, where: str) -> list[dict[str, str]]:
    if isinstance(value, list):
        return read_messages(value, where)
    if not isinstance(value, str) or not value.strip():
        what = "answer" if role == "assistant" else "prompt"
        raise DataError(f"{where} has the {what} {value!r}, which is no text; fill or remove it")
    return [{"role": role, "content": value}]


def _join(parts: list[Any], separator: str) -> Any:
    """A prompt of its parts, those that are empty left out."""
    odd = next((part for part in parts if part is not None and not isinstance(part, str)), None)
    return odd if odd is not None else separator.join(part for part in parts if part)
