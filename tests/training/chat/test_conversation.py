"""Every usual form of chat data comes out as the same messages; what is none is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fourierft.errors import DataError
from fourierft.training.cells import NESTED
from fourierft.training.chat.conversation import Conversation, find_beside, read_conversation, read_row
from fourierft.training.columns import Columns

ASKED, ANSWERED = {"role": "user", "content": "the film"}, {"role": "assistant", "content": "is good"}


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"messages": [ASKED, ANSWERED]}, Columns(("messages",), "messages")),
        (
            {"conversations": [{"from": "human", "value": "the film"}, {"from": "gpt", "value": "is good"}]},
            Columns(("conversations",), "conversations"),
        ),
        ({"instruction": "the film", "input": "", "output": "is good"}, Columns(("instruction", "input"), "output")),
        ({"instruction": "the film", "input": None, "output": "is good"}, Columns(("instruction", "input"), "output")),
        ({"prompt": "the film", "completion": "is good"}, Columns(("prompt",), "completion")),
        ({"messages": json.dumps([ASKED, ANSWERED])}, Columns(("messages",), "messages")),
        ({"messages": {NESTED: json.dumps([ASKED, ANSWERED])}}, Columns(("messages",), "messages")),
        ({"prompt": json.dumps([ASKED]), "completion": "is good"}, Columns(("prompt",), "completion")),
        (
            {"prompt": "the film", "completion": "is good", "system": "", "history": [], "tools": None, "images": []},
            Columns(("prompt",), "completion"),
        ),
        ({"prompt": [ASKED], "completion": [ANSWERED]}, Columns(("prompt",), "completion")),
    ],
)
def test_all_forms_are_the_same_messages(row: dict[str, Any], columns: Columns) -> None:
    assert read_row(row, columns, "\n", "row 1") == Conversation([ASKED, ANSWERED])


def test_input_stands_behind_its_instruction() -> None:
    row = {"instruction": "the film", "input": "the book", "output": "x"}
    talk = read_row(row, Columns(("instruction", "input"), "output"), " / ", "row 1")
    assert talk.messages[0]["content"] == "the film / the book"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([ASKED], "row 3 has no message of the assistant, so there is no answer"),
        ([], "instead of a list of messages"),
        ("hello", "has 'hello' instead of a list of messages"),
        ([ASKED, {"role": "assistant", "content": None}], "row 3 has a message of role assistant without text"),
        ([ASKED, {**ANSWERED, "weight": 0}], "row 3 has no answer to train on, because all have weight 0"),
        ("[{'role': 'user'}]", "instead of a list of messages"),
        (None, "has None instead of a list of messages"),
    ],
)
def test_what_is_no_conversation_is_named(value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_row({"messages": value}, Columns(("messages",), "messages"), "\n", "row 3")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a", "completion": ""}, "row 3 has the answer '', which is not a text"),
        ({"prompt": None, "completion": "b"}, "row 3 has the prompt None, which is not a text"),
        ({"prompt": {"a": 5}, "completion": "b"}, "row 3 has the prompt {'a': 5}, which is not a text"),
    ],
)
def test_pair_that_is_no_text_is_named(row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_row(row, Columns(("prompt",), "completion"), "\n", "row 3")


def test_what_stands_beside_a_prompt_belongs_to_the_conversation() -> None:
    row = {
        "instruction": "And the book?",
        "input": "",
        "output": "is dull",
        "system": "Be short.",
        "history": [["the film", "is good"]],
        "tools": json.dumps([{"name": "look", "parameters": {}}]),
        "chat_template_kwargs": {"enable_thinking": False},
    }
    talk = read_row(row, Columns(("instruction", "input"), "output"), "\n", "row 1")
    system = {"role": "system", "content": "Be short."}
    last = [{"role": "user", "content": "And the book?"}, {"role": "assistant", "content": "is dull"}]
    assert talk.messages == [system, ASKED, ANSWERED, *last]
    assert talk.tools == [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    assert talk.options == {"enable_thinking": False}
    assert talk.answers == [2, 4]
    row |= {"history": json.dumps([ASKED, {**ANSWERED, "weight": 0}])}
    talk = read_row(row, Columns(("instruction", "input"), "output"), "\n", "row 1")
    assert (talk.messages[1:3], talk.unlearned) == ([ASKED, ANSWERED], {2})


def test_a_system_message_stands_first_and_once() -> None:
    system, columns = {"role": "system", "content": "Be short."}, Columns(("messages",), "messages")
    ways: tuple[dict[str, Any], ...] = (
        {"system": "Be short."},
        {"system_prompt": "Be short."},
        {"messages": [system, ASKED, ANSWERED]},
    )
    for way in ways:
        row = {"messages": [ASKED, ANSWERED], **way}
        assert read_row(row, columns, "\n", "row 1").messages == [system, ASKED, ANSWERED]
    same = {"messages": [system, ASKED, ANSWERED], "system": "Be short."}
    assert read_row(same, columns, "\n", "row 1").messages == [system, ASKED, ANSWERED]
    with pytest.raises(DataError, match="row 1 has two system messages, one in the messages and one in a column"):
        read_row({**same, "system": "Be long."}, columns, "\n", "row 1")


def test_places_that_a_typed_column_has_for_other_rows_are_left_out() -> None:
    call = {"id": None, "type": "function", "function": {"name": "look", "arguments": {"at": "film", "city": None}}}
    typed = [{**ASKED, "tool_calls": None}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    columns = Columns(("messages",), "messages")
    (found,) = read_row({"messages": typed}, columns, "\n", "row 1").messages[1]["tool_calls"]
    assert found == {"type": "function", "function": {"name": "look", "arguments": {"at": "film"}}}
    (found,) = read_row({"messages": {NESTED: json.dumps(typed)}}, columns, "\n", "row 1").messages[1]["tool_calls"]
    assert found["function"]["arguments"] == {"at": "film", "city": None}, "a JSON file says what it says"


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        ({"history": "a, b"}, "row 3 has the history 'a, b', which is not a list of pairs of question and answer"),
        ({"history": [["a"]]}, "which is not a list of pairs"),
        ({"history": [["a", None]]}, "which is not a list of pairs"),
        ({"tools": "a hammer"}, "row 3 has the tools 'a hammer', which is not a list of functions"),
        ({"functions": [7]}, r"row 3 has the tools \[7\], which is not a list of functions"),
        ({"chat_template_kwargs": [1]}, "which is not an object; correct it"),
        ({"system": {"a": 1}}, "a system message that is not a text"),
        ({"images": ["a.png"]}, "row 3 has images, which cannot be used here; remove the column, or the row"),
    ],
)
def test_what_can_not_be_heeded_is_named(beside: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_row({"prompt": "a", "completion": "b", **beside}, Columns(("prompt",), "completion"), "\n", "row 3")


def test_what_waits_for_an_answer_needs_none() -> None:
    talk = read_conversation({"prompt": "the film", "system": "so"}, ["prompt"], None, "\n", "row 1")
    assert talk.messages == [{"role": "system", "content": "so"}, ASKED]
    assert not talk.answers
    assert find_beside({"prompt": "a", "history": "[]", "tools": [], "system": " "}, ["prompt"]) is None
    assert find_beside({"prompt": "a", "history": "[]", "functions": [{"name": "b"}]}, ["prompt"]) == "functions"
    assert find_beside({"system": "a", "b": "c"}, ["system"]) is None
