"""Updates added to the base weight, and taken out again.

The sum is taken in float32 or better and rounded to the dtype of the weight once, or quantised once.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fourierft.errors import ConfigError
from fourierft.spectral import delta_weight
from fourierft.tuner.mixing import summed_terms
from fourierft.tuner.quantization import keep_weight, restore_weight

if TYPE_CHECKING:
    from fourierft.tuner.layer import FourierFTLayer


@torch.no_grad()
def merge_update(layer: FourierFTLayer, name: str, safe_merge: bool) -> None:
    """Add an adapter's update to the base weight; `merge_loss` says what the weight's precision lost of it.

    A weight that other modules have too stays theirs: the layer gets one of its own.

    Raises: ValueError, if safe_merge finds the sum not finite. ConfigError, if the weight can't be added to.
    """
    backend = layer.quantization_backend
    base: Any = layer.get_base_layer()
    weight: Any = layer.get_base_weight() if backend is None or backend.supports_merge else base.weight
    update = base_update(layer, name, weight)
    if not weight.is_floating_point() or weight.shape != update.shape:
        raise ConfigError(
            f"a {type(base).__name__} holds its weight as {weight.dtype} {list(weight.shape)}, "
            "but an update is merged into a matrix of floats; load the base model without quantisation to merge"
        )
    merged = weight.to(update.dtype) + update
    if safe_merge and not torch.isfinite(merged).all():
        raise ValueError(
            f"NaNs detected in the merged weights of adapter {name!r}; the weight was left as it was, "
            "check the adapter's coefficients"
        )
    layer.merged_scaling[name] = layer.fourierft_scaling[name]
    stored = merged.to(weight.dtype)
    if backend is not None:
        if layer.kept_weight is None:
            layer.kept_weight = keep_weight(base)
        layer.set_base_weight(stored)
        stored = layer.get_base_weight()
    elif layer.is_tied and layer.kept_weight is None:
        layer.kept_weight = keep_weight(base)
        base.weight = nn.Parameter(stored, requires_grad=base.weight.requires_grad)
    else:
        layer.set_base_weight(stored)
    if backend is not None or stored.dtype != merged.dtype:
        lost = torch.linalg.vector_norm(stored.to(merged.dtype) - merged) / torch.linalg.vector_norm(update)
        layer.merge_loss[name] = float(lost.nan_to_num(0.0))


@torch.no_grad()
def unmerge_update(layer: FourierFTLayer, name: str) -> None:
    """Subtract an adapter's update from the base weight, as strong as it was merged.

    A quantised or tied layer gets the weight back that it had.
    """
    merged_scaling = layer.merged_scaling.pop(name, None)
    if layer.quantization_backend is not None or layer.is_tied:
        if layer.kept_weight is not None:
            restore_weight(layer.get_base_layer(), layer.kept_weight)
            layer.kept_weight = None
        return
    weight = layer.get_base_weight()
    update = base_update(layer, name, weight, merged_scaling)
    layer.set_base_weight((weight.to(update.dtype) - update).to(weight.dtype))


def base_update(layer: FourierFTLayer, name: str, weight: Tensor, merged_scaling: float | None = None) -> Tensor:
    """The update in the layout of the base weight, in float32 or better; with another scaling if one is given."""
    ((_, coefficients, basis, scaling),) = summed_terms(layer, [name])
    scaling = scaling if merged_scaling is None else merged_scaling
    update = delta_weight(coefficients.to(torch.promote_types(weight.dtype, torch.float32)), basis, scaling)
    return layer.in_layout(update)


def warn_of_loss(layers: Sequence[FourierFTLayer]) -> None:
    """Warn of what the precision of the base weights lost of merged updates, if it lost anything."""
    losses = [loss for layer in layers for loss in layer.merge_loss.values()]
    if not losses:
        return
    shares = f"{max(losses):.1%} of the update's norm in the worst layer and {sum(losses) / len(losses):.1%} on average"
    backend = layers[0].quantization_backend
    if backend is None:
        dtype = layers[0].stored_weight.dtype
        text = f"merging into {dtype} rounded away {shares}; load the base model in float32 to merge without loss"
    else:
        text = (
            f"merging into {backend.backend_name} weights erred by {shares}; load the base model without quantisation "
            "to merge without loss"
        )
    warnings.warn(text, stacklevel=3)
