"""An adapter that is a weighted sum of others: coefficients of one draw add up as their updates do, exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from fourierft.errors import ConfigError
from fourierft.format.scaling import rescaled
from fourierft.tuner.layer import FourierFTLayer

_SUMS = ("linear", "cat", "svd")  # of LoRA, which comes near the sum in three ways


def check_combination(combination_type: str) -> None:
    """Raise ConfigError, if LoRA means something else than the sum of updates by it."""
    if combination_type not in _SUMS:
        raise ConfigError(
            f"combination_type={combination_type!r} is not supported; FourierFT adds updates up exactly, as "
            f"{', '.join(map(repr, _SUMS))} mean; leave it out"
        )


def sum_config(configs: Mapping[str, Any], adapters: Sequence[str], weights: Sequence[float], name: str) -> Any:
    """The config of the sum of some adapters of a model.

    Args:
        configs: of the model's adapters, by name.
        adapters: to add up.
        weights: one each.
        name: of the sum.

    Raises: ConfigError, if one is not in the model, or saves modules of its own, or the name is taken, or the first,
        whose settings the sum has, has the scaling 0.
    """
    if not adapters or len(adapters) != len(weights):
        raise ConfigError(f"got {len(adapters)} adapters and {len(weights)} weights; give one weight for each adapter")
    unknown = sorted(set(adapters) - set(configs))
    if unknown or name in configs:
        what = f"the model has no adapter {unknown[0]!r}" if unknown else f"the model has an adapter {name!r}"
        raise ConfigError(f"{what}; its adapters are {sorted(configs)}")
    for adapter in adapters:
        if configs[adapter].modules_to_save or configs[adapter].bias != "none":
            raise ConfigError(
                f"the adapter {adapter!r} has its own modules or biases, which cannot be "
                "added; use adapters with only coefficients"
            )
    if configs[adapters[0]].scaling == 0:
        raise ConfigError(
            f"the adapter {adapters[0]!r} has scaling=0, which cannot be the scaling "
            "of the sum; name another adapter first"
        )
    return replace(configs[adapters[0]], inference_mode=False)


def check_summands(layers: Sequence[FourierFTLayer], adapters: Sequence[str]) -> None:
    """Raise ConfigError, if adapters differ in their layers, entries, or numbers of coefficients."""
    for layer in layers:
        found = {layer.fourierft_basis.get(adapter) for adapter in adapters}
        if len(found) > 1:
            raise ConfigError(
                f"the adapters {list(adapters)} differ in {layer.path}: in whether they "
                "adapt it, in their entries, or in n_frequency; add adapters with the same "
                "settings, or merge them one after another"
            )


@torch.no_grad()
def fill_sum(layers: Sequence[FourierFTLayer], adapters: Sequence[str], weights: Sequence[float], name: str) -> None:
    """Let an adapter's update be the weighted sum of those of others, each as strong as it is now."""
    for layer in layers:
        if name not in layer.fourierft_coefficients:
            continue
        own = layer.own_scaling[name]
        parts = [
            rescaled(layer.coefficients(adapter).double(), weight * layer.fourierft_scaling[adapter], own)
            for adapter, weight in zip(adapters, weights, strict=True)
        ]
        layer.coefficients(name).copy_(torch.stack(parts).sum(0))
