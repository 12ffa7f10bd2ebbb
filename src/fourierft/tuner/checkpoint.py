"""Between a model's coefficients and a checkpoint's.

A checkpoint has one scaling, so that stock PEFT reads it. A layer of another scaling folds the ratio into the
coefficients it saves, and takes it out of those it loads: scaling * coefficients, and with it the model, is the same on
both sides, even if the rule behind scaling="auto" changes in between.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from peft import FourierFTConfig as StockConfig
from torch import Tensor, nn
from transformers import PretrainedConfig

from fourierft.errors import CheckpointError
from fourierft.tuner.layer import FourierFTLayer
from fourierft.tuner.scaling import disk_scaling

_WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.")
_COEFFICIENTS = "fourierft_spectrum"


def fold(model: nn.Module, config: StockConfig, adapter_name: str, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """State dict of a checkpoint from that of a model; keys are the model's."""
    leave_embeddings(config, model)
    ratios = scaling_ratios(model, config, adapter_name)
    return {key: _scaled(value, ratios.get(_plain(key), 1.0)) for key, value in state_dict.items()}


def leave_embeddings(config: StockConfig, model: nn.Module | None = None) -> None:
    """Keep PEFT from saving the matrix of an adapted embedding or head, unless its vocabulary was resized.

    PEFT saves the matrices of all targets named embed_tokens or lm_head, but for adapters with trained tokens, which
    hold what they change: it asks for a field that says which, and an empty one says none. The vocabulary it compares
    with that of the base itself, except in a model whose config keeps it in a part.
    """
    resized = model is not None and _part_was_resized(model, config)
    config.trainable_token_indices = None if resized else {}  # type: ignore[attr-defined]


def unfold(
    model: nn.Module, config: StockConfig, adapter_name: str, state_dict: dict[str, Tensor]
) -> dict[str, Tensor]:
    """State dict of a model from that of a checkpoint; keys are the model's.

    Raises: CheckpointError, if the checkpoint's coefficients belong to none of the adapter's layers.
    """
    for layer in model.modules():
        if isinstance(layer, FourierFTLayer) and adapter_name in layer.fourierft_spectrum:
            layer.take_training_scaling(adapter_name)
    ratios = scaling_ratios(model, config, adapter_name)
    found = {_plain(key) for key in state_dict if f".{_COEFFICIENTS}" in key}
    strange = sorted(found - set(ratios))
    if strange and len(strange) == len(found):
        raise CheckpointError(
            f"the checkpoint has coefficients of {len(found)} layers, such as {strange[0]}, but none of them is "
            "adapted in this model; load it into the model it was trained on"
        )
    if strange:
        warnings.warn(
            f"the checkpoint has coefficients of {len(strange)} layers that are not adapted in this model, such as "
            f"{strange[0]}; they are ignored",
            stacklevel=2,
        )
    return {key: _scaled(value, 1 / ratios.get(_plain(key), 1.0)) for key, value in state_dict.items()}


def scaling_ratios(model: nn.Module, config: StockConfig, adapter_name: str) -> dict[str, float]:
    """How much larger the coefficients of a checkpoint are than the model's, by key of the model's state dict.

    A scaling of 0, which no ratio can bring back, counts as that of the checkpoint.
    """
    on_disk, ratios = disk_scaling(config), {}
    for name, layer in model.named_modules():
        if isinstance(layer, FourierFTLayer) and adapter_name in layer.fourierft_scaling:
            scaling = layer.fourierft_scaling[adapter_name]
            ratio = scaling / on_disk if scaling and on_disk else 1.0
            ratios[_plain(f"{name}.{_COEFFICIENTS}.{adapter_name}")] = ratio
    return ratios


def _part_was_resized(model: nn.Module, config: StockConfig) -> bool:
    """Whether the vocabulary is that of a part, such as the text model of a multimodal one, and not the base's."""
    own: Any = getattr(model, "config", None)
    if not isinstance(own, PretrainedConfig) or hasattr(own, "vocab_size") or not config.base_model_name_or_path:
        return False
    try:
        base = type(own).from_pretrained(config.base_model_name_or_path, revision=config.revision or "main")
    except OSError:
        return False
    sizes = [getattr(part.get_text_config(), "vocab_size", None) for part in (own, base)]
    return sizes[0] != sizes[1]


def _scaled(value: Tensor, ratio: float) -> Tensor:
    if ratio == 1.0:
        return value
    # One rounding, and never to half precision: a checkpoint in bfloat16 would come back as another adapter.
    wide = torch.float32 if value.device.type == "mps" else torch.float64
    return (value.to(wide) * ratio).to(torch.promote_types(value.dtype, torch.float32))


def _plain(key: str) -> str:
    """A key without the names that wrappers of modules put into some paths and not into others."""
    for wrapper in _WRAPPERS:
        key = key.replace(wrapper, "")
    return key
