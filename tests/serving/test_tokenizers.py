"""A server has one tokenizer: adapters that were trained with another one are told of before it starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fourierft.errors import ConfigError
from fourierft.serving import launch, vllm_internals
from fourierft.serving.tokenizers import check_tokenizers
from fourierft.store import Adapter, AdapterStore


def record(**fields: object) -> str:
    return json.dumps({"inputs": "chat", "base_model": "org/base", "tokenizer": None, **fields})


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, ()),
        ({"tokenizer": "org/base"}, ()),
        ({"tokenizer": "org/own"}, ("--dtype", "float32", "--tokenizer", "org/own")),
        ({"tokenizer": "org/own"}, ("--tokenizer=org/own",)),
        ({}, ("--tokenizer", "org/base")),
        ({"inputs": "text", "tokenizer": "org/own"}, ()),  # writes nothing
        ({"loading": {"model_class": "AutoModelForTokenClassification"}, "tokenizer": "org/own"}, ()),
    ],
)
def test_the_tokenizer_that_adapters_were_trained_with_serves_them(
    fields: dict[str, object], options: tuple[str, ...]
) -> None:
    check_tokenizers({"a": record(**fields)}, "org/base", options)


def test_another_tokenizer_is_refused_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'b' was trained with the tokenizer org/own, .* uses org/base; start"):
        check_tokenizers({"a": record(), "b": record(tokenizer="org/own")}, "org/base", ())
    with pytest.raises(ConfigError, match=r"'a' was trained with the tokenizer of its base, .* uses org/own"):
        check_tokenizers({"a": record(), "b": record(tokenizer="org/own")}, "org/base", ("--tokenizer", "org/own"))
    outside = record(inputs="rhymes", loading={"model_class": "AutoModelForCausalLM"}, tokenizer="org/own")
    with pytest.raises(ConfigError, match="'c' was trained with the tokenizer org/own"):
        check_tokenizers({"c": outside}, "org/base", ())
    (tmp_path / "own").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "own")
    own = record(tokenizer=str(tmp_path / "own"))
    check_tokenizers({"a": own}, "org/base", ("--tokenizer", str(tmp_path / "link")))


def test_a_store_is_looked_through_before_the_server_starts(
    tmp_path: Path, make_adapter: Callable[..., Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_internals, "vllm_version", lambda: "0.33.0")
    with AdapterStore(tmp_path / "fleet.db") as store:
        for name, text in (("a", None), ("b", record(tokenizer="org/old")), ("b", record()), ("c", record())):
            store.put(name, make_adapter(1).layout, make_adapter(1).values, record=text)
        assert store.records() == {"b": record()}
        settings = launch.ServeSettings("base", str(tmp_path / "fleet.db"))
        assert launch.check(settings).startswith("3 adapters of base")
        store.put("d", make_adapter(1).layout, make_adapter(1).values, record=record(tokenizer="org/own"))
    with pytest.raises(ConfigError, match="'d' was trained with the tokenizer org/own"):
        launch.check(settings)
