"""Modules that stand at several places of a model, or in lists of Python, and those that only hold what others use.

A module that keeps its layers in a list of Python too, as the heads of DETR's kind do, and calls them from there would
never call an adapter that PEFT puts in the place of the layer alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel

from fourierft.errors import ConfigError
from fourierft.tuner.layer import FourierFTLayer
from fourierft.tuner.parameters import ParameterHost
from fourierft.tuner.reading import is_named

_WRAPPERS = (FourierFTLayer, ParameterHost)


def place_everywhere(model: nn.Module) -> list[nn.Module]:
    """Put adapted layers wherever their base layers stand: PEFT replaces a module at the first of its places alone.

    Returns: those that stand in lists.
    """
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
    for holder, name, held in _lists(model):
        holder.__dict__[name] = _exchanged(held, lambda part: layers.get(id(part), part))
    return [part for _, _, held in _lists(model) for part in _parts(held) if isinstance(part, _WRAPPERS)]


def take_from_everywhere(model: nn.Module) -> None:
    """Put base layers back where PEFT, which unloads at the first place, has left adapted ones."""
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if isinstance(module, _WRAPPERS):
            setattr(model.get_submodule(path.rpartition(".")[0]), path.rpartition(".")[2], module.get_base_layer())
    for holder, name, held in _lists(model):
        holder.__dict__[name] = _exchanged(
            held, lambda part: part.get_base_layer() if isinstance(part, _WRAPPERS) else part
        )


def _lists(model: nn.Module) -> Iterator[tuple[nn.Module, str, Any]]:
    """Each list, tuple or dictionary with modules that a module has as an attribute, and where."""
    for module in model.modules():
        if not isinstance(module, BaseTunerLayer):
            for name, held in list(vars(module).items()):
                if name != "_modules" and type(held) in (list, tuple, dict) and any(_parts(held)):
                    yield module, name, held


def _parts(held: Any) -> Iterator[nn.Module]:
    """The modules in a list, tuple or dictionary, and in those in it."""
    for part in held.values() if type(held) is dict else held if type(held) in (list, tuple) else ():
        if isinstance(part, nn.Module):
            yield part
        else:
            yield from _parts(part)


def _exchanged(held: Any, other: Callable[[nn.Module], nn.Module]) -> Any:
    """The same list, tuple or dictionary with others in the place of its modules; a tuple is made anew."""
    if isinstance(held, nn.Module):
        return other(held)
    if type(held) is tuple:
        return tuple(_exchanged(part, other) for part in held)
    if type(held) is list:
        held[:] = [_exchanged(part, other) for part in held]
    if type(held) is dict:
        held.update({key: _exchanged(part, other) for key, part in held.items()})
    return held


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
