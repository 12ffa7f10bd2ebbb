"""The adapter to start with: the same few coefficients on every linear layer, as many as a budget allows."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterable
from typing import Any

from peft.tuners.tuners_utils import _maybe_include_all_linear_layers
from torch import nn
from transformers.pytorch_utils import Conv1D

from fourierft.errors import ConfigError
from fourierft.format.json_file import shown
from fourierft.tuner.config import FourierFTConfig
from fourierft.tuner.model import FourierFTModel

ALL_LAYERS = "all-linear"
N_FREQUENCY = 340  # coefficients a layer; docs/quality.md has the curve of score against numbers
_UNITS = {"": 1, "k": 1_000, "m": 1_000_000}


def recommended(
    model: nn.Module,
    like: str | None = None,
    parameters: int | str | None = None,
    n_frequency: int | None = None,
    **fields: Any,
) -> FourierFTConfig:
    """Make the recommended config for a model: every linear layer, the same n for all, within a budget.

    Args:
        model: the base model, or its skeleton on the meta device.
        like: "lora:R" trains as many numbers as LoRA of rank R on the same layers.
        parameters: trained numbers of the whole adapter, an integer or a text such as "50k" or "1.5M".
        n_frequency: coefficients of each layer. Give at most one of these three budgets; without one, n
            is 340.
        fields: other fields of the config, such as task_type; target_modules replaces "all-linear".

    Returns: a config for `peft.get_peft_model`.

    Raises: ConfigError, if more than one budget is given, a budget does not fit the model, or a field is wrong.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"recommended wants a model, and got a {type(model).__name__}; load it with from_pretrained first"
        )
    fields["target_modules"] = fields.get("target_modules") or ALL_LAYERS
    counts = choose_counts(model, fields, like, parameters, n_frequency)
    if small := counts.pop("n_frequency_pattern", None):
        own = fields.get("n_frequency_pattern") or {}
        fields["n_frequency_pattern"] = {**own, **{name: n for name, n in small.items() if name not in own}}
    return FourierFTConfig(**counts, **fields)


def choose_counts(
    model: nn.Module,
    fields: dict[str, Any],
    like: str | None = None,
    parameters: int | str | None = None,
    n_frequency: int | None = None,
) -> dict[str, Any]:
    """Coefficients a layer, within a budget: as many for all, but for layers that have fewer entries, which get those.

    Args:
        model, like, parameters, n_frequency: as for `recommended`.
        fields: of the config, target_modules among them.

    Returns: n_frequency and, where a layer has fewer entries, n_frequency_pattern, for a config.

    Raises: ConfigError, if a budget is none of its kind, more than one is given, it is smaller than one coefficient a
        layer, or no linear layer of the model is meant.
    """
    budgets = {"like": like, "parameters": parameters, "n_frequency": n_frequency}
    given = [name for name, value in budgets.items() if value is not None]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} both set the adapter's size; give only one")
    if n_frequency is not None:
        return {"n_frequency": n_frequency}
    sizes = _sizes(model, fields)
    if not given:
        return _counts(N_FREQUENCY, sizes)
    if not sizes:
        raise ConfigError(
            f"target_modules={fields['target_modules']!r} names no linear layer of a {type(model).__name__}; "
            "name layers that the model has"
        )
    total = count_lora(like, sizes.values()) if like is not None else read_count(parameters)
    if total < len(sizes):
        raise ConfigError(
            f"{given[0]}={budgets[given[0]]} gives fewer numbers than the {len(sizes)} "
            f"adapted layers; allow at least {len(sizes)}, or name fewer target_modules"
        )
    entries = sorted(map(math.prod, sizes.values()))
    left = total
    for k, most in enumerate(entries):  # what a small layer cannot take is spread over the larger ones
        n = left // (len(entries) - k)
        if n <= most:
            return _counts(n, sizes)
        left -= most
    return _counts(entries[-1], sizes)


def count_lora(like: str, sizes: Iterable[tuple[int, int]]) -> int:
    """Numbers that a LoRA trains on layers of these [out, in].

    Args:
        like: "lora:R".

    Raises: ConfigError, if it is not written so.
    """
    found = re.fullmatch(r"lora:([1-9][0-9]{0,5})", str(like))
    if not found:
        raise ConfigError(f"like={shown(like)} is not a LoRA; write lora and its rank, such as lora:1")
    return int(found[1]) * sum(rows + columns for rows, columns in sizes)


def read_count(text: int | str | None) -> int:
    """A number of parameters from an integer or a text such as "50k" or "1.5M".

    Raises: ConfigError, if it is no positive number.
    """
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([kKmM]?)", str(text).replace(",", "").replace("_", ""))
    count = int(float(found[1]) * _UNITS[found[2].lower()]) if found else 0
    if isinstance(text, bool) or count < 1:
        raise ConfigError(f"parameters={text!r} is not a number of parameters; write one such as 50000, 50k or 1.5M")
    return count


def _counts(n: int, sizes: dict[str, tuple[int, int]]) -> dict[str, Any]:
    small = {name: math.prod(size) for name, size in sizes.items() if math.prod(size) < n}
    return {"n_frequency": n, "n_frequency_pattern": small} if small else {"n_frequency": n}


def _sizes(model: nn.Module, fields: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """[out, in] of each layer that the config's fields mean, by name."""
    config: Any = _maybe_include_all_linear_layers(copy.copy(FourierFTConfig(n_frequency=1, **fields)), model)
    return {
        name: (module.nf, module.nx)
        if isinstance(module, Conv1D)
        else (int(module.out_features), int(module.in_features))
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and FourierFTModel._check_target_module_exists(config, name)
    }
