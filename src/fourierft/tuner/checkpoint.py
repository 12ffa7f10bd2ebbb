"""Between a model's coefficients and a checkpoint's.

A checkpoint has one scaling, so that stock PEFT reads it. A layer of another scaling folds the ratio into the
coefficients it saves, and takes it out of those it loads: scaling * coefficients, and with it the model, is the same on
both sides, even if the rule behind scaling="auto" changes in between.
"""

from __future__ import annotations

import warnings
from typing import Any

from peft import FourierFTConfig as StockConfig
from torch import Tensor, nn
from transformers import PretrainedConfig

from fourierft.errors import CheckpointError
from fourierft.format.weights import base_path
from fourierft.tuner.coefficients import IN_MODEL, ON_DISK
from fourierft.tuner.layer import FourierFTLayer

_WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.")
_PEFT_MODEL = "base_model.model."  # a checkpoint has it, a model into which layers were injected does not


def fold(model: nn.Module, adapter_name: str, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """State dict of a checkpoint, still with the adapter's name in it, from that of a model."""
    layers, checkpoint = find_layers(model, adapter_name), {}
    for key, value in state_dict.items():
        path = key.removesuffix(f".{IN_MODEL}.{adapter_name}.weight").removesuffix(f".{ON_DISK}.{adapter_name}")
        if path == key or plain_name(path) not in layers:  # not coefficients, or those of stock PEFT's layer
            checkpoint[key] = value
        else:
            layer = layers[plain_name(path)]
            checkpoint[f"{path}.{ON_DISK}.{adapter_name}"] = layer.to_disk(adapter_name, value)
    return checkpoint


def leave_embeddings(config: StockConfig, model: nn.Module | None = None) -> None:
    """Keep PEFT from saving the matrix of an adapted embedding or head, unless its vocabulary was resized.

    PEFT saves the matrices of all targets named embed_tokens or lm_head, but for adapters with trained tokens, which
    hold what they change: it asks for a field that says which, and an empty one says none. The vocabulary it compares
    with that of the base itself, except in a model whose config keeps it in a part.
    """
    resized = model is not None and _part_was_resized(model, config)
    config.trainable_token_indices = None if resized else {}  # type: ignore[attr-defined]


def unfold(model: nn.Module, adapter_name: str, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """State dict of a model from that of a checkpoint.

    Raises: CheckpointError, if the checkpoint's coefficients belong to none of the adapter's layers, or to others too
        while some of these have none: the adapter would be half of one and half of another.
    """
    layers, loaded, strange = find_layers(model, adapter_name), {}, []
    if not layers:  # stock PEFT's, made before this package was enabled
        return state_dict
    places: dict[nn.Module, list[str]] = {}  # a layer may stand at several
    for name, module in model.named_modules(remove_duplicate=False):
        places.setdefault(module, []).append(name.removeprefix("_fsdp_wrapped_module."))
    for key, value in state_dict.items():
        path = key.removesuffix(f".{ON_DISK}")
        if path == key:
            loaded[key] = value
        elif plain_name(path) in layers:
            layer = layers[plain_name(path)]
            layer.awaiting.discard(adapter_name)
            values = layer.from_disk(adapter_name, value)
            loaded |= {f"{place}.{IN_MODEL}.{adapter_name}.weight": values for place in places[layer]}
        else:
            strange.append(path)
    found = sum(key.endswith(f".{ON_DISK}") for key in state_dict)
    if strange and len(strange) == found:
        raise CheckpointError(
            f"the checkpoint has coefficients of {found} layers, such as {strange[0]}, but none of them is "
            "adapted in this model; load it into the model it was trained on"
        )
    missing = sorted(layers.keys() - {plain_name(key.removesuffix(f".{ON_DISK}")) for key in state_dict})
    if strange and missing:
        raise CheckpointError(
            f"the checkpoint has coefficients of {strange[0]}, which is not adapted "
            f"in this model, and none of {missing[0]}, which is; load an adapter of "
            "the same layers, or load this one under another name"
        )
    if strange:
        warnings.warn(
            f"the checkpoint has coefficients of {len(strange)} layers that are not adapted in this model, such as "
            f"{strange[0]}; they are ignored",
            stacklevel=2,
        )
    return loaded


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


def find_layers(model: nn.Module, adapter_name: str) -> dict[str, FourierFTLayer]:
    """The layers that have an adapter, by their names in the base model."""
    return {
        plain_name(name): layer
        for name, layer in model.named_modules()
        if isinstance(layer, FourierFTLayer) and adapter_name in layer.fourierft_coefficients
    }


def plain_name(name: str) -> str:
    """A module's name in the base model: without what wrappers of modules put into some names and not into others."""
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    name = base_path(name)
    return name.removeprefix(_PEFT_MODEL)
