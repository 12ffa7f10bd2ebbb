"""The adapter to start with: the same few coefficients on every linear layer, as many as a budget allows."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

from peft.tuners.tuners_utils import _maybe_include_all_linear_layers
from torch import nn
from transformers.pytorch_utils import Conv1D

from fourierft.errors import ConfigError
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
    """The config of a FourierFT adapter of a model: every linear layer, one n for all, within a budget.

    Args:
        model: the base model, or its skeleton on the meta device.
        like: "lora:R", as many numbers as LoRA of rank R trains on the same layers.
        parameters: numbers of the whole adapter, an integer or a text such as "50k" or "1.5M".
        n_frequency: coefficients a layer, as they are. At most one of the three budgets may be given; without one, n
            is 340.
        fields: of the config, such as task_type or target_modules, which replaces "all-linear".

    Returns: a config for `peft.get_peft_model`.

    Raises: ConfigError, as `choose_n`, or if a field is wrong.
    """
    fields["target_modules"] = fields.get("target_modules") or ALL_LAYERS
    return FourierFTConfig(n_frequency=choose_n(model, fields, like, parameters, n_frequency), **fields)


def choose_n(
    model: nn.Module,
    fields: dict[str, Any],
    like: str | None = None,
    parameters: int | str | None = None,
    n_frequency: int | None = None,
) -> int:
    """Coefficients a layer, within a budget: rounded down, and no more than the smallest layer has entries.

    Args:
        model, like, parameters, n_frequency: as for `recommended`.
        fields: of the config, target_modules among them.

    Raises: ConfigError, if a budget is none of its kind, more than one is given, it is smaller than one coefficient a
        layer, or no linear layer of the model is meant.
    """
    budgets = {"like": like, "parameters": parameters, "n_frequency": n_frequency}
    given = [name for name, value in budgets.items() if value is not None]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} are budgets of one adapter; give one of them")
    if n_frequency is not None:
        return n_frequency
    sizes = list(_sizes(model, fields))
    smallest = min((rows * columns for rows, columns in sizes), default=N_FREQUENCY)
    if not given:
        return min(N_FREQUENCY, smallest)
    if not sizes:
        raise ConfigError(
            f"target_modules={fields['target_modules']!r} names no linear layer of a {type(model).__name__}; "
            "name layers that the model has"
        )
    total = count_lora(like, sizes) if like is not None else read_count(parameters)
    if total < len(sizes):
        raise ConfigError(
            f"{given[0]}={budgets[given[0]]} is fewer numbers than the {len(sizes)} layers of the model; "
            f"allow at least {len(sizes)}, or name fewer target_modules"
        )
    return min(total // len(sizes), smallest)


def count_lora(like: str, sizes: list[tuple[int, int]]) -> int:
    """Numbers that a LoRA trains on layers of these [out, in].

    Args:
        like: "lora:R".

    Raises: ConfigError, if it is not written so.
    """
    found = re.fullmatch(r"lora:([1-9][0-9]{0,5})", str(like))
    if not found:
        raise ConfigError(f"like={like!r} is no LoRA; write lora and its rank, such as lora:1")
    return int(found[1]) * sum(rows + columns for rows, columns in sizes)


def read_count(text: int | str | None) -> int:
    """A number of parameters from an integer or a text such as "50k" or "1.5M".

    Raises: ConfigError, if it is no positive number.
    """
    found = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([kKmM]?)", str(text).replace(",", "").replace("_", ""))
    count = int(float(found[1]) * _UNITS[found[2].lower()]) if found else 0
    if isinstance(text, bool) or count < 1:
        raise ConfigError(f"parameters={text!r} is no number of parameters; write one such as 50000, 50k or 1.5M")
    return count


def _sizes(model: nn.Module, fields: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """[out, in] of each layer that the config's fields mean."""
    config: Any = _maybe_include_all_linear_layers(copy.copy(FourierFTConfig(n_frequency=1, **fields)), model)
    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, Conv1D)) and FourierFTModel._check_target_module_exists(config, name):
            yield (module.nf, module.nx) if isinstance(module, Conv1D) else (module.out_features, module.in_features)
