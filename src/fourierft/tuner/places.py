"""Modules that stand at several places of a model, and modules that only hold what others use."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from fourierft.errors import ConfigError
from fourierft.tuner.layer import FourierFTLayer
from fourierft.tuner.parameters import ParameterHost
from fourierft.tuner.reading import is_named

_WRAPPERS = (FourierFTLayer, ParameterHost)


def place_everywhere(model: nn.Module) -> None:
    """Put adapted layers wherever their base layers stand: PEFT replaces a module at the first of its places alone."""
    layers = {
        id(module.base_layer): module
        for module in model.modules()
        if isinstance(module, _WRAPPERS) and hasattr(module, "base_layer")
    }
    for path, module in list(model.named_modules(remove_duplicate=False)):
        layer = layers.get(id(module))
        parent = model.get_submodule(path.rpartition(".")[0])
        if layer is not None and parent is not layer:
            setattr(parent, path.rpartition(".")[2], layer)


def take_from_everywhere(model: nn.Module) -> None:
    """Put base layers back where PEFT, which unloads at the first place, has left adapted ones."""
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if isinstance(module, _WRAPPERS):
            setattr(model.get_submodule(path.rpartition(".")[0]), path.rpartition(".")[2], module.get_base_layer())


def check_holder(model: nn.Module, path: str, module: nn.Module) -> None:
    """Refuse an embedding that the model never looks anything up in, and that only ties others, as T5's `shared`.

    Raises: ConfigError, naming the others.
    """
    if not isinstance(model, PreTrainedModel) or not isinstance(module, nn.Embedding):
        return
    tied = [
        name.rpartition(".")[0] for name, source in model.all_tied_weights_keys.items() if source == f"{path}.weight"
    ]
    others = {name: other for name in tied if isinstance(other := model.get_submodule(name), nn.Embedding)}
    is_called = module in others.values() or is_named(model, path.rpartition(".")[2])
    if others and not is_called:
        raise ConfigError(
            f"{path} only stores weights that other modules use, and is never called, "
            f"so an adapter of it would have no effect; name {' and '.join(sorted(others))} "
            "in target_modules"
        )
