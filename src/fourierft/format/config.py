"""adapter_config.json: the settings of an adapter, checked, with stock PEFT's defaults filled in."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fourierft.errors import CheckpointError

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"


def read_config(file: Path) -> dict[str, Any]:
    """adapter_config.json, with the fields this package computes with checked and stock PEFT's defaults filled in.

    Raises: CheckpointError, if it is missing, not JSON, or `check_config` refuses it.
    """
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing; a checkpoint is {CONFIG_FILE} beside {WEIGHTS_FILE}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read as JSON ({error}); save or download the adapter again") from error
    return check_config(file, config)


def check_config(file: str | Path, config: object) -> dict[str, Any]:
    """The settings in a config, checked, with stock PEFT's defaults filled in.

    Args:
        file: where it comes from, for the messages.
        config: content of an adapter_config.json.

    Raises: CheckpointError, if it is of another method or has a field that makes no sense.
    """
    if not isinstance(config, dict):
        raise CheckpointError(f"{file} holds a JSON {type(config).__name__} instead of an object of settings")
    if config.get("peft_type") != "FOURIERFT":
        raise CheckpointError(
            f"{file} has peft_type={config.get('peft_type')!r}; only FOURIERFT adapters can be read here"
        )
    stock = {"n_frequency": 1000, "scaling": 150.0, "random_loc_seed": 777}
    config = {**stock, **config, "n_frequency_pattern": config.get("n_frequency_pattern") or {}}
    if not isinstance(config["n_frequency_pattern"], dict):
        raise CheckpointError(f"{file} has n_frequency_pattern={config['n_frequency_pattern']!r} instead of an object")
    counts = {"n_frequency": config["n_frequency"]}
    counts |= {f"n_frequency_pattern[{key!r}]": value for key, value in config["n_frequency_pattern"].items()}
    for name, value in counts.items():
        if type(value) is not int or value < 1:
            raise CheckpointError(f"{file} has {name}={value!r}; it must be a positive integer")
    for key in config["n_frequency_pattern"]:
        try:
            re.compile(key)
        except re.error as error:
            raise CheckpointError(
                f"{file} has the n_frequency_pattern {key!r}, which is no pattern ({error})"
            ) from error
    if type(config["scaling"]) not in (int, float) or not math.isfinite(config["scaling"]):
        raise CheckpointError(f"{file} has scaling={config['scaling']!r}; it must be a finite number")
    if type(config["random_loc_seed"]) is not int:
        raise CheckpointError(f"{file} has random_loc_seed={config['random_loc_seed']!r}; it must be an integer")
    check_record(file, config.get("fourierft"))
    return config


def check_record(file: str | Path, record: object) -> None:
    """Check this package's own record in the config: what stock PEFT cannot represent.

    Raises: CheckpointError, if it says something this version does not know.
    """
    if record is None:
        return
    if not isinstance(record, dict) or record.get("entries", "uniform") not in ("uniform", "bandpass"):
        raise CheckpointError(f"{file} has fourierft={record!r}, which this version does not know; upgrade fourierft")
    if record.get("entries") == "bandpass":
        for name in ("center", "width"):
            if type(record.get(name)) not in (int, float) or not math.isfinite(record[name]):
                raise CheckpointError(
                    f"{file} has band-pass entries with {name}={record.get(name)!r}; it must be a number"
                )


def expected_frequencies(name: str, config: Mapping[str, Any]) -> int:
    """n of a layer: the first key of n_frequency_pattern that matches the end of its name, or else n_frequency."""
    for key, n in config["n_frequency_pattern"].items():
        if re.match(rf".*\.{key}$", name):
            return int(n)
    return int(config["n_frequency_pattern"].get(name, config["n_frequency"]))
