"""Put an adapter into the models of a pipeline."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from peft import inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.tuners_utils import cast_adapter_dtype
from torch import nn

from fourierft.adapters.attachment import exact_config, restore_names
from fourierft.adapters.base import check_layers, check_saved_modules
from fourierft.diffusers.components import adapter_names, find_component, find_components, tuner_layers
from fourierft.diffusers.packed import WEIGHTS_NAME, Part, read_packed
from fourierft.errors import CheckpointError, ConfigError
from fourierft.files import as_path
from fourierft.format.checkpoint import AdapterCheckpoint, find_checkpoint
from fourierft.format.config import CONFIG_FILE, AdapterConfig
from fourierft.format.identity import check_same_base
from fourierft.format.weights import read_weights
from fourierft.tuner.hotswap import swap_checkpoints
from fourierft.tuner.record import find_identity
from fourierft.tuner.registration import enable


def load_adapter(
    pipeline: Any,
    source: str | Path,
    adapter_name: str | None = None,
    *,
    component: str | None = None,
    hotswap: bool = False,
    allow_other_base: bool = False,
) -> str:
    """Load a FourierFT adapter into a pipeline and make it the active one, as `load_lora_weights` does with LoRA.

    Its coefficients are those on disk, to the bit, in float32 whatever the pipeline is in. It is there to make images:
    to train one, give its model an adapter with `add_adapter`.

    Args:
        pipeline: of diffusers, with models that take adapters.
        source: a file that `save_adapter` or diffusers' `save_lora_adapter` wrote, or the folder that it is in; a
            folder of PEFT's, or one with such a folder for each component, named like it; the hub id of one of PEFT's.
        adapter_name: to call it by; the first of default_0, default_1, ... that is free if None.
        component: that an adapter of a single model is for; the UNet or the transformer if None.
        hotswap: overwrite the numbers of the adapter of that name in place, and leave those active that are.
        allow_other_base: take models of the same shapes that the adapter was not made for.

    Returns: the name.

    Raises: ConfigError, if pipeline, name or component will not do. CheckpointError or ShapeError, if the adapter is
        missing, damaged or of other models. The pipeline is then as it was.
    """
    enable()
    models = find_components(pipeline)
    name = _check_name(models, adapter_name, hotswap)
    parts = _read(as_path(source, "source"), list(models), find_component(pipeline, component))
    for part, found in parts.items():
        check_fits(models[part], found.checkpoint, f"{part} of the {type(pipeline).__name__}", allow_other_base)
    if hotswap:
        _swap(models, parts, name, source)
        return name
    _check_place(models, parts)
    before = [(layer, layer.active_adapters) for model in models.values() for layer in tuner_layers(model)]
    try:
        for part, found in parts.items():
            attach(models[part], found, name)
    except BaseException:
        for part in parts:
            _remove(models[part], name)
        for layer, names in before:
            layer.set_adapter(names, inference_mode=True)
        raise
    for model in models.values():  # also one that it has no part in, where a part of another one was active
        for layer in tuner_layers(model):
            layer.set_adapter([name], inference_mode=True)
    return name


def check_fits(model: nn.Module, checkpoint: AdapterCheckpoint, where: str, allow_other_base: bool) -> None:
    """Check an adapter against a model that it is to go into.

    Args:
        where: the model is, for the messages.
        allow_other_base: take one of the same shapes that the adapter was not made for.

    Raises: CheckpointError or ShapeError, if it does not fit.
    """
    check_saved_modules(model, checkpoint, where)
    check_layers(model, checkpoint, where)
    base = find_identity(model)
    if base is not None and not allow_other_base:
        check_same_base(checkpoint.config.made_for, base, checkpoint.path)


def attach(model: Any, part: Part, adapter_name: str) -> None:
    """Add an adapter to a model of diffusers or transformers that it was checked against, to run.

    Raises: CheckpointError, if it brings a tensor that the model has no place for.
    """
    checkpoint = part.checkpoint
    config: Any = exact_config(model, checkpoint)
    config.inference_mode = True
    scaling, config.scaling = config.scaling, checkpoint.scaling  # as on disk in all layers: no ratio is rounded
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")  # it is meant
        inject_adapter_in_model(config, model, adapter_name)  # `add_adapter` of transformers 5.24 asks for PEFT 0.22
    model._hf_peft_config_loaded = True  # which makes both libraries look for adapters
    cast_adapter_dtype(model, adapter_name)  # to float32
    result: Any = set_peft_model_state_dict(model, part.tensors, adapter_name)
    if result.unexpected_keys:
        raise CheckpointError(
            f"{checkpoint.path} has {result.unexpected_keys[0]}, but a {type(model).__name__} "
            "does not; load it into the model that it was made for"
        )
    kept = model.peft_config[adapter_name]  # as it was read, to be saved so again
    kept.scaling, kept.base_model_name_or_path = scaling, checkpoint.base_model
    restore_names(kept, checkpoint)


def _check_name(models: Mapping[str, nn.Module], wanted: str | None, hotswap: bool) -> str:
    taken = {name for model in models.values() for name in adapter_names(model)}
    if hotswap:
        if wanted not in taken:
            raise ConfigError(
                f"the pipeline has no adapter {wanted!r} to overwrite; it has {', '.join(sorted(taken)) or 'none'}"
            )
        return str(wanted)
    if wanted is None:
        return next(name for number in itertools.count() if (name := f"default_{number}") not in taken)
    if not isinstance(wanted, str) or not wanted or "." in wanted:
        raise ConfigError(f"PEFT does not accept adapter_name={wanted!r}; use a name without dots")
    if wanted in taken:
        raise ConfigError(
            f"the pipeline has an adapter {wanted!r} already; choose another name, overwrite its numbers with "
            "hotswap=True, or delete it first with delete_adapters"
        )
    return wanted


def _read(source: Path, components: list[str], single: str) -> dict[str, Part]:
    """The parts of an adapter by component."""
    if source.is_file():
        return read_packed(source, components, single)
    if source.is_dir() and not (source / CONFIG_FILE).exists():
        folders = [name for name in components if (source / name / CONFIG_FILE).is_file()]
        others = sorted({found.parent.name for found in source.glob(f"*/{CONFIG_FILE}")} - set(components))
        if folders and others:
            raise CheckpointError(
                f"{source} has an adapter of {' and '.join(others)}, which the pipeline lacks; it has "
                f"{', '.join(components)}: name one of their folders, or a pipeline that has all"
            )
        if folders:
            return {name: read_folder(source / name) for name in folders}
        if (source / WEIGHTS_NAME).is_file():
            return read_packed(source / WEIGHTS_NAME, components, single)
        raise CheckpointError(
            f"{source} has no adapter of a pipeline: no {CONFIG_FILE}, no folder {' or '.join(components)} "
            f"with one, and no {WEIGHTS_NAME}; name another folder, or the file itself"
        )
    return {single: read_folder(find_checkpoint(source))}


def read_folder(folder: Path) -> Part:
    """The adapter in a folder of PEFT's.

    Raises: CheckpointError or ShapeError, if there is none that is whole.
    """
    return Part.of(folder, AdapterConfig.read(folder / CONFIG_FILE), read_weights(folder))


def _check_place(models: Mapping[str, nn.Module], parts: Mapping[str, Part]) -> None:
    for part in parts:
        if any(parameter.is_meta for parameter in models[part].parameters()):
            raise ConfigError(
                f"the weights of {part} are offloaded layer by layer, and an adapter loaded "
                "now would not be; load adapters first, then offload, or use enable_model_cpu_offload"
            )


def _swap(models: Mapping[str, nn.Module], parts: Mapping[str, Part], name: str, source: str | Path) -> None:
    own = {part for part, model in models.items() if name in adapter_names(model)}
    if own != set(parts):
        raise CheckpointError(
            f"{source} adapts {' and '.join(sorted(parts))}, but {name!r} adapts {' and '.join(sorted(own))}; "
            "overwrite an adapter of the same components, or load it under another "
            "name"
        )
    swap_checkpoints([(models[part], found.checkpoint) for part, found in parts.items()], name)


def _remove(model: Any, adapter_name: str) -> None:
    """Take an adapter that is not whole out of a model."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Adapter .* was active which is now deleted")
        for layer in tuner_layers(model):
            with suppress(KeyError):
                layer.delete_adapter(adapter_name)
    if adapter_name in adapter_names(model):
        del model.peft_config[adapter_name]
