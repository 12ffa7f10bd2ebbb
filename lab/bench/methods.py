"""The methods that are compared, put on any model by the same calls a user makes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import peft
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

import fourierft
from fourierft.spectral import adapted_linear, uniform_basis, uniform_entries
from lab.bench.models import Model
from lab.bench.truth import true_coefficient_gradient, true_delta_weight

SEED = 777
RIVALS = ("lora-8", "lora-64", "road")
METHODS = ("stock", *RIVALS, "ours")
LABELS = {
    "base": "frozen base",
    "stock": "stock PEFT FourierFT",
    "lora-8": "LoRA r=8",
    "lora-32": "LoRA r=32",
    "lora-64": "LoRA r=64",
    "road": "RoAd",
    "ours": "ours",
    "lora-8-qv": "LoRA r=8 on q, v",
    "ours-qv": "ours on q, v, n=1000",
    "torch": "torch's transforms",
    "ours-weight": "ours, weight view",
    "ours-token": "ours, token view",
    "ours-bare": "ours, without the tuner",
    "ours-torch": "ours, torch's transforms",
    "ours-graph": "ours, replayed from a graph",
    "ours-fleet": "FleetModel",
    "alone": "one after another",
    "ours-together": "together",
    "ours-few": "10 in the bank",
    "ours-many": "10,000 in the bank",
}
BASELINES = ("base", "alone", "ours-few", "torch")


def config_of(method: str, targets: Sequence[str], n: int, scaling: float, **settings: Any) -> peft.PeftConfig:
    """The PEFT configuration of a method."""
    common: dict[str, Any] = {"target_modules": list(targets), **settings}
    spectral: dict[str, Any] = {"n_frequency": n, "scaling": scaling, "random_loc_seed": SEED, "init_weights": True}
    if method == "ours":
        return fourierft.FourierFTConfig(**spectral, **common)
    if method == "stock":
        return peft.FourierFTConfig(**spectral, **common)
    if method == "road":
        return peft.RoadConfig(**common)
    rank = int(method.removeprefix("lora-"))
    return peft.LoraConfig(r=rank, lora_alpha=2 * rank, **common)


def adapt(
    model: nn.Module,
    method: str,
    targets: Sequence[str],
    n: int,
    scaling: float,
    adapters: Sequence[str] = ("default",),
    **settings: Any,
) -> Model:
    """Put adapters of a method on a model; "base" trains the head alone, "ours-bare" leaves the tuner out.

    Args:
        model: frozen; its modules are replaced in place.
        method: one of `METHODS`, "base" or "ours-bare".
        targets: as PEFT's target_modules.
        n: coefficients per layer, for the spectral methods.
        scaling: alpha, for the spectral methods.
        adapters: names of the adapters.
        settings: of the PEFT configuration, such as modules_to_save.
    """
    if method in ("base", "ours-bare"):
        for path, layer in targeted(model, targets).items() if method == "ours-bare" else ():
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, BareLayer(layer, n, scaling))
        for name in settings.get("modules_to_save") or ():
            model.get_submodule(name).requires_grad_(True)
        return model
    if method != "road" and any(isinstance(m, Conv1D) for m in targeted(model, targets).values()):
        settings["fan_in_fan_out"] = True
    with tuner_of(method):
        configs = [config_of(method, targets, n, scaling, **settings) for _ in adapters]
        adapted: Any = peft.get_peft_model(model, configs[0], adapter_name=adapters[0])
        for name, config in zip(adapters[1:], configs[1:], strict=True):
            adapted.add_adapter(name, config)
    return adapted


@contextlib.contextmanager
def tuner_of(method: str) -> Iterator[None]:
    """Inside, PEFT makes FourierFT adapters with our tuner for "ours", and with its own for any other method."""
    if method == "ours":
        fourierft.enable()
    try:
        yield
    finally:
        fourierft.disable()


class BareLayer(nn.Module):
    """A linear layer through `adapted_linear`, nothing around it: what the operator costs without the tuner."""

    def __init__(self, layer: Any, n: int, scaling: float) -> None:
        super().__init__()
        self.base_layer, self.scaling = layer, scaling
        out_features, in_features = weight_of(layer).shape
        self.basis = uniform_basis(out_features, in_features, n, SEED)
        self.fourierft_spectrum = nn.ParameterDict({"default": torch.zeros(n, device=layer.weight.device)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layer: Any = self.base_layer
        coefficients = self.fourierft_spectrum["default"]
        return adapted_linear(x, weight_of(layer), layer.bias, coefficients, self.basis, self.scaling)


def targeted(model: nn.Module, targets: Sequence[str]) -> dict[str, Any]:
    """The layers with a weight that a list of names targets, by path: as PEFT, those whose path ends with a name."""
    ends = tuple(f".{target}" for target in targets)
    return {
        path: layer for path, layer in model.named_modules() if f".{path}".endswith(ends) and hasattr(layer, "weight")
    }


def weight_of(layer: Any) -> torch.Tensor:
    """The weight as [out, in], whichever way the layer keeps it."""
    return layer.weight.T if isinstance(layer, Conv1D) else layer.weight


def visible_scaling(model: nn.Module, targets: Sequence[str], n: int) -> float:
    """The alpha that gives standard normal coefficients a dW with an RMS of 0.005 in the largest adapted layer.

    A quarter of a fresh weight's 0.02: an error in dW then shows in every output.
    """
    sizes = [layer.weight.numel() for layer in targeted(model, targets).values()]
    return 0.005 * max(sizes) / math.sqrt(n / 2)


def spectra(model: nn.Module, adapter: str = "default") -> dict[str, nn.Parameter]:
    """Coefficients of one adapter by the path of their layer in the base model."""
    found = {}
    for name, parameter in model.named_parameters():
        path, _, owner = name.removesuffix(".weight").rpartition(".fourierft_")
        if owner in (f"spectrum.{adapter}", f"coefficients.{adapter}"):  # stock PEFT's name, and ours
            found[path.removeprefix("base_model.model.")] = parameter
    return found


def coefficients_of(paths: Sequence[str], n: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Standard normal coefficients for the layers of an adapter, drawn in the order of the paths."""
    generator = torch.Generator().manual_seed(seed)
    return {path: torch.randn(n, generator=generator) for path in paths}


