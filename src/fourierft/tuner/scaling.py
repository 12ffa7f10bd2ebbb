"""How large a layer's update is per unit of coefficient.

Adam moves every coefficient by about the learning rate, with the sign of its gradient. Such a step of n coefficients
has two parts (docs/quality.md):

- A direction. The gradients of real layers are nearly of rank one; along it n signs add up to
  alpha * rate * (n / 2) / (out * in). This part lowers the loss.
- Noise. Most signs are as good as random: an update whose entries have the deviation
  alpha * rate * sqrt(n / 2) / (out * in), of spectral norm sqrt(out) + sqrt(in) times that. With the direction it makes
  the norm of the step, which is what a layer bears or not.

Few coefficients in a wide layer make much noise for a little direction: to hold the direction alone breaks them, to
hold the norm alone starves them. The rule holds the geometric mean of both at KAPPA times the rate.

Adapters made before have rule 1, which held the norm alone at 16 times the rate. They keep it: their optimizer's state
and their learning rate belong to it.
"""

from __future__ import annotations

import math
from typing import TypeGuard

from peft import FourierFTConfig as StockConfig

from fourierft.errors import ConfigError
from fourierft.tuner.config import FourierFTConfig

KAPPA = 24.0  # geometric mean of a step's direction and norm, per unit of learning rate
KAPPA_1 = 16.0  # norm of a step under rule 1
RULE = 2  # of adapters that are made today


def auto_scaling(out_features: int, in_features: int, n_frequency: int, rule: int = RULE) -> float:
    """The scaling of a layer whose config says "auto".

    Semantics, with h = n / 2 and w = sqrt(out) + sqrt(in):
        rule 2: KAPPA * out * in / (h * h * h * (w * w + h)) ** 0.25
        rule 1: KAPPA_1 * out * in / (h * (w * w + h)) ** 0.5

    Args:
        out_features: rows of the weight.
        in_features: columns of the weight.
        n_frequency: number of coefficients.
        rule: 2, or 1 for an adapter that was made under it.
    """
    direction = n_frequency / 2
    norm = math.sqrt(direction * ((math.sqrt(out_features) + math.sqrt(in_features)) ** 2 + direction))
    held = KAPPA_1 / norm if rule == 1 else KAPPA / math.sqrt(direction * norm)
    return held * out_features * in_features


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
