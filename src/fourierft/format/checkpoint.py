"""A PEFT FourierFT checkpoint as plain data: read, checked, and nothing executed.

A checkpoint is a folder with `adapter_config.json` and `adapter_model.safetensors`. Coefficients stand under
`base_model.model.<layer>.fourierft_spectrum`; everything else in the file is a module or bias saved whole.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from fourierft.errors import CheckpointError, ShapeError
from fourierft.files import as_path
from fourierft.format.config import CONFIG_FILE, WEIGHTS_FILE, AdapterConfig
from fourierft.format.shapes import Shape
from fourierft.format.weights import (
    PREFIX,
    SUFFIX,
    check_finite,
    is_saved_whole,
    layer_name,
    parameter_name,
    read_weights,
)
from fourierft.spectral import SpectralBasis

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class AdapterCheckpoint:
    """What a checkpoint says, with stock PEFT's reading of its numbers.

    Attributes:
        path: folder it was read from.
        config: its settings.
        coefficients: layer name in the base model -> [n], as on disk; of a parameter that is a stack, [weights, n].
        saved_modules: parameter name in the base model -> tensor saved whole (`modules_to_save`, biases).
        matrices: weight name in the base model -> whole weight of an adapted head or embedding, which PEFT saves
            beside the coefficients if the vocabulary was resized, or if it is asked to.
    """

    path: Path
    config: AdapterConfig
    coefficients: dict[str, torch.Tensor]
    saved_modules: dict[str, torch.Tensor]
    matrices: dict[str, torch.Tensor]

    @property
    def base_model(self) -> str | None:
        """Hub id or folder of the base model; None if the config names none."""
        return self.config.base_model

    @property
    def revision(self) -> str | None:
        """Of the base model on the hub."""
        return self.config.revision

    @property
    def task_type(self) -> str | None:
        """PEFT's task, such as SEQ_CLS; None if it has none."""
        return self.config.task_type

    @property
    def scaling(self) -> float:
        """One for all layers; dimensionless."""
        return self.config.scaling

    @property
    def seed(self) -> int:
        """Of the entries."""
        return self.config.draw.seed

    @property
    def band(self) -> tuple[float, float] | None:
        """(center, width) if the entries are band-pass, None if they are uniform."""
        return self.config.draw.band

    @property
    def shapes(self) -> dict[str, Shape] | None:
        """Layer name -> (out_features, in_features) that it was made for; None if the adapter does not say."""
        found = {name: self.config.record.shape_of(name) for name in self.coefficients}
        return {name: shape for name, shape in found.items() if shape} if all(found.values()) else None

    def basis(self, out_features: int, in_features: int, n_frequency: int) -> SpectralBasis:
        """The basis of a layer of this shape: dW is delta_weight(coefficients, basis, scaling)."""
        return self.config.draw.basis(out_features, in_features, n_frequency)

    def check_layer(self, name: str, shape: Shape, base: str) -> None:
        """Raise ShapeError if a layer of a base model is not of the shape that the adapter was made for, or too small.

        Args:
            name: of the layer.
            shape: (out_features, in_features) in the base.
            base: name of the base, for the message.
        """
        check_shape(
            name, shape, self.config.record.shape_of(name), self.coefficients[name].shape[-1], f"the base {base}"
        )


def check_shape(name: str, shape: Shape, made_for: Shape | None, n_frequency: int, where: str) -> None:
    """Raise ShapeError if a layer has another shape than the one that an adapter was made for, or fewer entries than n.

    Args:
        name: of the layer.
        shape: (out_features, in_features) that it has.
        made_for: the same, as the adapter says; None if it does not.
        n_frequency: coefficients of the adapter there.
        where: the layer is, for the message.
    """
    if made_for is not None and made_for != shape:
        raise ShapeError(
            f"{name} is {shape[0]} x {shape[1]} in {where}, but the adapter was made for {made_for[0]} x "
            f"{made_for[1]}; use the base model that it was made for"
        )
    if n_frequency > shape[0] * shape[1]:
        raise ShapeError(
            f"{name} is {shape[0]} x {shape[1]} in {where}, which has {shape[0] * shape[1]} entries, but the adapter "
            f"has {n_frequency} coefficients there; use the base model that it was made for"
        )


def check_update(coefficients: torch.Tensor, scaling: float, who: str) -> None:
    """Raise ShapeError if a sum of coefficients, scaled or not, is beyond what float32 holds.

    Args:
        coefficients: [..., n], finite.
        scaling: of them.
        who: names them, for the message.
    """
    sums = coefficients.double().abs().sum(-1)
    if sums.numel() and float(sums.max()) * max(abs(scaling), 1.0) > torch.finfo(torch.float32).max:
        raise ShapeError(
            f"{who} with scaling={scaling:g} are too large for float32, because the "
            "training diverged; train again with a lower learning rate"
        )


