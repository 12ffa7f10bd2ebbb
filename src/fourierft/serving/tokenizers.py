"""The tokenizer of a server: one for all adapters, so it must be the one that each was trained with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from fourierft.errors import ConfigError

_WRITER = "AutoModelForCausalLM"  # the class of models that write texts
_FORMERLY = ("prompt", "chat")  # inputs of such models, in records from before they named the class
_OPTION = "--tokenizer"


def check_tokenizers(records: Mapping[str, str], model: str, options: Sequence[str]) -> None:
    """See whether adapters were trained with the tokenizer that a server has.

    Args:
        records: by adapter, texts of the fourierft.json that trainings left.
        model: that is served, whose tokenizer is the server's unless the options name another.
        options: for vLLM.

    Raises: ConfigError, if one was trained with another.
    """
    given = _find(options)
    for name, text in records.items():
        record = json.loads(text)
        if not _writes(record):
            continue
        trained = record.get("tokenizer")
        if trained is not None and not _is_same(trained, given or model):
            raise ConfigError(
                f"the adapter {name!r} was trained with the tokenizer {trained}, but this "
                f"server uses {given or model}; start it with --vllm='{_OPTION} {trained}', "
                "or serve such adapters from a separate store"
            )
        if trained is None and given is not None and not any(_is_same(given, own) for own in (model, _base(record))):
            raise ConfigError(
                f"the adapter {name!r} was trained with the tokenizer of its base, but this "
                f"server uses {given}; leave {_OPTION} out, or serve such adapters from "
                "a separate store"
            )


def _writes(record: Mapping[str, object]) -> bool:
    """Whether the model of a training writes texts, whatever its task family: others are not served."""
    loading = record.get("loading")
    if isinstance(loading, Mapping):
        return loading.get("model_class") == _WRITER
    return record.get("inputs") in _FORMERLY


def _base(record: Mapping[str, object]) -> str:
    return str(record.get("base_model") or "")


def _find(options: Sequence[str]) -> str | None:
    """The tokenizer that options of vLLM name."""
    for option, following in zip_longest(options, options[1:]):
        name, _, value = option.partition("=")
        if name == _OPTION:
            return value or following
    return None


def _is_same(one: str, other: str) -> bool:
    return one == other or (Path(one).exists() and Path(one).resolve() == Path(other).resolve())
