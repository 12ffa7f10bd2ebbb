"""One message of a conversation, of whichever form it has, as chat templates take it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fourierft.errors import DataError
from fourierft.training.cells import as_text, shorten

Message = dict[str, Any]

ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bot", "chatgpt"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "ipython"), "tool"),
    "function_call": "assistant",  # which it calls: the content is the call
}
TOLD = (
    "tool_calls",
    "reasoning_content",
    "reasoning",
    "thinking",
    "refusal",
    "audio",
)  # what an answer may be beside text
_LEARNED = ("weight", "train", "training", "loss")  # marks of answers that are, or are not, to be learned
_PARTS_LEARNED = ("train_detail", "training_detail")  # of Axolotl: which parts of an answer are to be learned
_OWN = ("role", "from", "content", "value", "function_call", *_LEARNED)


def read_message(item: Any, where: str) -> tuple[Message, bool]:
    """A message, and whether it is learned if it is an answer.

    Returns: `role` is system, user, assistant or tool, `content` a text; what else is there, such as `tool_calls` or
        `name`, is for the template.

    Raises: DataError, if it is none, of an unknown role, or has no text.
    """
    item = item if isinstance(item, Mapping) else {}
    given = item.get("role") or item.get("from")
    role = ROLES.get(given.strip().lower()) if isinstance(given, str) else None
    if role is None:
        raise DataError(f"{where} has a message of the unknown role {given!r}; use one of {', '.join(ROLES)}")
    parts = next((key for key in _PARTS_LEARNED if item.get(key)), None)
    if parts is not None:
        raise DataError(
            f"{where} has a message with {parts}, but only whole answers can be trained; "
            "set train: true or false, or remove the row"
        )
    others = {key: value for key, value in item.items() if key not in _OWN and value is not None}
    content = item.get("value") if item.get("content") is None else item["content"]
    calls = others.pop("tool_calls", None) or item.get("function_call")
    if str(given).strip().lower() == "function_call":
        calls, content = content, None
    message: Message = {"role": role, "content": _read_content(content, role, where), **others}
    if calls:
        message["tool_calls"] = _read_calls(calls, where)
    if not message["content"].strip() and role in ("user", "assistant") and not message.keys() & set(TOLD):
        raise DataError(f"{where} has a message of role {given} without text; fill or remove it")
    return message, _is_learned(item, role, where)


def _read_content(content: Any, role: str, where: str) -> str:
    """The text of a content, parts of which are joined."""
    if content is None:
        return ""
    if isinstance(content, list) and not (role == "tool" and not all(map(_is_part, content))):
        texts = [part if isinstance(part, str) else _read_part(part, role, where) for part in content]
        return "".join(texts)
    text = as_text(content)
    if text is None and role == "tool":  # what a function gave
        return json.dumps(content, ensure_ascii=False)
    if text is None:
        raise DataError(f"{where} has a message of role {role} with {shorten(content)} instead of a text; correct it")
    return text


def _is_part(part: Any) -> bool:
    return isinstance(part, str) or (isinstance(part, Mapping) and "type" in part)


def _read_part(part: Any, role: str, where: str) -> str:
    text = part.get("text") if isinstance(part, Mapping) and part.get("type", "text") == "text" else None
    if not isinstance(text, str):
        kind = part.get("type") if isinstance(part, Mapping) else part
        raise DataError(
            f"{where} has a message of role {role} with a part {kind!r}, but only text can be used; remove it"
        )
    return text


def _read_calls(calls: Any, where: str) -> list[dict[str, Any]]:
    """Calls of functions, their arguments as objects, which most templates expect."""
    try:
        found = json.loads(calls) if isinstance(calls, str) else calls
        read = []
        for call in found if isinstance(found, list) else [found]:
            function = dict(call.get("function") or {key: call[key] for key in ("name", "arguments") if key in call})
            arguments = function.get("arguments")
            if isinstance(arguments, str) and isinstance(loaded := json.loads(arguments or "{}"), dict):
                function["arguments"] = loaded
            if not isinstance(function["name"], str):
                raise TypeError
            rest = {key: value for key, value in call.items() if key in ("id", "type")}
            read.append({"type": "function", **rest, "function": function})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{where} has the call {shorten(calls)}, which is not a function's name with arguments in JSON; correct it"
        ) from error
    return read


def _is_learned(item: Mapping[str, Any], role: str, where: str) -> bool:
    """Whether an answer is to be learned: yes, unless a mark of it is 0 or false."""
    marks = {key: item[key] for key in _LEARNED if isinstance(item.get(key), bool)}
    marks |= {} if item.get("weight") is None else {"weight": item["weight"]}
    odd = next((key for key, mark in marks.items() if mark not in (0, 1)), None)
    if odd is not None:
        raise DataError(f"{where} has a message of {odd} {marks[odd]!r}; use 1 to train on the answer, 0 not to")
    if role != "assistant" and any(marks.values()):
        key = next(key for key, mark in marks.items() if mark)
        raise DataError(
            f"{where} has a message of role {role} with {key} {marks[key]!r}, but only "
            "answers of the assistant can be trained; remove it"
        )
    return all(marks.values())
