"""What an adapter's files say of the model that it was made for: noted when it is saved, checked when it meets one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from peft import FourierFTConfig as StockConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from fourierft.errors import ShapeError
from fourierft.format.checkpoint import check_shape
from fourierft.format.identity import BaseIdentity, identify_base
from fourierft.format.shapes import Shape
from fourierft.tuner.checkpoint import plain_name
from fourierft.tuner.config import FourierFTConfig
from fourierft.tuner.layer import FourierFTLayer
from fourierft.tuner.parameters import ParameterHost, find_parameters, matrix_shape
from fourierft.tuner.quantization import linear_shape


def note_base(model: nn.Module, config: StockConfig, adapter_name: str) -> None:
    """Let the config of an adapter say, when it is saved, the shapes of its layers, and which model they are in.

    A model that was built from a config, or whose files are gone, is not identified; its layers still have shapes.
    """
    if isinstance(config, FourierFTConfig):
        config.layer_shapes = dict(_adapted_shapes(model, adapter_name))
        config.base = find_identity(model)


def check_base(model: nn.Module, config: StockConfig, is_target: Callable[[str], Any]) -> None:
    """Check a model against what the file of an adapter says, before any of its layers is changed.

    Warns if it is another model of the same shapes: a sibling checkpoint may be meant.

    Args:
        model: without the adapter.
        config: of the adapter.
        is_target: whether the adapter changes the layer of a name.

    Raises: ShapeError, if a layer is not of the shape that the adapter was made for, or there are fewer or more layers.
    """
    if not isinstance(config, FourierFTConfig) or not config.file_record.shapes:
        return
    record, count = config.file_record, 0
    for name, layer in _outer_modules(model):
        shape = layer_shape(layer) if is_target(name) else None
        if shape is not None:
            count += 1
            _check_shape(name, shape, record.shape_of(name))
    for path, name in find_parameters(model, config.target_parameters or []):
        count += 1
        module = model.get_submodule(path)
        holder = module.base_layer if isinstance(module, ParameterHost) else module
        _check_shape(f"{path}.{name}", matrix_shape(holder, name), record.shape_of(f"{path}.{name}"))
    if record.layers is not None and count != record.layers:
        raise ShapeError(
            f"the adapter was made for {record.layers} layers, but its settings match "
            f"{count} of this model; load the base model that it was made for{_NEW}"
        )
    made_for, base = find_made_for(config), find_identity(model)
    if base is not None and base.is_known and made_for.is_known and not made_for.is_same(base):
        warnings.warn(
            f"the adapter was made for the base {made_for.describe()}, but {base.describe()} "
            "is another model of the same shapes; the adapter may not work there",
            stacklevel=3,
        )


def find_made_for(config: FourierFTConfig) -> BaseIdentity:
    """The base that an adapter was made for, as its file says."""
    record = config.file_record
    return BaseIdentity(config.base_model_name_or_path or "an unnamed model", record.digest, record.signs)


def find_identity(model: nn.Module) -> BaseIdentity | None:
    """Which model this is, by the name it was loaded by, and its files where they are here; None if it has no name."""
    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    config = getattr(base, "config", None)
    told = config if isinstance(config, Mapping) else getattr(config, "__dict__", {})  # diffusers', transformers'
    name = getattr(base, "name_or_path", None) or told.get("_name_or_path")
    if not name or not isinstance(name, (str, Path)):
        return None
    return identify_base(str(name), told.get("_commit_hash"))


def layer_shape(layer: Any) -> Shape | None:
    """(out_features, in_features) of a layer, whichever way round it keeps its weight; None if it has none."""
    if isinstance(layer, BaseTunerLayer):
        layer = layer.get_base_layer()
    if (shape := linear_shape(layer)) is not None:
        return shape
    weight = getattr(layer, "weight", None)
    if weight is None or weight.dim() < 2:
        return None
    return len(weight), weight.numel() // len(weight)


_NEW = "; for a new adapter with the settings of an old one, pass dataclasses.replace(config)"


def _check_shape(name: str, shape: Shape, made_for: Shape | None) -> None:
    try:
        check_shape(name, shape, made_for, 1, "this model")
    except ShapeError as error:
        raise ShapeError(f"{error}{_NEW}") from None


def _adapted_shapes(model: nn.Module, adapter_name: str) -> Iterator[tuple[str, Shape]]:
    for name, layer in model.named_modules():
        if isinstance(layer, FourierFTLayer) and adapter_name in layer.fourierft_scaling:
            yield plain_name(name), (layer.out_features, layer.in_features)


def _outer_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules of a model by name, without what tuners put into layers that they adapted."""
    inside = "\0"
    for name, module in model.named_modules():
        if name and not name.startswith(inside):
            yield name, module
            if isinstance(module, BaseTunerLayer):
                inside = f"{name}."
