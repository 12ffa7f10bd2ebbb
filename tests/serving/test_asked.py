"""What a request for a completion may say, and what goes on of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fourierft.serving.asked import read_asked
from fourierft.serving.responses import RefusedError
from fourierft.serving.tenant import Tenant

ACME = Tenant("acme")


def passed(body: dict[str, Any], is_open: bool = True) -> dict[str, Any]:
    return dict(json.loads(read_asked(json.dumps(body).encode(), ACME, is_open).pack(None)))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "is not valid JSON: EOF while parsing"),
        (b'{"model": "\\ud800"}', "is not valid JSON: unexpected end of hex escape"),
        (b'{"prompt": "\xff"}', "is not valid JSON: invalid unicode code point"),
        (b'{"a": ' * 968 + b"1" + b"}" * 968, "is not valid JSON: recursion limit exceeded"),
        (b'{"a": ' + b"7" * 5000 + b"}", "is not valid JSON: number out of range"),
        (b'{"temperature": NaN}', "is not valid JSON"),
        (b'{"temperature": Infinity}', "is not valid JSON"),
        (b'{"temperature": 1e999}', "is not valid JSON: Out of range float values"),
        (b'"text"', "is a JSON str; send an object"),
        (b"null", "is a JSON NoneType; send an object"),
        (b'{"model": 5}', "field `model` is invalid: Input should be a valid string"),
        (b'{"stream": "perhaps"}', "field `stream` is invalid: Input should be a valid boolean"),
        (b'{"stream_options": 5}', "field `stream_options` is invalid"),
        (b'{"stream_options": {"include_usage": "x"}}', "field `stream_options.include_usage` is invalid"),
    ],
)
def test_what_is_no_request_is_refused_with_a_sentence(body: bytes, message: str) -> None:
    with pytest.raises(RefusedError, match=message) as caught:
        read_asked(body, ACME, True).pack(None)
    assert caught.value.response.status_code == 400
    assert "\n" not in str(caught.value)


def test_the_rest_of_a_request_goes_on_as_it_is() -> None:
    body = {"model": "a", "prompt": "naïve 🙂", "logit_bias": {"5": 1e-300}, "n": None, "nested": [[[{"x": 2**80}]]]}
    assert passed(body) == body
    asked = read_asked(json.dumps(body).encode(), ACME, True)
    assert asked[:3] == ("a", False, False)
    assert "naïve 🙂".encode() in asked.pack(None)  # not twice as long
    assert json.loads(asked.pack("b")) == {**body, "model": "b"}


def test_prefixes_of_a_tenant_are_kept_apart_whatever_it_asks_for() -> None:
    assert passed({"cache_salt": "umbrella"}, is_open=False)["cache_salt"] == ACME.salt
    assert passed({"cache_salt": "mine"})["cache_salt"] == "mine"


@pytest.mark.parametrize("stream", [True, "true", "on", "1", 1, 1.0])
@pytest.mark.parametrize("usage", [None, {}, {"include_usage": False}, {"include_usage": "off"}])
def test_a_stream_is_counted_in_every_form_that_it_is_asked_for(stream: Any, usage: Any) -> None:
    asked = read_asked(json.dumps({"stream": stream, "stream_options": usage}).encode(), ACME, True)
    assert (asked.stream, asked.hides_usage) == (True, True)
    assert asked.content == {"stream": True, "stream_options": {"include_usage": True}}


def test_a_count_that_was_asked_for_is_not_hidden() -> None:
    options = {"include_usage": "yes", "continuous_usage_stats": True}
    asked = read_asked(json.dumps({"stream": True, "stream_options": options}).encode(), ACME, True)
    assert not asked.hides_usage
    assert asked.content["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert not read_asked(b'{"stream": "off"}', ACME, True).stream
