"""What is asked of a model's layers before they are merged, and of those whose weights are read instead of called."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence

import torch

from fourierft.errors import ConfigError
from fourierft.tuner.layer import FourierFTLayer


def check_mergeable(
    layers: Sequence[FourierFTLayer], known: Collection[str], adapter_names: Sequence[str] | None = None
) -> None:
    """Raise ConfigError before adapters are merged that one layer would forget, or that act from then on alone.

    Args:
        layers: of the model.
        known: names of its adapters.
        adapter_names: to merge in place of the active ones.
    """
    _check_named(adapter_names, known)
    _check_usage(layers, adapter_names)
    for layer in layers:
        layer.check_held()


def _check_named(names: Sequence[str] | None, known: Collection[str]) -> None:
    """Raise ConfigError, if adapters to be merged are not named in a list, or one is not in the model.

    PEFT passes over a name that no layer has, and gives the base model back.
    """
    if isinstance(names, str):
        raise ConfigError(f"adapter_names={names!r} is not a list; use one, such as [{names!r}]")
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        raise ConfigError(f"the model has no adapter {unknown[0]!r} to merge; its adapters are {sorted(known)}")


def _check_usage(layers: Sequence[FourierFTLayer], adapter_names: Sequence[str] | None) -> None:
    if not any(layer.usage.called for layer in layers):
        return
    for layer in layers:
        if layer.usage.called or not layer.usage.read:
            continue
        for name in adapter_names or layer.active_adapters:
            if name in layer.fourierft_coefficients and bool(layer.fourierft_coefficients[name].weight.any()):
                raise ConfigError(
                    f"the adapter {name!r} had no effect in {layer.path} so far, because the "
                    "model reads this layer's weights instead of calling it; after merging "
                    "it would change the model; leave the layer out with exclude_modules"
                )


def warn_of_precision(layers: Sequence[FourierFTLayer]) -> None:
    """Warn, once, if weights that are read instead of called are too coarse for an update to be added to them."""
    coarse = [layer for layer in layers if layer.stored_weight.dtype not in (torch.float32, torch.float64)]
    if coarse:
        warnings.warn(
            f"the model reads the weights of {len(coarse)} layers, such as {coarse[0].path}, instead of calling them: "
            f"in {coarse[0].stored_weight.dtype} what an update adds there is rounded with the weight, and lost while "
            "it is small; load the model in float32, or leave them out with exclude_modules",
            stacklevel=3,
        )
