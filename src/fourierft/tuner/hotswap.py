"""Hot swap: an adapter takes the numbers of another one, in place, while the model stays as it is.

PEFT's `hotswap_adapter`, and with it transformers' `load_adapter(hotswap=True)`, takes LoRA alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn

from fourierft.errors import CheckpointError, ConfigError, ShapeError
from fourierft.format.checkpoint import AdapterCheckpoint, check_shape, read_checkpoint
from fourierft.format.identity import BaseIdentity
from fourierft.format.scaling import rescaled
from fourierft.spectral import Draw
from fourierft.tuner.checkpoint import find_layers, plain_name
from fourierft.tuner.config import FourierFTConfig
from fourierft.tuner.layer import FourierFTLayer

Write = tuple[Tensor, Tensor]  # a parameter, and what it is to hold


def hotswap_adapter(model: nn.Module, path: str | Path, adapter_name: str = "default") -> None:
    """Replace the coefficients and saved modules of a loaded adapter by those of an adapter on disk.

    The numbers are copied into the existing parameters: no layer is injected, a compiled model is not compiled again,
    and an error leaves the adapter unchanged. Do not call it while the model runs. The adapter keeps its settings and
    its scaling. If the file has another scaling, the coefficients are multiplied by the ratio, with one rounding.

    Args:
        model: a PeftModel, or a model with `add_adapter`, compiled or not.
        path: folder or hub id of a FourierFT adapter with the same layers, entries and numbers of coefficients.
        adapter_name: the adapter to overwrite.

    Raises: ConfigError, if the model has no such adapter, or it is merged. CheckpointError, if the file is damaged or
        does not fit the adapter. ShapeError, if it was made for layers of other shapes.
    """
    _check_adapter(model, adapter_name)
    swap_checkpoints([(model, read_checkpoint(path))], adapter_name)


@torch.no_grad()
def swap_checkpoints(pairs: Sequence[tuple[nn.Module, AdapterCheckpoint]], adapter_name: str) -> None:
    """`hotswap_adapter` of several models, all or none, each with what was read of its adapter.

    Raises: as `hotswap_adapter`.
    """
    writes: list[Write] = []
    for model, checkpoint in pairs:
        layers = _check_adapter(model, adapter_name)
        _check_layers(layers, checkpoint)
        writes += [_coefficients(layers[name], name, checkpoint, adapter_name) for name in checkpoint.coefficients]
        writes += _saved_modules(model, checkpoint, adapter_name)
        _warn_of_base(model, checkpoint, adapter_name)
    _write(writes)
    for model, _ in pairs:
        for layer in find_layers(model, adapter_name).values():
            layer.awaiting.discard(adapter_name)


def _check_adapter(model: nn.Module, adapter_name: str) -> dict[str, FourierFTLayer]:
    layers = find_layers(model, adapter_name)
    if not layers:
        raise ConfigError(
            f"the model has no FourierFT adapter {adapter_name!r}; load one first, with "
            "PeftModel.from_pretrained or load_adapter"
        )
    if any(adapter_name in layer.merged_adapters for layer in layers.values()):
        raise ConfigError(f"the adapter {adapter_name!r} is merged into the base weights; unmerge it first")
    return layers


def _check_layers(layers: Mapping[str, FourierFTLayer], checkpoint: AdapterCheckpoint) -> None:
    strange = sorted(checkpoint.coefficients.keys() - layers.keys())
    missing = sorted(layers.keys() - checkpoint.coefficients.keys())
    if strange or missing:
        who, name = ("the file alone", strange[0]) if strange else ("the model alone", missing[0])
        raise CheckpointError(
            f"{checkpoint.path} has coefficients of {len(checkpoint.coefficients)} layers, "
            f"but the model's adapter of {len(layers)}; {who} has {name}; swap adapters "
            "of the same layers, or load it under another name"
        )


def _coefficients(layer: FourierFTLayer, name: str, checkpoint: AdapterCheckpoint, adapter_name: str) -> Write:
    """The parameter of a layer, and what it is to hold."""
    values, parameter = checkpoint.coefficients[name], layer.coefficients(adapter_name)
    shape, n = (layer.out_features, layer.in_features), values.shape[-1]
    check_shape(name, shape, checkpoint.config.record.shape_of(name), n, "this model")
    draw = layer.fourierft_draw[adapter_name]
    if values.shape != parameter.shape:
        there, here = (" x ".join(map(str, numbers.shape)) for numbers in (values, parameter))
        raise ShapeError(
            f"{checkpoint.path} has {there} coefficients for {name}, but the model's "
            f"adapter {here}; swap adapters of the same n_frequency, or load it under "
            "another name"
        )
    if checkpoint.config.draw != draw:
        raise CheckpointError(
            f"{checkpoint.path} has entries of {_described(checkpoint.config.draw)}, "
            f"but the model's adapter of {_described(draw)}; swap adapters with the "
            "same entries, or load it under another name"
        )
    own = layer.own_scaling[adapter_name]
    if not own and checkpoint.scaling:
        raise CheckpointError(
            f"the model's adapter has scaling=0 in {name}, so new coefficients would "
            f"have no effect; load {checkpoint.path} under another name"
        )
    numbers = rescaled(values, checkpoint.scaling, own).to(parameter.dtype)
    if not torch.isfinite(numbers).all():
        raise ShapeError(
            f"{checkpoint.path} has coefficients for {name} that are too large for {parameter.dtype}; "
            "load the model in float32"
        )
    return parameter, numbers


def _described(draw: Draw) -> str:
    band = f", center={draw.band[0]:g}, width={draw.band[1]:g}" if draw.band else ""
    return f"random_loc_seed={draw.seed}{band}"


def _saved_modules(model: nn.Module, checkpoint: AdapterCheckpoint, adapter_name: str) -> Iterator[Write]:
    """Parameters and buffers of the modules that adapters replace, and what they are to hold."""
    own: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        if isinstance(module, ModulesToSaveWrapper) and adapter_name in module.modules_to_save:
            part = module.modules_to_save[adapter_name]
            own |= {f"{plain_name(path)}.{name}": tensor for name, tensor in part.state_dict(keep_vars=True).items()}
    saved = {**checkpoint.saved_modules, **checkpoint.matrices}
    for name in sorted(own.keys() ^ saved.keys()):
        who = "the model's adapter" if name in own else str(checkpoint.path)
        raise CheckpointError(
            f"of the two adapters, only {who} has {name} beside its coefficients; swap adapters that save the same "
            "modules, or load it under another name"
        )
    for name, tensor in own.items():
        if tensor.shape != saved[name].shape:
            raise ShapeError(
                f"{checkpoint.path} has {name} of {list(saved[name].shape)}, but the model's "
                f"adapter of {list(tensor.shape)}; swap adapters of the same task"
            )
        yield tensor, saved[name]


def _warn_of_base(model: Any, checkpoint: AdapterCheckpoint, adapter_name: str) -> None:
    config = getattr(model, "peft_config", {}).get(adapter_name)
    if not isinstance(config, FourierFTConfig):
        return
    record = config.file_record
    base = BaseIdentity(config.base_model_name_or_path or "an unnamed model", record.digest, record.signs)
    other = checkpoint.config.made_for
    if base.is_known and other.is_known and not other.is_same(base):
        warnings.warn(
            f"{checkpoint.path} was made for the base {other.describe()}, but the adapter "
            f"{adapter_name!r} for {base.describe()}, another model of the same shapes; "
            "it may not work there",
            stacklevel=4,
        )


def _write(writes: list[Write]) -> None:
    """Copy all or, if one fails, none."""
    before: list[Write] = []
    try:
        for target, values in writes:
            kept = target.detach().clone()
            target.copy_(values)
            before.append((target, kept))
    except BaseException:
        for target, kept in before:
            target.copy_(kept)
        raise
