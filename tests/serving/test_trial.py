"""Adapters asked through OpenAI's client; the gate answers in this process."""

from __future__ import annotations

import pytest

from fourierft.errors import BackendError, ConfigError
from fourierft.serving.launch import ServeSettings
from fourierft.serving.tenants import Tenants
from fourierft.serving.trial import alone, ask, connect, side_by_side

from .conftest import Serve


def test_every_adapter_is_asked_the_same_through_openais_client(serve: Serve) -> None:
    client = connect("http://testserver/v1", serve(Tenants()))
    answers = ask(client, ["shared", "acme/one", "base"], "What does light mean?")
    assert answers == {name: f"hello from {name}" for name in ("shared", "acme/one", "base")}


def test_an_adapter_that_is_not_there_is_told_in_a_sentence(serve: Serve) -> None:
    client = connect("http://testserver/v1", serve(Tenants()))
    with pytest.raises(BackendError, match=r"did not answer: .*The model `nobody` does not exist"):
        ask(client, ["shared", "nobody"], "Hello")


def test_answers_stand_side_by_side_under_their_names() -> None:
    text = side_by_side({"noun": "a visual effect", "verb": "make lighter, or brighter, " * 3, "adjective": ""})
    assert text.splitlines() == [
        "noun                             verb                             adjective",
        "----                             ----                             ---------",
        "a visual effect                  make lighter, or brighter, make",
        "                                 lighter, or brighter, make",
        "                                 lighter, or brighter,",
    ]


def test_a_server_that_is_tried_is_for_nobody_else() -> None:
    with alone(ServeSettings("base", "fleet.db", host="0.0.0.0", port=8000)) as settings:
        assert settings.host == "127.0.0.1"
        assert settings.port not in (0, 8000)
    with pytest.raises(ConfigError, match="because it has no key"), alone(ServeSettings("base", "f.db", tenants="t")):
        raise AssertionError
