"""Numbers among TrainingArguments that transformers takes as they are, to fail when training begins, or drop them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fourierft.errors import ConfigError

_FROM_ONE = (
    *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"),
    *("save_total_limit", "logging_steps", "eval_steps", "save_steps"),
)
_FROM_ZERO = (
    *("learning_rate", "head_learning_rate", "weight_decay", "warmup_steps", "max_grad_norm", "adam_epsilon"),
    *("dataloader_num_workers", "neftune_noise_alpha", "seed", "data_seed", "eval_delay"),
)
_BELOW_ONE = ("adam_beta1", "adam_beta2", "label_smoothing_factor", "warmup_ratio")
_SHARES = ("logging_steps", "eval_steps", "save_steps")  # below 1, of all steps


def check_ranges(settings: Mapping[str, Any]) -> None:
    """Raise ConfigError if a number is out of its range; what is None or left out is fine."""
    for name, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if name in _FROM_ONE and not (value >= 1 or (name in _SHARES and value > 0)):
            _refuse(name, value, "1 or more")
        if name in _FROM_ZERO and not 0 <= value < math.inf:
            _refuse(name, value, "a number from 0 on")
        if name in _BELOW_ONE and not 0 <= value < 1:
            _refuse(name, value, "a number from 0 on, below 1")
    steps, epochs = settings.get("max_steps", -1), settings.get("num_train_epochs", 1)
    if steps != -1 and steps < 1:
        _refuse("max_steps", steps, "1 or more, or -1 to go by num_train_epochs")
    if steps == -1 and not 0 < epochs < math.inf:
        _refuse("num_train_epochs", epochs, "more than 0")


def _refuse(name: str, value: float, allowed: str) -> None:
    raise ConfigError(f"{name}={value:g} is out of range; use {allowed}")