def find_checkpoint(source: str | Path) -> Path:
    """The folder of an adapter: `source` itself, or where the hub's cache holds the adapter of that id.

    Raises: CheckpointError, if it is neither a folder nor an id that can be fetched.
    """
    path = as_path(source, "the adapter's place")
    if os.path.isdir(path):
        return path
    from fourierft.format.hub import find_in_store, find_near, offline_if_unreachable

    if os.path.exists(path):
        hint = find_in_store(str(source)) or f"give the folder that holds {CONFIG_FILE} and {WEIGHTS_FILE}"
        raise CheckpointError(f"{source} is a file; {hint}")
    if HUB_ID.fullmatch(str(source)):
        from huggingface_hub import hf_hub_download

        try:
            with offline_if_unreachable(str(source)):
                hf_hub_download(str(source), WEIGHTS_FILE)
                return Path(hf_hub_download(str(source), CONFIG_FILE)).parent
        except Exception as error:
            raise CheckpointError(
                f"there is no folder {source}, and no adapter of that id could be fetched from the hub "
                f"({type(error).__name__}); {find_near(str(source)) or 'check the spelling and the network'}"
            ) from error
    hint = find_near(str(source)) or f"give a folder with {CONFIG_FILE}, or a hub id like user/adapter"
    raise CheckpointError(f"there is no folder {source}; {hint}")


def read_checkpoint(source: str | Path) -> AdapterCheckpoint:
    """Read an adapter and check it against its own config.

    Args:
        source: folder, or hub id.

    Returns: AdapterCheckpoint, tensors on the CPU in the dtype they have on disk.

    Raises: CheckpointError, naming the file, field or layer that is missing, damaged or contradictory. ShapeError, if
        an update is beyond what float32 holds.
    """
    path = find_checkpoint(source)
    return check_adapter(path, AdapterConfig.read(path / CONFIG_FILE), read_weights(path))


def check_adapter(path: Path, config: AdapterConfig, tensors: Mapping[str, torch.Tensor]) -> AdapterCheckpoint:
    """The adapter that a config and tensors are together.

    Args:
        path: where they come from.
        config: settings.
        tensors: by their names on disk.

    Raises: as `read_checkpoint`.
    """
    keys = [key for key in tensors if key.endswith(SUFFIX)]
    coefficients = {layer_name(key): tensors[key] for key in keys}
    if not coefficients:
        raise CheckpointError(
            f"{path / WEIGHTS_FILE} has no FourierFT coefficients, so it is an adapter "
            "of another method; give a FourierFT adapter"
        )
    _check_coefficients(path, coefficients, config)
    whole = [key for key in tensors if is_saved_whole(key)]
    saved = {parameter_name(key): tensors[key] for key in whole}
    if len(coefficients) < len(keys) or len(saved) < len(whole):
        raise CheckpointError(f"{path / WEIGHTS_FILE} has a layer with and without {PREFIX}; save the adapter again")
    for name, tensor in saved.items():
        check_finite(path, name, tensor)
    matrices = {name: t for name, t in saved.items() if name.removesuffix(".weight") in coefficients}
    modules = {name: tensor for name, tensor in saved.items() if name not in matrices}
    return AdapterCheckpoint(path, config, coefficients, modules, matrices)


def _check_coefficients(path: Path, coefficients: dict[str, torch.Tensor], config: AdapterConfig) -> None:
    """Check that every layer has the finite [n] its config promises, and room for it, and an update that is finite.

    A stack of weights has [weights, n].

    Raises: CheckpointError, naming the first layer that has not.
    """
    layers = config.record.layers
    if layers is not None and layers != len(coefficients):
        raise CheckpointError(
            f"{path / WEIGHTS_FILE} has {len(coefficients)} layers, but {CONFIG_FILE} says {layers}; the two files "
            "belong to different adapters"
        )
    for name, tensor in coefficients.items():
        n, shape = config.count(name), config.record.shape_of(name)
        is_stack = tensor.dim() > 1 and config.record.has_parameters
        if tensor.shape[-1:] != (n,) or (tensor.dim() > 1 and not is_stack):
            raise CheckpointError(
                f"{path / WEIGHTS_FILE} has coefficients of shape {list(tensor.shape)} for the layer {name}, "
                f"but {CONFIG_FILE} says n_frequency={n}; the two files belong to different adapters"
            )
        if shape is not None and n > shape[0] * shape[1]:
            raise CheckpointError(
                f"{path / CONFIG_FILE} says {n} coefficients for {name} of {shape[0]} x {shape[1]}, which has fewer "
                "entries; save or download the adapter again"
            )
        check_finite(path, name, tensor)
        check_update(tensor, config.scaling, f"{path / WEIGHTS_FILE} has coefficients for {name} that")
