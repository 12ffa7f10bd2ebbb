"""Adapters added up: a new adapter whose dW is the weighted sum of others', exact because dW is linear in them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from fourierft.errors import ConfigError, StoreError
from fourierft.format.layout import Layer, Layout
from fourierft.format.record import NOTHING, made_for, with_record
from fourierft.format.scaling import rescaled
from fourierft.store.adapter import Adapter
from fourierft.store.alignment import align_rows, common_layers
from fourierft.store.store import AdapterStore


def blend(
    store: AdapterStore,
    weights: Mapping[str, float],
    name: str,
    head: str | None = None,
    dtype: str = "float32",
    exist_ok: bool = True,
) -> int:
    """Add the adapter whose dW is the sum of weight * dW in every layer.

    Config and scaling are those of the first adapter. Weights of 1/k average, 1 and -1 give a difference.

    Args:
        store: where the adapters are, and where the new one goes.
        weights: adapter -> weight.
        name: of the new one.
        head: adapter whose head it gets; may be None if all have the same, or none.
        dtype: to keep it in.
        exist_ok: False refuses a name that is there, instead of making its next version.

    Returns: version of the new one.

    Raises: StoreError, if an adapter is not there, entries are drawn differently, or heads differ and none is chosen.
        ConfigError, if a weight is not finite or there is none.
    """
    if not weights or not all(math.isfinite(weight) for weight in weights.values()):
        raise ConfigError(f"the weights {dict(weights)} are not all finite; give each adapter a finite number")
    adapters = [store.get(adapter) for adapter in weights]
    layers = common_layers(adapter.layout for adapter in adapters)
    first = adapters[0].layout
    if not first.scaling:
        raise ConfigError(
            f"{adapters[0].name!r} has the scaling 0, which cannot be the scaling of "
            "the sum; name another adapter first"
        )
    rows = [align_rows(adapter.values.double()[None], adapter.layout, layers)[0] for adapter in adapters]
    total = torch.as_tensor(sum(weight * row for weight, row in zip(weights.values(), rows, strict=True)))
    values = rescaled(total, 1.0, first.scaling)
    heads = choose_head(store, adapters, head)
    parts = [{"name": a.name, "version": a.version, "weight": weights[a.name]} for a in adapters]
    return store.put(name, blended_layout(first, layers), values, heads, dtype, {"blend": parts}, exist_ok)


def blended_layout(layout: Layout, layers: tuple[Layer, ...]) -> Layout:
    """A layout with other layers: its config names them one by one where its own settings no longer fit."""
    if [layer[:2] for layer in layers] == [layer[:2] for layer in layout.layers]:
        return layout
    counts = [layer.n_frequency for layer in layers]
    most = max(set(counts), key=counts.count)
    shapes = {layer.name: layer.shape for layer in layers if layer.shape is not None}
    known = made_for(shapes) if len(shapes) == len(layers) else NOTHING
    config: dict[str, Any] = {
        **with_record(layout.config, "the config", **known),
        "n_frequency": most,
        "n_frequency_pattern": {layer.name: layer.n_frequency for layer in layers if layer.n_frequency != most},
        "target_modules": [layer.name for layer in layers],
        **dict.fromkeys(("exclude_modules", "layers_to_transform", "layers_pattern")),
    }
    return Layout(config, layers)


def choose_head(store: AdapterStore, adapters: list[Adapter], head: str | None) -> dict[str, torch.Tensor]:
    """The head that all adapters share, or that of the one chosen.

    Raises: StoreError, if they differ and none is chosen.
    """
    if head is not None:
        return store.get(head).heads
    first = adapters[0]
    for other in adapters[1:]:
        different = sorted(first.heads.keys() ^ other.heads.keys()) or [
            key for key, tensor in first.heads.items() if not torch.equal(tensor, other.heads[key])
        ]
        if different:
            raise StoreError(
                f"{first.name!r} and {other.name!r} have different heads ({different[0]}), "
                f"which cannot be added; choose the head to keep, such as --head {first.name!r}"
            )
    return first.heads
