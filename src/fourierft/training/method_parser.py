"""Methods by short names: `lora:8`, `fourierft:1000,scaling=300`, or the path of a PEFT adapter_config.json.

A name is head, bitfit, full, or that of any method of PEFT that adapts layers. What stands behind the colon is the
method's size; behind commas stand fields of its PEFT config, lists joined by `+`, or, in a task of `fourierft compare`,
`layers=NAME`, one of the task's sets of layers to adapt. `fourierft train` and `fourierft compare` take the same words.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from peft import PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from fourierft.errors import CheckpointError, ConfigError
from fourierft.format.json_file import read_json
from fourierft.format.record import NOTHING, with_record
from fourierft.tuner.config import FourierFTConfig
from fourierft.tuner.recommended import ALL_LAYERS, N_FREQUENCY

WHOLE = {"head": "head only", "bitfit": "BitFit", "full": "full"}
ADAPTERS: dict[str, tuple[str, str, dict[str, Any]]] = {  # name: title, field of its size, settings; of others PEFT's
    "fourierft": ("FourierFT", "n_frequency", {"n_frequency": N_FREQUENCY}),
    "lora": ("LoRA", "r", {"r": 8, "lora_alpha": 16}),
    "adalora": ("AdaLoRA", "target_r", {"target_r": 8}),
    "vera": ("VeRA", "r", {"r": 256}),
    "waveft": ("WaveFT", "n_frequency", {"n_frequency": 1000}),
    "c3a": ("C3A", "block_size", {"block_size": 64}),
    "ia3": ("IA3", "", {}),
    "road": ("RoAd", "group_size", {"group_size": 64}),
    "unilora": ("UniLoRA", "theta_d_length", {"r": 4, "theta_d_length": 1000}),
}


@dataclass(frozen=True)
class Method:
    """A way to fine-tune.

    Attributes:
        spec: as it was given.
        family: the name before the colon, or `config` of a path.
        title: for people.
        config: content of a PEFT adapter_config.json; None if no adapter is trained.
    """

    spec: str
    family: str
    title: str
    config: dict[str, Any] | None

    @property
    def is_scaled_by_rule(self) -> bool:
        """Whether it is a FourierFT adapter whose scaling is left to the rule of `tuner/scaling.py`."""
        config = self.config or {}
        return config.get("peft_type") == "FOURIERFT" and config.get("scaling", "auto") == "auto"


def parse_method(
    spec: str,
    target_modules: list[str] | None = None,
    layers: Mapping[str, list[str] | str] | None = None,
    usual: Mapping[str, Mapping[str, Any]] | None = None,
) -> Method:
    """The method of a short name or a path.

    Args:
        target_modules: layers to adapt where neither the spec nor the file names any; "all-linear" alone means all.
        layers: sets of layers by name, names or a regular expression, for `layers=NAME` in the spec.
        usual: settings of a name where the spec does not say otherwise, instead of those in ADAPTERS.

    Raises: ConfigError, if it is none, a setting is not `key=value` or unknown, or there is no such set of layers.
    """
    first, *extras = spec.split(",")
    name, _, size = first.partition(":")
    if name in WHOLE:
        if size or extras:
            raise ConfigError(f"method {spec} takes no size or settings; use {name}")
        return Method(spec, name, WHOLE[name], None)
    allowed = _fields_of(name)
    if allowed is None:
        if Path(spec).suffix == ".json" or Path(spec).exists():
            return Method(spec, "config", Path(spec).parent.name or spec, _read_file(Path(spec), target_modules))
        known = [*WHOLE, *ADAPTERS]
        near = difflib.get_close_matches(name, [*WHOLE, *(kind.value.lower() for kind in PeftType)], n=1)
        hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(known)}, or a PEFT adapter_config.json"
        raise ConfigError(f"method {spec} is unknown; {hint}")
    title, field, settings = ADAPTERS.get(name) or (name.upper(), "r" if "r" in allowed else "", {})
    config = {"peft_type": name.upper(), **settings, **(usual or {}).get(name, {})}
    if size:
        if not field or not size.isdigit() or int(size) < 1:
            raise ConfigError(f"method {spec} has the size {size!r}; use {name}{f':N, a {field} > 0' * bool(field)}")
        config[field] = int(size)
    for extra in extras:
        key, equals, value = extra.partition("=")
        if not equals or not key or not value:
            raise ConfigError(f"method {spec} has the setting {extra!r}; write key=value")
        if key == "layers":
            config["target_modules"] = _find_layers(value, layers or {}, spec)
            continue
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1)
            hint = f"did you mean {near[0]}?" if near else "see its config in PEFT"
            raise ConfigError(f"method {spec} has the setting {key}, which {title} does not know; {hint}")
        config[key] = _parse_value(key, value)
    config["target_modules"] = _as_peft(config.get("target_modules", target_modules))
    shown = [f"{field[0]}={config[field]}"] if field in config else []
    told = [extra for extra in extras if not extra.partition("=")[0].endswith("_modules")]
    return Method(spec, name, ", ".join([" ".join([title, *shown]), *told]), config)


def _fields_of(name: str) -> set[str] | None:
    """The settings of a method of PEFT that adapts layers; None if there is none of this name."""
    if name == "fourierft":
        listed = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType.FOURIERFT]
        own = listed if issubclass(listed, FourierFTConfig) else FourierFTConfig  # not stock PEFT's, which knows less
        return {item.name for item in fields(own) if item.init}
    kind = PeftType.__members__.get(name.upper()) if name.islower() else None
    names = {item.name for item in fields(PEFT_TYPE_TO_CONFIG_MAPPING[kind]) if item.init} if kind else set()
    return names if "target_modules" in names else None


def _find_layers(name: str, layers: Mapping[str, list[str] | str], spec: str) -> list[str] | str:
    if name not in layers:
        known = f"use one of {', '.join(layers)}" if layers else "the task file has no `layers`"
        raise ConfigError(f"method {spec} names the layers {name!r}, which are unknown; {known}, or target_modules=a+b")
    return layers[name]


def _parse_value(key: str, text: str) -> Any:
    if key.endswith("_modules") and text.replace(".", "").isidentifier():
        return [text]  # a name; PEFT takes a string for a regular expression
    if "+" in text.strip("+") and not text[0].isdigit():
        return text.split("+")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _read_file(path: Path, target_modules: list[str] | None) -> dict[str, Any]:
    file = path / "adapter_config.json" if path.is_dir() else path
    try:
        config = with_record(dict(read_json(file)), file, **NOTHING)  # a new adapter may be for another model
    except (CheckpointError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"method {path} is not a readable PEFT adapter_config.json ({error}); check the path and the file"
        ) from error
    return {**config, "target_modules": _as_peft(config.get("target_modules") or target_modules)}


def _as_peft(target_modules: Any) -> Any:
    return ALL_LAYERS if target_modules == [ALL_LAYERS] else target_modules
