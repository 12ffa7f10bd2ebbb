"""What templates differ in: how they want calls of functions, and what of a conversation they write."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

from fourierft.errors import ConfigError
from fourierft.training.chat.conversation import Conversation
from fourierft.training.chat.messages import TOLD, Message

Render = Callable[[Conversation], str]
"""What a template writes of a conversation; ConfigError, if it refuses it."""


class LeftOutError(ConfigError):
    """A template does not write some of a conversation."""


def forms_of(talk: Conversation) -> Iterator[Conversation]:
    """The same conversation in the forms in which templates want calls: first that of transformers' documentation.

    The arguments are an object or its JSON, and the content of an answer that says nothing else is empty or None.
    """
    yield talk
    if any("tool_calls" in message for message in talk.messages):
        for is_text, empty in ((False, None), (True, ""), (True, None)):
            yield replace(talk, messages=[_with_calls(message, is_text, empty) for message in talk.messages])


def check_written(talk: Conversation, text: str, render: Render) -> None:
    """Raise LeftOutError, if a template leaves tools, or what others than the assistant say, out of a conversation.

    Args:
        text: what it writes of it.
    """
    if talk.tools and not _differ(talk, replace(talk, tools=[]), render):
        _leave_out("tools")
    for place, message in enumerate(talk.messages):
        if message["role"] in ("system", "user") and not _holds(text, message["content"]):
            _leave_out(f"a message of role {message['role']}")
        if message["role"] == "tool" and not _differ(talk.until(place), talk.until(place + 1), render):
            _leave_out("a message of role tool")


def check_answer(talk: Conversation, place: int, text: str, render: Render) -> None:
    """Raise LeftOutError, if a template leaves out some of an answer.

    Args:
        place: of it.
        text: what the template writes of the conversation up to it.
    """
    message, before = talk.messages[place], talk.messages[:place]
    if not _holds(text, message["content"] or ""):
        _leave_out("some of the text of an answer")
    for key in TOLD:
        without: Message = {name: value for name, value in message.items() if name != key}
        if key in message and not _differ(talk.until(place + 1), replace(talk, messages=[*before, without]), render):
            _leave_out(f"the {key} of an answer")


def _with_calls(message: Message, is_text: bool, empty: str | None) -> Message:
    if "tool_calls" not in message:
        return message
    calls = []
    for call in message["tool_calls"]:
        arguments = call["function"].get("arguments", {})
        if is_text and not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        calls.append({**call, "function": {**call["function"], "arguments": arguments}})
    return {**message, "content": message["content"] or empty, "tool_calls": calls}


def _holds(text: str, content: str) -> bool:
    """Whether a text holds a content, whatever the blanks."""
    return "".join(content.split()) in "".join(text.split())


def _differ(one: Conversation, other: Conversation, render: Render) -> bool:
    """Whether a template writes two conversations in two ways; one that it refuses is another."""
    try:
        return render(one) != render(other)
    except ConfigError:
        return True


def _leave_out(what: str) -> None:
    raise LeftOutError(
        f"the tokenizer's chat template leaves out {what}; remove it, or use a model whose template writes it"
    )
