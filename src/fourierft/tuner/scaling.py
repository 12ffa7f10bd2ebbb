"""How large a layer's update is per unit of coefficient, where the config says "auto".

Adam moves every coefficient by about the learning rate, with the sign of its gradient. Such a step of n coefficients
has two parts (docs/quality.md):

- A direction. The gradients of real layers are nearly of rank one; along it n signs add up to
  alpha * rate * (n / 2) / (out * in). From step to step this part adds up.
- Noise. Most signs are as good as random: an update whose entries have the deviation
  alpha * rate * sqrt(n / 2) / (out * in), of spectral norm sqrt(out) + sqrt(in) times that. Over steps it adds up like
  a random walk.

The rule holds the norm of what a layer has travelled after STEPS steps, for all layers of a model alike. In a model up
to NARROW wide it is TRAVEL times the rate, between the first and the twentieth step of LoRA r=8 with alpha = 16
(docs/quality/travel.md). In a wider one it falls with the width, so that alpha of its square layers stays as it is:
so does the best alpha * rate of real models (docs/quality.md), and so do the paper's own settings, 768 to 5120 wide.

Adapters made before have rule 1, which held the norm of the first step at 16 times the rate, or rule 2, which knew no
width. They keep it: their optimizer's state and their learning rate belong to it.
"""

from __future__ import annotations

import math
import operator
from collections import Counter
from contextlib import suppress
from typing import Any, TypeGuard

from peft import FourierFTConfig as StockConfig
from torch import nn
from transformers.pytorch_utils import Conv1D

from fourierft.errors import ConfigError
from fourierft.tuner.config import RULES, FourierFTConfig

STEPS = 10
TRAVEL = 200.0  # spectral norm of a layer's update after STEPS steps, per unit of learning rate
NARROW, FALL = 384, 1.5  # width from which the travel falls, like (NARROW / width) ** FALL
FIRST_STEP = 16.0  # the norm after one step, under rule 1
RULE = RULES[-1]  # of adapters that are made today


def auto_scaling(
    out_features: int, in_features: int, n_frequency: int, base_width: int | None = None, rule: int = RULE
) -> float:
    """The scaling of a layer whose config says "auto".

    Semantics, with h = n / 2 and w = sqrt(out) + sqrt(in):
        rule 3: TRAVEL * min(1, NARROW / base_width) ** FALL * out * in / sqrt(STEPS * h * (w * w + STEPS * h))
        rule 2: TRAVEL * out * in / sqrt(STEPS * h * (w * w + STEPS * h))
        rule 1: FIRST_STEP * out * in / sqrt(h * (w * w + h))

    Args:
        out_features: rows of the weight.
        in_features: columns of the weight.
        n_frequency: number of coefficients.
        base_width: of the model; see `find_width`. None for a model without linear layers: a narrow one.
        rule: 3, or that of an adapter that was made under an earlier one.

    Raises: ConfigError, if a size is below 1 or the rule unknown.
    """
    if min(out_features, in_features, n_frequency, NARROW if base_width is None else base_width) < 1:
        raise ConfigError(
            f"a layer of {out_features} x {in_features} with n_frequency={n_frequency}, "
            f"in a model {base_width} wide, has no scaling; use sizes of at least 1"
        )
    if rule not in RULES:
        raise ConfigError(f"rule={rule!r} is not a scale rule; use one of {', '.join(map(str, RULES))}")
    steps, travel = (1, FIRST_STEP) if rule == 1 else (STEPS, TRAVEL)
    if rule == RULE:
        travel *= min(1.0, NARROW / (base_width or NARROW)) ** FALL
    direction, noise = steps * n_frequency / 2, (math.sqrt(out_features) + math.sqrt(in_features)) ** 2
    return travel * out_features * in_features / math.sqrt(direction * (noise + direction))


def find_width(model: nn.Module) -> int | None:
    """How wide a model is: the input size that most of its linear layers have, the larger of two; None if it has none.

    Args:
        model: with adapters or without.
    """
    sizes: Counter[int] = Counter()
    for module in model.modules():
        size: Any = module.weight.shape[0] if isinstance(module, Conv1D) else module.__dict__.get("in_features")
        with suppress(TypeError):  # None, or of no linear layer
            sizes[operator.index(size)] += 1
    return max(sizes, key=lambda size: (sizes[size], size), default=None)


def layer_scaling(config: StockConfig, out_features: int, in_features: int, n_frequency: int) -> float:
    """The scaling a config gives to a layer: its number, or the rule's where it says "auto".

    Raises: ConfigError, if a config of stock PEFT's class says "auto".
    """
    if _is_auto(config):
        return auto_scaling(out_features, in_features, n_frequency, config.base_width, config.rule)
    if not isinstance(config.scaling, (int, float)):
        raise ConfigError(
            f"peft.FourierFTConfig has scaling={config.scaling!r}, but needs a number; "
            "use fourierft.FourierFTConfig for scaling='auto'"
        )
    return float(config.scaling)


def disk_scaling(config: StockConfig, otherwise: float | None = None) -> float:
    """The one `scaling` of a config's checkpoints.

    With "auto" there is one as soon as an adapter was made: that of its first layer, `otherwise`.
    """
    if not _is_auto(config):
        return float(config.scaling)
    value = otherwise if config.disk_scaling is None else config.disk_scaling
    if value is None:
        raise ConfigError(
            "scaling='auto' has no value until an adapter is made with this config; make an adapter first"
        )
    return value


def _is_auto(config: StockConfig) -> TypeGuard[FourierFTConfig]:
    return isinstance(config, FourierFTConfig) and config.scaling == "auto"
