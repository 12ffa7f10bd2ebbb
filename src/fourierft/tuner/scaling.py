"""How large a layer's update is per unit of coefficient.

The rule picks alpha so that a step of Adam, which moves every coefficient by about the learning rate, moves a layer by
the same spectral norm whatever its shape and n. A step has two parts (docs/quality.md):

- the signs of most coefficients are as good as random: n of them give an update whose entries have standard deviation
  alpha * rate * sqrt(n / 2) / (out * in), and a random out x in matrix of unit entries has norm sqrt(out) + sqrt(in);
- real gradients are nearly of rank one, and along that direction n signs add up to alpha * rate * (n / 2) / (out * in).

Their squares add: few coefficients make noise, many make a direction.
"""

from __future__ import annotations

import math
from typing import TypeGuard

from peft import FourierFTConfig as StockConfig

from fourierft.errors import ConfigError
from fourierft.tuner.config import FourierFTConfig

KAPPA = 16.0  # spectral norm of a step per unit of learning rate; on real models the best one is LoRA's with it


def auto_scaling(out_features: int, in_features: int, n_frequency: int) -> float:
    """The scaling of a layer whose config says "auto".

    Semantics: KAPPA * out * in / sqrt(n / 2 * ((sqrt(out) + sqrt(in)) ** 2 + n / 2)).

    Args:
        out_features: rows of the weight.
        in_features: columns of the weight.
        n_frequency: number of coefficients.
    """
    half = n_frequency / 2
    noise = (math.sqrt(out_features) + math.sqrt(in_features)) ** 2
    return KAPPA * out_features * in_features / math.sqrt(half * (noise + half))


def layer_scaling(config: StockConfig, out_features: int, in_features: int, n_frequency: int) -> float:
    """The scaling a config gives to a layer: its number, or the rule's where it says "auto".

    Raises: ConfigError, if a config of stock PEFT's class says "auto".
    """
    if _is_auto(config):
        return auto_scaling(out_features, in_features, n_frequency)
    if not isinstance(config.scaling, (int, float)):
        raise ConfigError(
            f"peft.FourierFTConfig has scaling={config.scaling!r}, which is no number; "
            "use fourierft.FourierFTConfig for scaling='auto'"
        )
    return float(config.scaling)


def disk_scaling(config: StockConfig) -> float:
    """The one `scaling` of a config's checkpoints. With "auto" there is one as soon as an adapter was made."""
    if not _is_auto(config):
        return float(config.scaling)
    if config.disk_scaling is None:
        raise ConfigError(
            "scaling='auto' has no value on disk before an adapter was made with this config; make one first"
        )
    return config.disk_scaling


def loaded_scaling(config: StockConfig) -> float | None:
    """The scaling of the coefficients that a checkpoint of this config brings; None where it is the layer's own."""
    return config.disk_scaling if _is_auto(config) and config.from_disk else None


def _is_auto(config: StockConfig) -> TypeGuard[FourierFTConfig]:
    return isinstance(config, FourierFTConfig) and config.scaling == "auto"
