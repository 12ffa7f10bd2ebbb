"""Updates added to the base weight, and taken out again.

The sum is taken in float32 or better and rounded to the dtype of the weight once, or quantised once.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fourierft.errors import ConfigError
from fourierft.spectral import delta_weight
from fourierft.tuner.mixing import Term, summed_terms
from fourierft.tuner.quantization import checksum, keep_weight, restore_weight

if TYPE_CHECKING:
    from fourierft.tuner.layer import FourierFTLayer


@torch.no_grad()
def merge_update(layer: FourierFTLayer, name: str, safe_merge: bool) -> None:
    """Add an adapter's update to the base weight; `merge_loss` says what the weight's precision lost of it.

    A weight that other modules have too stays theirs: the layer gets one of its own.

    Raises:
        ValueError, if safe_merge finds the sum not finite.
        ConfigError, if the weight can't be added to, or is computed at every call.
    """
    backend = layer.quantization_backend
    base: Any = layer.get_base_layer()
    check_held([layer])
    weight: Any = layer.get_base_weight() if backend is None or backend.supports_merge else base.weight
    term = current_term(layer, name)
    update = base_update(layer, term, weight)
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
    layer.merged_terms[name] = term._replace(coefficients=term.coefficients.clone())
    stored = merged.to(weight.dtype)
    if backend is not None:
        if layer.kept_weight is None:
            layer.kept_weight = keep_weight(base)
        layer.set_base_weight(stored)
        stored = layer.get_base_weight()
    elif layer.is_tied:
        kept = layer.kept_weight or keep_weight(base)
        layer.kept_weight = kept._replace(merged=checksum(stored))
        base.weight = nn.Parameter(stored, requires_grad=base.weight.requires_grad)
    else:
        layer.set_base_weight(stored)
    if backend is not None or stored.dtype != merged.dtype:
        lost = torch.linalg.vector_norm(stored.to(merged.dtype) - merged) / torch.linalg.vector_norm(update)
        layer.merge_loss[name] = float(lost.nan_to_num(0.0))


@torch.no_grad()
def unmerge_update(layer: FourierFTLayer, name: str) -> None:
    """Subtract an adapter's update from the base weight, with the coefficients and as strong as it was merged.

    A quantised or tied layer gets the weight back that it had; a tied one that was written to since keeps its own.
    """
    term = layer.merged_terms.pop(name, None)
    if term is None:
        return
    kept, base = layer.kept_weight, layer.get_base_layer()
    layer.kept_weight = None
    if kept is not None and (kept.merged is None or kept.merged == checksum(base.weight)):  # type: ignore[arg-type]
        restore_weight(base, kept)
        layer.merged_terms.clear()
        return
    weight = layer.get_base_weight()
    update = base_update(layer, term, weight)
    layer.set_base_weight((weight.to(update.dtype) - update).to(weight.dtype))


def check_held(layers: Iterable[FourierFTLayer]) -> None:
    """Raise ConfigError, if a layer computes its weight at every call, and so would forget what is merged into it."""
    for layer in layers:
        base = layer.get_base_layer()
        if getattr(layer, "parameter_name", "weight") in base._parameters.keys() | base._buffers.keys():
            continue
        raise ConfigError(
            f"{layer.path or 'a ' + type(base).__name__} computes its weight from other parameters at every call, as "
            "pruned and normalised layers do, and would forget what is merged; make the weight a parameter first, with "
            "torch.nn.utils.parametrize.remove_parametrizations, or prune.remove and the like of what computes it"
        )


def current_term(layer: FourierFTLayer, name: str) -> Term:
    """The update of an adapter as it is now."""
    (term,) = summed_terms(layer, [name])
    return term


def base_update(layer: FourierFTLayer, term: Term, weight: Tensor) -> Tensor:
    """An update in the layout of the base weight, on its device, in float32 or better."""
    coefficients = term.coefficients.to(weight.device, torch.promote_types(weight.dtype, torch.float32))
    return layer.in_layout(delta_weight(coefficients, term.basis, term.scaling))


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
