"""Every usual form of chat data comes out as the same messages; what is none is named."""

from __future__ import annotations

from typing import Any

import pytest

from fourierft.errors import DataError
from fourierft.training.chat.conversation import read_row
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
        ({"prompt": [ASKED], "completion": [ANSWERED]}, Columns(("prompt",), "completion")),
    ],
)
def test_all_forms_are_the_same_messages(row: dict[str, Any], columns: Columns) -> None:
    assert read_row(row, columns, "\n", "row 1") == [ASKED, ANSWERED]


def test_input_stands_behind_its_instruction() -> None:
    row = {"instruction": "the film", "input": "the book", "output": "x"}
    assert read_row(row, Columns(("instruction", "input"), "output"), " / ", "row 1")[0]["content"] == (
        "the film / the book"
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([ASKED], "row 3 has no answer, that is, no message of the assistant"),
        ([], "in place of a list of messages"),
        ("hello", "holds 'hello' in place of a list of messages"),
        ([{"role": "judge", "content": "a"}], "message of role 'judge'; known are system, developer, user"),
        ([ASKED, {"role": "assistant", "content": " "}], "message of role assistant without text"),
        ([ASKED, {"role": "assistant", "content": None}], "message of role assistant without text"),
        (["hello"], "message of role None"),
    ],
)
def test_what_is_no_conversation_is_named(value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_row({"messages": value}, Columns(("messages",), "messages"), "\n", "row 3")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a", "completion": ""}, "row 3 has the answer '', which is no text"),
        ({"prompt": None, "completion": "b"}, "row 3 has the prompt None, which is no text"),
        ({"prompt": 5, "completion": "b"}, "row 3 has the prompt 5, which is no text"),
    ],
)
def test_pair_that_is_no_text_is_named(row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_row(row, Columns(("prompt",), "completion"), "\n", "row 3")
