"""adapter_config.json: the settings of an adapter, checked, with stock PEFT's defaults where it has none.

A field that this package knows has the type that stock PEFT gives it, or the file is refused. Fields that it does not
know are PEFT's business, which adds some with every release, and are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fourierft.errors import CheckpointError
from fourierft.format.identity import BaseIdentity
from fourierft.format.json_file import is_number, is_text, read_json, shown
from fourierft.format.patterns import FrequencyPattern
from fourierft.format.record import Record
from fourierft.spectral import Draw
from fourierft.spectral.entries import LEAST_SEED, MOST_SEED

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_DEFAULTS = {"n_frequency": 1000, "scaling": 150.0, "random_loc_seed": 777}  # stock PEFT's
MOST_SCALING = 1e30
_MOST_TEXT, _MOST_ITEMS, _MOST_COEFFICIENTS = 1000, 100_000, 1 << 40


def _is_short(value: object) -> bool:
    return is_text(value, _MOST_TEXT)


def _is_list(value: object) -> bool:
    return isinstance(value, list) and len(value) <= _MOST_ITEMS and all(_is_short(item) for item in value)


def _is_count(value: object) -> bool:
    return type(value) is int and 1 <= value <= _MOST_COEFFICIENTS


def _is_index(value: object) -> bool:
    return type(value) is int and 0 <= value < _MOST_ITEMS


_CLASS = ("base_model_class", "parent_library")  # of `auto_mapping`, beside which other programs note more
_Field = tuple[Callable[[Any], bool], str]  # whether a value will do, and what will
_TEXT: _Field = (lambda value: value is None or _is_short(value), f"a text of up to {_MOST_TEXT} characters, or null")
_NAMES: _Field = (lambda v: v is None or _is_short(v) or _is_list(v), "a list of texts, a text, or null")
_FLAG: _Field = (lambda value: isinstance(value, bool), "true or false")
_FIELDS: dict[str, _Field] = {
    "task_type": _TEXT,
    "base_model_name_or_path": _TEXT,
    "revision": _TEXT,
    "peft_version": _TEXT,
    "bias": (_is_short, "a text"),
    "inference_mode": _FLAG,
    "fan_in_fan_out": _FLAG,
    "init_weights": _FLAG,
    "target_modules": _NAMES,
    "exclude_modules": _NAMES,
    "target_parameters": _NAMES,
    "layers_pattern": _NAMES,
    "modules_to_save": (lambda value: value is None or _is_list(value), "a list of texts, or null"),
    "layers_to_transform": (
        lambda v: v is None or _is_index(v) or (isinstance(v, list) and all(map(_is_index, v))),
        "a list of indices, an index, or null",
    ),
    "auto_mapping": (
        lambda value: value is None or (isinstance(value, dict) and all(map(_TEXT[0], map(value.get, _CLASS)))),
        f"an object with the texts {' and '.join(_CLASS)}, or null",
    ),
    "n_frequency": (_is_count, "a positive integer"),
    "n_frequency_pattern": (
        lambda value: value is None or (isinstance(value, dict) and len(value) <= _MOST_ITEMS),
        "an object of positive integers, or null",
    ),
    "scaling": (
        lambda value: is_number(value, -MOST_SCALING, MOST_SCALING),
        f"a finite number, up to {MOST_SCALING:g}",
    ),
    "random_loc_seed": (
        lambda value: type(value) is int and LEAST_SEED <= value <= MOST_SEED,
        "an integer of at most 64 bits",
    ),
}


@dataclass(frozen=True, eq=False)
class AdapterConfig:
    """The settings of an adapter on disk.

    Attributes:
        content: of adapter_config.json as it stands.
        n_frequency: coefficients of a layer that the pattern says nothing of.
        pattern: coefficients of those that it does.
        scaling: one for all layers; dimensionless.
        draw: of the entries.
        record: what stock PEFT has no field for.
        base_model: hub id or folder of the base model; None if the config names none.
        revision: of the base model on the hub.
        task_type: PEFT's task, such as SEQ_CLS; None if it has none.
    """

    content: Mapping[str, Any]
    n_frequency: int
    pattern: FrequencyPattern
    scaling: float
    draw: Draw
    record: Record
    base_model: str | None
    revision: str | None
    task_type: str | None

    @classmethod
    def read(cls, file: Path) -> AdapterConfig:
        """The config in a file.

        Raises: CheckpointError, if it is missing, not JSON, or `of` refuses it.
        """
        return cls.of(read_json(file), file)

    @classmethod
    def of(cls, content: object, where: str | Path) -> AdapterConfig:
        """The config of this content.

        Args:
            content: of an adapter_config.json.
            where: it comes from, for the messages.

        Raises: CheckpointError, if it is of another method or has a field that makes no sense.
        """
        if not isinstance(content, Mapping):
            raise CheckpointError(f"{where} holds a JSON {type(content).__name__} instead of an object of settings")
        if content.get("peft_type") != "FOURIERFT":
            raise CheckpointError(
                f"{where} has peft_type={shown(content.get('peft_type'))}, but only FOURIERFT "
                "adapters can be read; give one of these"
            )
        told = {**_DEFAULTS, **content}
        for name, (will_do, allowed) in _FIELDS.items():
            if name in told and not will_do(told[name]):
                raise CheckpointError(f"{where} has {name}={shown(told[name])}; it must be {allowed}")
        pattern = told.get("n_frequency_pattern") or {}
        for key, n in pattern.items():
            if not _is_count(n):
                raise CheckpointError(
                    f"{where} has n_frequency_pattern[{shown(key)}]={shown(n)}; it must be a positive integer"
                )
        record, scaling = Record.read(content.get("fourierft"), where), content.get("scaling")
        if record.is_auto and not scaling:
            raise CheckpointError(
                f"{where} has scaling={shown(scaling)} beside fourierft.scaling='auto', which needs a number "
                "other than 0 there; restore the file that was saved with the adapter"
            )
        return cls(
            content=content,
            n_frequency=told["n_frequency"],
            pattern=FrequencyPattern(pattern),
            scaling=float(told["scaling"]),
            draw=Draw(told["random_loc_seed"], record.band),
            record=record,
            base_model=told.get("base_model_name_or_path") or None,
            revision=told.get("revision"),
            task_type=record.task_type if record.is_beyond_stock else told.get("task_type"),
        )

    def count(self, layer: str) -> int:
        """n of a layer, as stock PEFT reads it."""
        return self.pattern.find(layer) or self.n_frequency

    @property
    def made_for(self) -> BaseIdentity:
        """The base that the adapter was made for, as far as it says."""
        return BaseIdentity(self.base_model or "an unnamed model", self.record.digest, self.record.signs)
