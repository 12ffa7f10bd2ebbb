"""Adapted parameters that no linear layer holds: the stacked weights of fused experts, and plain matrices.

A module whose parameters are adapted is called with W + dW in their place, whichever way it multiplies by them, and
what reads such a parameter from outside gets W + dW too. Each weight of a stack has coefficients of its own, in a basis
that all of them share. PEFT's LoRA has these as `target_parameters`; stock PEFT's FourierFT has not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from peft import FourierFTConfig as StockConfig
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from fourierft.errors import ConfigError
from fourierft.format.weights import PLACE, base_path
from fourierft.rows.terms import Term
from fourierft.spectral import adapted_stack
from fourierft.tuner.calling import call_with
from fourierft.tuner.layer import FourierFTLayer


class ParameterLayer(FourierFTLayer):
    """The adapters of one parameter [..., out, in] of a module; see `FourierFTLayer`.

    Args:
        holder: the module that has the parameter.
        parameter_name: its name there.
        adapter_name, n_frequency, config: as for `FourierFTLayer`; n_frequency is that of each [out, in].

    A module that says `is_transposed` stores [..., in, out].

    Raises: ConfigError, if the parameter is no stack of matrices of floats.
    """

    def __init__(
        self, holder: nn.Module, parameter_name: str, adapter_name: str, n_frequency: int, config: StockConfig
    ) -> None:
        self.parameter_name = parameter_name
        super().__init__(holder, adapter_name, n_frequency, config)

    @property
    def parameter(self) -> nn.Parameter:
        """The parameter without updates."""
        return getattr(self._holder[0], self.parameter_name)

    @property
    def stored_weight(self) -> Tensor:
        """The same, as layers of any kind have it."""
        return self.parameter

    def get_base_layer(self) -> nn.Module:
        """The module that has the parameter."""
        return self._holder[0]

    def adapted(self, holder: nn.Module) -> Tensor:
        """W + dW of the active adapters, in the shape and dtype of W.

        Args:
            holder: the module that has W: the layer's own, or in a replica of the model a replica of it.

        Raises: ConfigError, if every row of a batch is to have an adapter of its own.
        """
        self.usage.called = True
        if self.row_names.are_handed:
            raise ConfigError(
                f"all rows share the parameter {self.path}, so they cannot have different "
                "adapters there; leave out adapter_names, or adapt only linear layers"
            )
        if self.disable_adapters and self.merged:
            self.unmerge()
        weight: Tensor = getattr(holder, self.parameter_name)
        for name in () if self.disable_adapters else self.added_adapters:
            weight = self._summed(weight, self.terms.of(name))
        return weight

    def get_delta_weight(self, adapter: str) -> Tensor:
        """The update of an adapter, in the shape of the parameter and the dtype of its coefficients."""
        zeros = torch.zeros_like(self.parameter, dtype=self.fourierft_coefficients[adapter].weight.dtype)
        return self._summed(zeros, self.terms.of(adapter))

    @torch.no_grad()
    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add the updates of the active adapters to the parameter; see `FourierFTLayer.merge`."""
        for name in check_adapters_to_merge(self, adapter_names):
            if name not in self.fourierft_coefficients:
                continue
            term = self.terms.of(name)
            before, merged = self.parameter.data, self._summed(self.parameter.data, term)
            if safe_merge and not torch.isfinite(merged).all():
                raise ValueError(
                    f"NaNs detected in the merged weights of adapter {name!r}, so the weights "
                    "were not changed; check the adapter's coefficients"
                )
            if before.dtype not in (torch.float32, torch.float64):
                self.merge_loss[name] = self._loss(before, merged, name)
            self.parameter.data = merged
            self.merged_terms[name] = term._replace(coefficients=term.coefficients.clone())
            self.merged_adapters.append(name)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Take the merged updates out of the parameter; see `FourierFTLayer.unmerge`."""
        while self.merged_adapters:
            name = self.merged_adapters.pop()
            self.merge_loss.pop(name, None)
            term = self.merged_terms.pop(name)
            self.parameter.data = self._summed(self.parameter.data, term._replace(scaling=-term.scaling))

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        """No: `peft.convert_to_lora` expects the matrix of a linear layer."""
        return False

    def extra_repr(self) -> str:
        return f"{self.parameter_name}, {list(self.parameter.shape)}"

    def _summed(self, weight: Tensor, term: Term) -> Tensor:
        """A tensor of the parameter's shape plus an update, rounded once."""
        stack = weight.mT if self._is_transposed else weight
        coefficients = term.coefficients.to(weight.device).reshape(-1, term.basis.n_frequency)
        flat = stack.reshape(-1, *stack.shape[-2:])
        summed = adapted_stack(flat, coefficients, term.basis, term.scaling).view(stack.shape)
        return summed.mT if self._is_transposed else summed

    def _loss(self, before: Tensor, merged: Tensor, name: str) -> float:
        """What rounding the sum lost of an update, as a share of its norm."""
        lost = whole = 0.0
        stacks = [weight.mT if self._is_transposed else weight for weight in (before, merged)]
        rows = self.fourierft_coefficients[name].weight.reshape(-1, 1, self.fourierft_basis[name].n_frequency)
        basis, scaling = self.fourierft_basis[name], self.fourierft_scaling[name]
        for old, new, own in zip(*(stack.flatten(0, -3).float() if stack.dim() > 2 else stack.float()[None]
                                   for stack in stacks), rows, strict=True):  # fmt: skip
            exact = adapted_stack(old[None], own.float(), basis, scaling)[0]
            lost += float((new - exact).square().sum())
            whole += float((exact - old).square().sum())
        return (lost / whole) ** 0.5 if whole else 0.0

    def _hold(self, base_layer: nn.Module) -> None:
        self._holder = (base_layer,)  # not as a part of this module, which its place in the model already has

    def _start_shape(self, n_frequency: int) -> tuple[int, ...]:
        return (*self.parameter.shape[:-2], n_frequency)

    def _matrix_size(self) -> tuple[int, int]:
        self._is_transposed = is_transposed(self._holder[0], self.parameter_name)
        out_features, in_features = matrix_shape(self._holder[0], self.parameter_name)
        return in_features, out_features

    def _find_backend(self, quantization: Mapping[str, Any]) -> None:
        return None

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: torch.device | None = None) -> None:
        coefficients = self.fourierft_coefficients[adapter_name]
        if not coefficients.weight.is_meta:
            coefficients.to(device or self.parameter.device, self.parameter.dtype)


