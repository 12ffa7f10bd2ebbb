"""Messages of every usual form, as chat templates take them; what is none is named."""

from __future__ import annotations

from typing import Any

import pytest

from fourierft.errors import DataError
from fourierft.training.chat.messages import read_message

CALL = {"name": "weather", "arguments": {"city": "Rome"}}
NOW = {"type": "function", "function": {"name": "now", "arguments": {}}}
CALLS = [{"type": "function", "function": CALL}]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"role": "user", "content": "Hi"}, {"role": "user", "content": "Hi"}),
        ({"from": "human", "value": "Hi"}, {"role": "user", "content": "Hi"}),
        ({"from": "Human ", "value": "Hi", "role": None}, {"role": "user", "content": "Hi"}),
        ({"role": "developer", "content": "Hi"}, {"role": "system", "content": "Hi"}),
        ({"role": "system", "content": ""}, {"role": "system", "content": ""}),
        ({"role": "model", "content": "Hi", "name": "Ann"}, {"role": "assistant", "content": "Hi", "name": "Ann"}),
        ({"role": "user", "content": 7}, {"role": "user", "content": "7"}),
        (
            {"role": "user", "content": [{"type": "text", "text": "Hi "}, {"type": "text", "text": "you"}]},
            {"role": "user", "content": "Hi you"},
        ),
        ({"role": "user", "content": ["Hi ", {"text": "you"}]}, {"role": "user", "content": "Hi you"}),
        ({"role": "tool", "content": {"sun": True}}, {"role": "tool", "content": '{"sun": true}'}),
        ({"role": "tool", "content": [{"sun": "ja, schön"}]}, {"role": "tool", "content": '[{"sun": "ja, schön"}]'}),
        ({"from": "observation", "value": ""}, {"role": "tool", "content": ""}),
        (
            {"role": "assistant", "content": None, "tool_calls": [{**CALLS[0], "id": "1"}]},
            {"role": "assistant", "content": "", "tool_calls": [{**CALLS[0], "id": "1"}]},
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {**CALL, "arguments": '{"city": "Rome"}'}}]},
            {"role": "assistant", "content": "", "tool_calls": CALLS},
        ),
        (
            {"role": "assistant", "content": None, "function_call": {**CALL, "arguments": '{"city": "Rome"}'}},
            {"role": "assistant", "content": "", "tool_calls": CALLS},
        ),
        (
            {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Rome"}}'},
            {"role": "assistant", "content": "", "tool_calls": CALLS},
        ),
        (
            {"role": "assistant", "content": "", "tool_calls": [{"name": "now", "arguments": ""}]},
            {"role": "assistant", "content": "", "tool_calls": [NOW]},
        ),
        (
            {"role": "assistant", "content": "Yes", "reasoning_content": "Hm", "weight": None},
            {"role": "assistant", "content": "Yes", "reasoning_content": "Hm"},
        ),
    ],
)  # fmt: skip
def test_every_form_is_a_message(item: dict[str, Any], message: dict[str, Any]) -> None:
    assert read_message(item, "row 3") == (message, True)


@pytest.mark.parametrize(
    ("marks", "is_learned"),
    [
        ({"weight": 0}, False),
        ({"weight": 1}, True),
        ({"weight": 0.0}, False),
        ({"weight": True}, True),
        ({"train": False}, False),
        ({"training": True}, True),
        ({"loss": False}, False),
        ({"loss": 2.31}, True),  # a number of somebody's own
        ({"weight": 1, "loss": False}, False),
    ],
)
def test_marks_say_which_answers_are_learned(marks: dict[str, Any], is_learned: bool) -> None:
    message, found = read_message({"role": "assistant", "content": "Yes", **marks}, "row 3")
    assert (message, found) == ({"role": "assistant", "content": "Yes"}, is_learned)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"role": "judge", "content": "a"}, "message of the unknown role 'judge'; use one of system, developer, user"),
        ("hello", "message of the unknown role None"),
        ({"role": ["user"], "content": "a"}, r"message of the unknown role \['user'\]"),
        ({"role": "assistant", "content": " "}, "row 3 has a message of role assistant without text; fill or"),
        ({"role": "assistant", "content": None}, "message of role assistant without text"),
        ({"from": "human", "value": None}, "message of role human without text"),
        ({"role": "user", "content": []}, "message of role user without text"),
        ({"role": "user", "content": {"a": 1}}, r"message of role user with {'a': 1} instead of a text"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
            "row 3 has a message of role user with a part 'image_url', but only text can be used",
        ),
        ({"role": "assistant", "content": [{"type": "text", "text": None}]}, "with a part 'text'"),
        ({"role": "assistant", "tool_calls": [{"id": 1}]}, "which is not a function's name with arguments in JSON"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": "{x"}}]}, "row 3 has the call"),
        ({"from": "function_call", "value": "weather(Rome)"}, "the call 'weather.Rome.', which is not a function's"),
        ({"role": "assistant", "content": "a", "weight": 0.5}, "a message of weight 0.5; use 1 to train on the answer"),
        (
            {"role": "assistant", "content": "a", "train_detail": [{"begin_offset": 0, "train": True}]},
            "row 3 has a message with train_detail, but only whole answers can be trained",
        ),
        ({"role": "user", "content": "a", "weight": 1}, "role user with weight 1, but only answers of the assistant"),
    ],
)  # fmt: skip
def test_what_is_no_message_is_named(item: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_message(item, "row 3")


def test_a_question_may_say_that_it_is_not_learned() -> None:
    assert read_message({"from": "human", "value": "Hi", "weight": 0.0}, "row 3")[0] == {
        "role": "user",
        "content": "Hi",
    }
