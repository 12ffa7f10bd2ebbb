"""The models of a pipeline that adapters go into."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from fourierft.errors import ConfigError


def find_components(pipeline: Any) -> dict[str, nn.Module]:
    """Name -> model, of those that the pipeline's own methods reach, such as `unet` and `text_encoder`; the one that
    draws is first. A compiled model is the model itself.

    Raises: ConfigError, if it is no pipeline of diffusers that takes adapters.
    """
    names = getattr(pipeline, "_lora_loadable_modules", None)  # what set_adapters, fuse_lora and the others go through
    if not names:
        raise ConfigError(
            f"a {type(pipeline).__name__} is not a diffusers pipeline that takes adapters; "
            "use one that has load_lora_weights, or add the adapter to one of its models "
            "with add_adapter"
        )
    models = {name: getattr(pipeline, name, None) for name in names}
    return {name: getattr(model, "_orig_mod", model) for name, model in models.items() if model is not None}


def find_component(pipeline: Any, name: str | None) -> str:
    """The name of a component, or of the one that draws.

    Raises: ConfigError, naming those there are, if there is none of that name.
    """
    known = list(find_components(pipeline))
    if name is not None and name not in known:
        raise ConfigError(
            f"a {type(pipeline).__name__} has no {name} that takes adapters; it has {' and '.join(known)}"
        )
    return name or known[0]


def tuner_layers(model: nn.Module) -> Iterator[BaseTunerLayer]:
    """The layers of a model that PEFT has adapted, whatever the method."""
    return (module for module in model.modules() if isinstance(module, BaseTunerLayer))


def adapter_names(model: nn.Module) -> list[str]:
    """The names of the adapters that a model has."""
    return list(getattr(model, "peft_config", None) or {})
