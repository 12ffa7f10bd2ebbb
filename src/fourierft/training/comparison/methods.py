"""Methods by short names: `lora:8`, `fourierft:1000,scaling=300`, or the path of a PEFT adapter_config.json.

What stands behind the colon is the method's size; behind commas stand fields of its PEFT config, lists joined by `+`,
or `layers=NAME`, one of the task's sets of layers to adapt.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fourierft.errors import ConfigError

WHOLE = {"head": "head only", "bitfit": "BitFit", "full": "full"}
ADAPTERS: dict[str, tuple[str, str, dict[str, Any]]] = {  # name: title, the field of its size, settings as usual
    "fourierft": ("FourierFT", "n_frequency", {"n_frequency": 1000}),
    "lora": ("LoRA", "r", {"r": 8, "lora_alpha": 16}),
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


def parse_method(
    spec: str, target_modules: list[str] | None = None, layers: Mapping[str, list[str] | str] | None = None
) -> Method:
    """The method of a short name or a path.

    Args:
        target_modules: layers to adapt where neither the spec nor the file names any.
        layers: sets of layers by name, names or a regular expression, for `layers=NAME` in the spec.

    Raises: ConfigError, if it is none, a setting is not `key=value`, or there is no such set of layers.
    """
    if Path(spec).suffix == ".json" or Path(spec).is_dir():
        return Method(spec, "config", Path(spec).parent.name or spec, _read_file(Path(spec), target_modules))
    first, *extras = spec.split(",")
    name, _, size = first.partition(":")
    if name in WHOLE:
        if size or extras:
            raise ConfigError(f"method {spec} takes no size and no settings; use {name}")
        return Method(spec, name, WHOLE[name], None)
    if name not in ADAPTERS:
        known = [*WHOLE, *ADAPTERS]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(known)}, or a PEFT adapter_config.json"
        raise ConfigError(f"method {spec} is unknown; {hint}")
    title, field, usual = ADAPTERS[name]
    config = {"peft_type": name.upper(), **usual}
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
        else:
            config[key] = _parse_value(value)
    config.setdefault("target_modules", target_modules)
    shown = [f"{field[0]}={config[field]}"] if field else []
    told = [extra for extra in extras if not extra.partition("=")[0].endswith("_modules")]
    return Method(spec, name, ", ".join([" ".join([title, *shown]), *told]), config)


def _find_layers(name: str, layers: Mapping[str, list[str] | str], spec: str) -> list[str] | str:
    if name not in layers:
        known = f"use one of {', '.join(layers)}" if layers else "the task file has no `layers`"
        raise ConfigError(f"method {spec} names the layers {name!r}, which are unknown; {known}, or target_modules=a+b")
    return layers[name]


def _parse_value(text: str) -> Any:
    if "+" in text.strip("+") and not text[0].isdigit():
        return text.split("+")
    try:
        return json.loads(text)
    except ValueError:
        return text


def _read_file(path: Path, target_modules: list[str] | None) -> dict[str, Any]:
    file = path / "adapter_config.json" if path.is_dir() else path
    try:
        config = dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"method {path} is no readable PEFT adapter_config.json ({type(error).__name__})") from error
    return {**config, "target_modules": config.get("target_modules") or target_modules}
