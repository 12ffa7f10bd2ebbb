"""The modules of a model whose adapted layers share their inputs; what they share is in `shared_inputs.py`."""

from __future__ import annotations

from typing import Any, TypeGuard

from torch import nn

from fourierft.spectral import SpectralBasis
from fourierft.tuner.layer import FourierFTLayer
from fourierft.tuner.shared_inputs import SharedInputs


def share_inputs(model: nn.Module) -> None:
    """Let the adapted layers of each module share their inputs while it runs."""
    leave_inputs(model)
    for module in model.modules():
        layers = [child for child in module.children() if _is_layer(child) and not child.is_read]
        if len(layers) < 2:
            continue
        readers: dict[int, list[SpectralBasis]] = {}
        for layer in layers:
            readers.setdefault(layer.in_features, []).extend(layer.fourierft_basis.values())
        inputs = SharedInputs({width: list(dict.fromkeys(of)) for width, of in readers.items() if len(of) > 1})
        module.register_forward_pre_hook(inputs.begin)
        module.register_forward_hook(inputs.end, always_call=True)
        for layer in layers:
            layer.shared_inputs = inputs


def leave_inputs(model: nn.Module) -> None:
    """Take back what `share_inputs` did."""
    for module in model.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key in [key for key, hook in hooks.items() if _is_ours(hook)]:
                del hooks[key]
                module._forward_hooks_always_called.pop(key, None)


def _is_layer(module: nn.Module) -> TypeGuard[FourierFTLayer]:
    return isinstance(module.__dict__.get("shared_inputs"), SharedInputs)  # PEFT 0.18 has wrappers that no one may ask


def _is_ours(hook: Any) -> bool:
    return isinstance(getattr(hook, "__self__", None), SharedInputs)
