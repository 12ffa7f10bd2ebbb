"""An adapter's coefficients in a layer: a small module an adapter, and the name that files have for them.

In a model they are parameters `<layer>.fourierft_coefficients.<adapter>.weight`, as LoRA's are
`<layer>.lora_A.<adapter>.weight`: other libraries copy, group and freeze parameters by such names. The state dict of a
model has the same names and values. A checkpoint has stock PEFT's name, `<layer>.fourierft_spectrum`, and the one
scaling of its config; where a layer's own scaling differs, loading takes the ratio out of the coefficients.

`<layer>.fourierft_spectrum.<adapter>` is what a loader makes of the name in a checkpoint, and what state dicts had
before. A layer loads it too, and has it in its state dict while an adapter read from a checkpoint waits for its
coefficients: transformers' `load_adapter` copies only what it finds there, and does so parameter by parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fourierft.errors import CheckpointError, ConfigError

IN_MODEL, ON_DISK = "fourierft_coefficients", "fourierft_spectrum"


class Coefficients(nn.Module):
    """The coefficients of one adapter of one layer: `weight`, a parameter [n], or [weights, n] of a stack."""

    weight: nn.Parameter

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(values)

    def forward(self) -> Tensor:
        """The coefficients: to call for them is what brings those that accelerate has offloaded."""
        return self.weight

    def extra_repr(self) -> str:
        return f"n_frequency={self.weight.shape[-1]}"


class CoefficientsByAdapter(nn.ModuleDict):
    """The coefficients of all adapters of one layer, by name."""

    def __getitem__(self, name: str) -> Coefficients:
        return self._modules[name]  # type: ignore[return-value]

    def numbers(self, name: str) -> Tensor:
        """The coefficients [n] of an adapter."""
        part: Any = self._modules[name]
        found = part._parameters["weight"] if part._parameters else None  # a module's own look-up takes longer
        return part() if found is None or found.is_meta else found

    def several(self, names: Sequence[str]) -> list[Tensor]:
        """The coefficients [n] of some adapters: what `numbers` gives, in a fourth of the time."""
        parts: Any = self._modules
        found = []
        for name in names:
            row = parts[name]._parameters.get("weight")
            found.append(self.numbers(name) if row is None or row.is_meta else row)
        return found


class Spectrum(nn.Module):
    """A layer's coefficients as stock PEFT's layers have them: parameters by adapter name.

    To set an item sets the parameter itself. To set an attribute is what a loader does that copies a checkpoint
    parameter by parameter: what it brings has the scaling of the checkpoint.

    Args:
        coefficients: of the layer.
        from_disk: makes coefficients of a checkpoint, of an adapter of this name, those of the layer.
        awaiting: adapters whose coefficients are yet to be loaded; those that come are taken out.
    """

    coefficients: CoefficientsByAdapter

    def __init__(
        self, coefficients: CoefficientsByAdapter, from_disk: Callable[[str, Tensor], Tensor], awaiting: set[str]
    ) -> None:
        super().__init__()
        object.__setattr__(self, "coefficients", coefficients)  # not as a part of this module
        self._from_disk, self._awaiting = from_disk, awaiting
        for name in coefficients:
            self._parameters[name] = coefficients[name].weight

    def __getitem__(self, name: str) -> nn.Parameter:
        return self._parameters[name]  # type: ignore[return-value]

    def __setitem__(self, name: str, values: Tensor) -> None:
        parameter = values if isinstance(values, nn.Parameter) else nn.Parameter(values)
        self.coefficients[name].weight = self._parameters[name] = parameter

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dict__.get("_parameters", ()):
            super().__setattr__(name, value)
            return
        part = self.coefficients[name]
        values = self._from_disk(name, value.detach())
        check(f"{ON_DISK}.{name}", values, part.weight)
        part.weight = nn.Parameter(values.to(part.weight.dtype), requires_grad=part.weight.requires_grad)
        part.weight.__dict__.update(value.__dict__)  # transformers marks what it has loaded
        self._awaiting.discard(name)

    def __contains__(self, name: str) -> bool:
        return name in self._parameters

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def items(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, self[name]) for name in self]


def show_awaited(awaiting: Collection[str], state_dict: dict[str, Tensor], prefix: str) -> None:
    """In a layer's state dict, give coefficients that are yet to be loaded the name that loaders look for."""
    for name in awaiting:
        values = state_dict.pop(f"{prefix}{IN_MODEL}.{name}.weight", None)
        if values is not None:
            state_dict[f"{prefix}{ON_DISK}.{name}"] = values


def take(coefficients: CoefficientsByAdapter, awaiting: set[str], state_dict: dict[str, Tensor], prefix: str) -> None:
    """In a state dict that a layer is about to load, give coefficients their name in the model, and check them.

    Args:
        coefficients: of the layer.
        awaiting: its adapters whose coefficients are yet to be loaded; those that come are taken out.
        state_dict: that is loaded.
        prefix: of the layer's names in it.

    Raises: CheckpointError, if they are of another number, or not finite.
    """
    for name in coefficients:
        key, loaded = f"{prefix}{IN_MODEL}.{name}.weight", f"{prefix}{ON_DISK}.{name}"
        if loaded in state_dict:
            state_dict[key] = state_dict.pop(loaded)
        if key in state_dict:
            check(loaded, state_dict[key], coefficients[name].weight)
            awaiting.discard(name)


def check_present(path: str, coefficients: Tensor, x: Tensor) -> None:
    """Raise ConfigError, if the layer at a path is called with numbers while its coefficients have none."""
    if coefficients.is_meta and not x.is_meta:
        raise ConfigError(
            f"the coefficients of {path or 'a layer'} have no numbers, because the model "
            "was offloaded before the adapter was added; add or load the adapter first, "
            "or leave adapted layers on a device"
        )


def former_name(name: str) -> str:
    """What a parameter was called in the state dicts of fourierft 0.1: `<layer>.fourierft_spectrum.<adapter>`."""
    layer, middle, adapter = name.removesuffix(".weight").rpartition(f".{IN_MODEL}.")
    return f"{layer}.{ON_DISK}.{adapter}" if middle else name


def check(key: str, loaded: Tensor, coefficients: Tensor) -> None:
    """Raise CheckpointError, if the coefficients loaded are of another number than a layer's, or not finite."""
    if loaded.shape != coefficients.shape:
        raise CheckpointError(
            f"{key} has shape {list(loaded.shape)} in the checkpoint, but this adapter has {list(coefficients.shape)}; "
            "load it with the n_frequency and the base model it was trained with"
        )
    if type(loaded) in (Tensor, nn.Parameter) and not loaded.is_meta and not torch.isfinite(loaded).all():
        raise CheckpointError(
            f"{key} has {int((~torch.isfinite(loaded)).sum())} values in the checkpoint "
            "that are not finite, because the training diverged; load an earlier checkpoint"
        )
