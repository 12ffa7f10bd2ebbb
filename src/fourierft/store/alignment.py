"""One space for adapters of one draw: layers side by side, fewer coefficients padded with zeros, the scaling folded in.

For one seed and shape the entries of a smaller n are the first ones of a larger n, and a layer that an adapter leaves
alone has dW = 0. So rows of this space may be added, averaged and compared, and it means the same for dW.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from fourierft.errors import StoreError
from fourierft.format.layout import Layer, Layout
from fourierft.format.scaling import rescaled


def common_layers(layouts: Iterable[Layout]) -> tuple[Layer, ...]:
    """The layers of all layouts, sorted by name, each with the largest n.

    Raises: StoreError, if the entries are drawn differently or a layer has two shapes.
    """
    draws: dict[str, Layout] = {}
    layers: dict[str, Layer] = {}
    for layout in layouts:
        draws.setdefault(layout.draw_key, layout)
        for layer in layout.layers:
            known = layers.setdefault(layer.name, layer)
            shapes = {known.shape, layer.shape} - {None}
            if len(shapes) > 1:
                raise StoreError(f"the layer {layer.name} is {known.shape} in one adapter and {layer.shape} in another")
            n = max(known.n_frequency, layer.n_frequency)
            layers[layer.name] = known._replace(n_frequency=n, shape=known.shape or layer.shape)
    if len(draws) > 1:
        raise StoreError(
            f"the adapters have different entries ({', '.join(sorted(draws))}), so their "
            "coefficients cannot be compared or added; use adapters with the same random_loc_seed"
        )
    return tuple(layers[name] for name in sorted(layers))


def align_rows(values: torch.Tensor, layout: Layout, layers: Sequence[Layer]) -> torch.Tensor:
    """Rows of a layout in the space of `layers`: scaling * coefficients.

    Args:
        values: [adapters, total n of the layout].
        layout: of the rows.
        layers: of the space, as `common_layers` gives them.

    Returns: [adapters, total n of the layers], dtype of values.

    Raises: StoreError, if the rows have more coefficients: they came after the layers were looked at.
    """
    room = {layer.name: layer.n_frequency for layer in layers}
    if any(layer.n_frequency > room.get(layer.name, 0) for layer in layout.layers):
        raise StoreError("an adapter with more coefficients was added while the store was read; run the command again")
    scaled = rescaled(values, layout.scaling, 1.0)
    parts = layout.split(scaled)
    row = values.new_zeros(len(values), sum(room.values()))
    if [layer.name for layer in layers] == list(parts) and row.shape == scaled.shape:
        return scaled
    start = 0
    for layer in layers:
        if layer.name in parts:
            part = parts[layer.name]
            row[:, start : start + part.shape[1]] = part
        start += layer.n_frequency
    return row