class ParameterHost(nn.Module):
    """A module with adapted parameters, in the place of the module itself."""

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.add_module(PLACE, nn.ModuleDict())

    @property
    def layers(self) -> dict[str, ParameterLayer]:
        """Parameter name -> its adapters."""
        return dict(self.get_submodule(PLACE).named_children())  # type: ignore[arg-type]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module gives with the updates of the active adapters.

        Raises: ConfigError, if a parameter is on the meta device, and the input is not.
        """
        has_numbers = any(isinstance(value, Tensor) and not value.is_meta for value in (*args, *kwargs.values()))
        offloaded = [layer.path for layer in self.layers.values() if has_numbers and layer.parameter.is_meta]
        if offloaded:
            raise ConfigError(f"{offloaded[0]} was offloaded, so nothing can be added to it; leave it on a device")
        adapted = {name: layer.adapted(self.base_layer) for name, layer in self.layers.items()}
        return call_with(self.base_layer, adapted, args, kwargs)

    def get_base_layer(self) -> nn.Module:
        return self.base_layer

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add the updates of the active adapters to the parameters."""
        for layer in self.layers.values():
            layer.merge(safe_merge, adapter_names)

    def __getattr__(self, name: str) -> Any:
        """Attributes of the module, its adapted parameters with their updates."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            parts = self.__dict__.get("_modules", {})
            if "base_layer" not in parts:
                raise
            layer = parts[PLACE]._modules.get(name) if PLACE in parts else None
            return getattr(parts["base_layer"], name) if layer is None else layer.adapted(parts["base_layer"])


def is_transposed(holder: nn.Module, name: str) -> bool:
    """Whether a module stores a stack of matrices as [.., in, out], as it says of itself."""
    return getattr(holder, name).dim() > 2 and bool(getattr(holder, "is_transposed", False))


def matrix_shape(holder: nn.Module, name: str) -> tuple[int, int]:
    """(out_features, in_features) of each matrix of a parameter.

    Raises: ConfigError, if it is no matrix of floats, nor a stack of them.
    """
    parameter = getattr(holder, name)
    if parameter.dim() < 2 or not parameter.is_floating_point() or parameter.itemsize == 1:
        raise ConfigError(
            f"{name} of a {type(holder).__name__} is {parameter.dtype} {list(parameter.shape)}, "
            "but only matrices of floats of 16 bits or more can be adapted; name other target_parameters, "
            "and do not quantise the model"
        )
    rows, columns = parameter.shape[-2:]
    return (columns, rows) if is_transposed(holder, name) else (rows, columns)


def find_parameters(model: nn.Module, targets: list[str]) -> Iterator[tuple[str, str]]:
    """(path of the module, name there) of each parameter that is targeted.

    Raises: ConfigError, if it is the weight of a layer that target_modules adapt, or of the whole model.
    """
    hosted = {id(module.base_layer) for module in model.modules() if isinstance(module, ParameterHost)}
    for path, module in list(model.named_modules()):
        if id(module) in hosted or isinstance(module, FourierFTLayer):
            continue
        holder = module.base_layer if isinstance(module, ParameterHost) else module
        for name, _ in holder.named_parameters(recurse=False):
            full = f"{path}.{name}"
            if full in targets or any(full.endswith(f".{target}") for target in targets):
                if isinstance(holder, (nn.Linear, nn.Embedding, Conv1D, BaseTunerLayer)) or ".base_layer" in path:
                    raise ConfigError(
                        f"{full} is the parameter of a {type(holder).__name__}, which is adapted as a layer; name it "
                        "in target_modules instead of target_parameters"
                    )
                if not path:
                    raise ConfigError(
                        f"{name} is a parameter of the model itself, and only those of its modules can be adapted; "
                        "leave it out of target_parameters, or put the model into a module, such as Sequential(model)"
                    )
                yield path, name


def add_parameter(
    model: nn.Module, path: str, name: str, adapter_name: str, n_frequency: int, config: StockConfig
) -> ParameterLayer:
    """Give a parameter an adapter, and its module, if it has none yet, a host.

    Args:
        model: that has them.
        path: of the module.
        name: of its parameter.
        adapter_name, n_frequency, config: of the adapter.

    Raises: as `ParameterLayer`.
    """
    module = model.get_submodule(path)
    host = module if isinstance(module, ParameterHost) else ParameterHost(module)
    layer = host.layers.get(name)
    if layer is None:
        layer = ParameterLayer(host.base_layer, name, adapter_name, n_frequency, config)
        host.get_submodule(PLACE).add_module(name, layer)
    else:
        layer.update_layer(adapter_name, n_frequency, config)
    setattr(model.get_submodule(path.rpartition(".")[0]), path.rpartition(".")[2], host)
    return layer


def remove_hosts(model: nn.Module, merge: bool, safe_merge: bool, adapter_names: list[str] | None) -> None:
    """Put modules back in the place of their hosts.

    Args:
        model: that has them.
        merge: add the updates of the active adapters, or of those named, to the parameters first.
        safe_merge, adapter_names: as for `ParameterLayer.merge`.
    """
    merged = set()
    for path, host in list(model.named_modules(remove_duplicate=False)):
        if isinstance(host, ParameterHost):
            if merge and host not in merged:
                host.merge(safe_merge, adapter_names)
                merged.add(host)
            place = base_path(path)
            setattr(model.get_submodule(place.rpartition(".")[0]), place.rpartition(".")[2], host.base_layer)