@torch.no_grad()
def fill(model: nn.Module, coefficients: Mapping[str, torch.Tensor], adapter: str = "default") -> None:
    """Give an adapter these coefficients; one of LoRA or RoAd gets noise, as zeros would be no adapter."""
    for path, parameter in spectra(model, adapter).items():
        parameter.copy_(coefficients[path])
    for name, parameter in model.named_parameters():
        if any(part in name for part in ("lora_B", "road_theta")) and adapter in name.split("."):
            parameter.normal_(std=0.05)


@torch.no_grad()
def merge_truth(model: nn.Module, coefficients: Mapping[str, torch.Tensor], scaling: float) -> None:
    """Replace each adapted weight by W + dW, dW from the float64 cosine sum, as a parameter that gets a gradient."""
    for path, c in coefficients.items():
        layer: Any = model.get_submodule(path)
        out_features, in_features = weight_of(layer).shape
        entries = uniform_entries(out_features, in_features, c.numel(), SEED)
        delta = true_delta_weight(c.to(layer.weight.device), entries, out_features, in_features, scaling)
        delta = delta.T if isinstance(layer, Conv1D) else delta
        layer.weight = nn.Parameter((layer.weight.double() + delta).to(layer.weight.dtype))


def true_gradients(model: Model, coefficients: Mapping[str, torch.Tensor], scaling: float) -> dict[str, torch.Tensor]:
    """Gradients to the coefficients, from those that `merge_truth`'s weights received."""
    gradients = {}
    for path, c in coefficients.items():
        layer = model.get_submodule(path)
        grad = layer.weight.grad
        grad = grad.T if isinstance(layer, Conv1D) else grad
        entries = uniform_entries(grad.shape[0], grad.shape[1], c.numel(), SEED)
        gradients[path] = true_coefficient_gradient(grad, entries, scaling)
    return gradients
