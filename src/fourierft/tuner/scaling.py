"""How large a layer's update is per unit of coefficient.

Adam moves every coefficient by about the learning rate, with the sign of its gradient. The gradients of real layers are
nearly of rank one; for u v^T of unit norm, those of the coefficients have mean magnitude 1 / 2, so that n signs add up
to alpha * rate * (n / 2) / (out * in) along it. The rule holds this part of a step, the one that lowers the loss, at
KAPPA times the rate, whatever the layer's shape and n (docs/quality.md). In other words, an update is 2 * KAPPA times
the mean of n cosines, each times its coefficient.

Adapters made before have rule 1, which held the norm of the whole step, the signs' noise included. They keep it: it is
what their optimizer's state and learning rate belong to.
"""

from __future__ import annotations

import math
from typing import TypeGuard

from peft import FourierFTConfig as StockConfig

from fourierft.errors import ConfigError
from fourierft.tuner.config import FourierFTConfig

KAPPA = 16.0  # of a step along a gradient of rank one, per unit of learning rate
RULE = 2  # of adapters that are made today


def auto_scaling(out_features: int, in_features: int, n_frequency: int, rule: int = RULE) -> float:
    """The scaling of a layer whose config says "auto".

    Semantics: KAPPA * out * in / (n / 2). By rule 1, KAPPA * out * in over the root of
    n / 2 * ((sqrt(out) + sqrt(in)) ** 2 + n / 2).

    Args:
        out_features: rows of the weight.
        in_features: columns of the weight.
        n_frequency: number of coefficients.
        rule: 2, or 1 for an adapter that was made under it.
    """
    half = n_frequency / 2
    noise = (math.sqrt(out_features) + math.sqrt(in_features)) ** 2 if rule == 1 else 0.0
    return KAPPA * out_features * in_features / math.sqrt(half * (noise + half))


def layer_scaling(config: StockConfig, out_features: int, in_features: int, n_frequency: int) -> float:
    """The scaling a config gives to a layer: its number, or the rule's where it says "auto".

    Raises: ConfigError, if a config of stock PEFT's class says "auto".
    """
    if _is_auto(config):
        return auto_scaling(out_features, in_features, n_frequency, config.rule)
    if not isinstance(config.scaling, (int, float)):
        raise ConfigError(
            f"peft.FourierFTConfig has scaling={config.scaling!r}, which is no number; "
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
            "scaling='auto' has no value on disk before an adapter was made with this config; make one first"
        )
    return value


def _is_auto(config: StockConfig) -> TypeGuard[FourierFTConfig]:
    return isinstance(config, FourierFTConfig) and config.scaling == "auto"
