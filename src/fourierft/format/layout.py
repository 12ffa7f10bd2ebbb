"""What adapters of one recipe share, kept once: the config, and the layers with their counts and shapes."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from fourierft.errors import CheckpointError, ShapeError
from fourierft.format.checkpoint import AdapterCheckpoint, check_shape
from fourierft.format.config import AdapterConfig
from fourierft.format.record import made_for, with_record
from fourierft.spectral import SpectralBasis

_SETS = ("target_modules", "exclude_modules")  # PEFT holds them as sets: their order on disk is by chance


class Layer(NamedTuple):
    """One adapted layer.

    Fields:
        name: in the base model.
        n_frequency: number of coefficients.
        shape: (out_features, in_features); None if the base could not be reached when the layout was made.
        dtype: of the coefficients in the PEFT checkpoint.
    """

    name: str
    n_frequency: int
    shape: tuple[int, int] | None = None
    dtype: str = "float32"


@dataclass(frozen=True, eq=False)
class Layout:
    """What a row of coefficients means.

    Attributes:
        config: adapter_config.json as it stands.
        layers: sorted by name; a row has their coefficients one after another.
    """

    config: Mapping[str, Any]
    layers: tuple[Layer, ...]

    @classmethod
    def make(cls, config: Mapping[str, Any], shapes: Mapping[str, tuple[int, int]]) -> Layout:
        """The layout of adapters that are made rather than read.

        Args:
            config: content of an adapter_config.json, or `to_dict()` of a PEFT config.
            shapes: layer name -> (out_features, in_features).

        Raises: CheckpointError, if the config makes no sense. ShapeError, if a layer has fewer entries than its n.
        """
        content = with_record(_plain(config), "the config", **made_for(shapes))
        settings = AdapterConfig.of(content, "the config")
        return cls(content, tuple(Layer(name, settings.count(name)) for name in sorted(shapes))).with_shapes(shapes)

    @classmethod
    def of(cls, checkpoint: AdapterCheckpoint) -> Layout:
        """The layout of a checkpoint, with the shapes that it says it was made for, if it does.

        Raises: CheckpointError, if it adapts parameters, which cannot differ from row to row.
        """
        if checkpoint.config.record.has_parameters:
            raise CheckpointError(
                f"{checkpoint.path} adapts parameters, such as the weights of fused experts, "
                "which stores and fleets do not support; load it with PEFT, or merge it"
            )
        shapes = checkpoint.shapes or {}
        found = sorted(checkpoint.coefficients.items())
        layers = tuple(Layer(name, c.numel(), shapes.get(name), _name_of(c.dtype)) for name, c in found)
        return cls(_plain(checkpoint.config.content), layers)

    def with_shapes(self, shapes: Mapping[str, tuple[int, int]]) -> Layout:
        """The same layout, with the shapes that its layers have in a base, as far as they are known.

        Raises: ShapeError, if a layer is known to have another shape, or has fewer entries than coefficients.
        """
        for layer in self.layers:
            if layer.name in shapes:
                check_shape(layer.name, shapes[layer.name], layer.shape, layer.n_frequency, "the base")
        layers = (layer._replace(shape=shapes.get(layer.name, layer.shape)) for layer in self.layers)
        return Layout(self.config, tuple(layers))

    @functools.cached_property
    def settings(self) -> AdapterConfig:
        """What the config says, checked."""
        return AdapterConfig.of(self.config, "the config")

    @functools.cached_property
    def sizes(self) -> tuple[int, ...]:
        """Coefficients of each layer."""
        return tuple(layer.n_frequency for layer in self.layers)

    @property
    def total(self) -> int:
        """Coefficients of an adapter."""
        return sum(self.sizes)

    @property
    def scaling(self) -> float:
        """Of all layers; dimensionless."""
        return self.settings.scaling

    @property
    def base_model(self) -> str | None:
        """Hub id or folder that the config names."""
        return self.settings.base_model

    @property
    def seed(self) -> int:
        """Of the entries."""
        return self.settings.draw.seed

    @property
    def band(self) -> tuple[float, float] | None:
        """(center, width) if the entries are band-pass, None if they are uniform."""
        return self.settings.draw.band

    @functools.cached_property
    def bases(self) -> dict[str, SpectralBasis] | None:
        """Layer name -> its entries; None if the shapes are not known."""
        shapes = {layer.name: layer.shape for layer in self.layers if layer.shape}
        if len(shapes) < len(self.layers):
            return None
        sizes = {layer.name: (*shapes[layer.name], layer.n_frequency) for layer in self.layers}
        return {name: self.settings.draw.basis(*size) for name, size in sizes.items()}

    @property
    def draw_key(self) -> str:
        """Kind and seed of the entries: layers of one shape and draw have one basis, a smaller n its first entries."""
        return "{}:{}".format("uniform" if self.band is None else "bandpass({:g},{:g})".format(*self.band), self.seed)

    def split(self, values: torch.Tensor) -> dict[str, torch.Tensor]:
        """Views of the layers in rows: layer name -> [..., n], from [..., total]."""
        parts = values.split(self.sizes, dim=-1)
        return {layer.name: part for layer, part in zip(self.layers, parts, strict=True)}

    def join(self, coefficients: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """A row from its layers: float32 [total].

        Raises: ShapeError, if a layer is missing, unknown or has another count.
        """
        strange = sorted(set(coefficients) ^ {layer.name for layer in self.layers})
        if strange:
            raise ShapeError(
                f"the coefficients and the layout differ in {len(strange)} layers, such as {strange[0]}; "
                "give each layer of the layout its [n]"
            )
        for layer in self.layers:
            if tuple(coefficients[layer.name].shape) != (layer.n_frequency,):
                raise ShapeError(
                    f"{layer.name} got coefficients of shape {list(coefficients[layer.name].shape)}; "
                    f"use [{layer.n_frequency}]"
                )
            if coefficients[layer.name].is_complex():
                raise ShapeError(f"{layer.name} got complex coefficients; give real ones, as PEFT trains them")
        return torch.cat([coefficients[layer.name].detach().float().cpu() for layer in self.layers])

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of config and layers, shapes apart: adapters with the same digest share a layout."""
        return hashlib.sha256(f"{self.config_text}\n{self.layers_text}".encode()).hexdigest()

    @functools.cached_property
    def config_text(self) -> str:
        """The config as JSON, keys sorted."""
        return json.dumps(self.config, sort_keys=True)

    @functools.cached_property
    def layers_text(self) -> str:
        """The layers as JSON: [name, n, dtype] each."""
        return json.dumps([[layer.name, layer.n_frequency, layer.dtype] for layer in self.layers])

    @property
    def shapes_text(self) -> str | None:
        """The shapes as JSON, [out, in] each in the order of the layers; None if they are not known."""
        shapes = [layer.shape for layer in self.layers]
        return None if None in shapes else json.dumps(shapes)

    @functools.cached_property
    def texts(self) -> tuple[str, str, str | None]:
        """All that it says: config, layers and shapes as JSON."""
        return self.config_text, self.layers_text, self.shapes_text


def read_layout(config: str, layers: str, shapes: str | None) -> Layout:
    """A layout from its three texts."""
    named = json.loads(layers)
    known = json.loads(shapes) if shapes else [None] * len(named)
    return Layout(
        json.loads(config),
        tuple(
            Layer(name, n, tuple(shape) if shape else None, dtype)
            for (name, n, dtype), shape in zip(named, known, strict=True)
        ),
    )


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config that is the same in every process: sets as sorted lists."""
    plain = dict(config)
    for key in _SETS:
        if isinstance(plain.get(key), (list, set, tuple)):
            plain[key] = sorted(plain[key])
    return json.loads(json.dumps(plain))


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
