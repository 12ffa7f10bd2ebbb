"""What an adapter of the fleet is made of: its layers, its heads, and the row of numbers that holds them all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fourierft.errors import ConfigError
from fourierft.fleet.served import LARGEST_HEAD
from fourierft.format.scaling import rescaled
from fourierft.spectral import SpectralBasis
from fourierft.store import Layout
from fourierft.training.arguments import MethodArguments
from fourierft.training.methods import Trainable, attach
from fourierft.training.models import BaseModel
from fourierft.tuner.layer import FourierFTLayer
from fourierft.tuner.parameters import ParameterLayer
from fourierft.tuner.record import note_base
from fourierft.tuner.reshaped import ReshapedLayer


class AdaptedLayer(NamedTuple):
    """An adapted layer.

    Fields:
        place: of its coefficients in a row.
        scaling: that they are trained with.
    """

    place: slice
    basis: SpectralBasis
    scaling: float


@dataclass(frozen=True)
class TrainableRow(Trainable):
    """A frozen base, and how a row [width] of an adapter is divided, coefficients first, then heads.

    Attributes:
        adapted: layer name -> what adapts it.
        heads: parameter name -> (its place in a row, its shape).
        start: [width], float32, where every adapter starts.
        layout: of the coefficients in the store.
    """

    adapted: dict[str, AdaptedLayer]
    heads: dict[str, tuple[slice, torch.Size]]
    start: Tensor
    layout: Layout

    @property
    def coefficients(self) -> int:
        """Numbers of a row that are coefficients."""
        return self.layout.total

    @property
    def decays(self) -> Tensor:
        """Which numbers of a row weight decay shrinks, bool [width]: all but biases."""
        mask = torch.ones(len(self.start), dtype=torch.bool)
        for name, (place, _) in self.heads.items():
            mask[place] = not name.endswith("bias")
        return mask

    def split(self, row: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """A row as the store takes it: layer name -> coefficients on disk, parameter name -> head."""
        on_disk = self.layout.scaling
        coefficients = {
            name: rescaled(row[layer.place], layer.scaling, on_disk) for name, layer in self.adapted.items()
        }
        return coefficients, {name: row[place].view(shape).clone() for name, (place, shape) in self.heads.items()}


def attach_row(base: BaseModel, method: MethodArguments, name: str, revision: str | None) -> TrainableRow:
    """Make a row of numbers what is trained: FourierFT adapters of a base; PEFT chooses the layers, as for one adapter.

    Args:
        base: with the head that all adapters start from.
        method: settings of the adapters.
        name: hub id or folder of the base.
        revision: of the base on the hub.

    Raises: ConfigError, if the method is another, or a head is too large to be one for each adapter. As `attach`.
    """
    if method.method != "fourierft":
        raise ConfigError(f"method={method.method} cannot be trained as a fleet; use fourierft")
    trainable = attach(base, method)
    adapted: Any = trainable.model
    config = adapted.peft_config["default"]
    body = adapted.get_base_model()
    note_base(adapted, config, "default")
    found = {name: layer for name, layer in body.named_modules() if isinstance(layer, FourierFTLayer)}
    fields = {**config.to_dict(), "base_model_name_or_path": name, "revision": revision, "inference_mode": True}
    if any(isinstance(layer, (ReshapedLayer, ParameterLayer)) for layer in found.values()):
        raise ConfigError(
            "a fleet adapts only linear layers, not convolutions, embeddings or parameters; name other target_modules"
        )
    layout = Layout.make(fields, {name: (layer.out_features, layer.in_features) for name, layer in found.items()})
    layers, start, at = {}, [], 0
    for layer_name in sorted(found):
        layer = found[layer_name]
        values, scaling = layer.coefficients("default").detach().float(), layer.fourierft_scaling["default"]
        place = slice(at, at + len(values))
        layers[layer_name] = AdaptedLayer(place, layer.fourierft_basis["default"], scaling)
        start.append(values)
        at = place.stop
    model = adapted.unload().requires_grad_(False)
    heads = {}
    for key, parameter in _head_parameters(model, base.heads):
        place = slice(at, at + parameter.numel())
        heads[key] = (place, parameter.shape)
        start.append(parameter.detach().float().flatten())
        at = place.stop
    row = {"adapted": layers, "heads": heads, "start": torch.cat(start), "layout": layout}
    return TrainableRow(**{**vars(trainable), "model": model, **row})


def _head_parameters(model: nn.Module, heads: tuple[str, ...]) -> list[tuple[str, nn.Parameter]]:
    """Parameters of the heads; ConfigError, if one cannot differ from row to row."""
    found = []
    for head in heads:
        for name, module in model.get_submodule(head).named_modules(prefix=head):
            own = list(module.named_parameters(recurse=False))
            if own and (not isinstance(module, nn.Linear) or module.weight.numel() > LARGEST_HEAD):
                raise ConfigError(
                    f"the head {name} is a {type(module).__name__} of {sum(p.numel() for _, p in own):,} numbers, but "
                    f"adapters of a fleet have linear heads of at most {LARGEST_HEAD:,}; use another model"
                )
            found += [(f"{name}.{key}", parameter) for key, parameter in own]
    return found
