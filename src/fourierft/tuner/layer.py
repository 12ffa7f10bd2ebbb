"""The adapted layer: a frozen linear layer and, for each adapter, n coefficients in a basis that layers share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from peft import FourierFTConfig as StockConfig
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from fourierft.errors import ConfigError
from fourierft.rows.names import RowNames
from fourierft.rows.terms import Term, add_updates
from fourierft.spectral import Draw, SpectralBasis, add_product, is_eager, spectral_linear
from fourierft.tuner.coefficients import (
    Coefficients,
    CoefficientsByAdapter,
    Spectrum,
    check_present,
    show_awaited,
    take,
)
from fourierft.tuner.inference import UpdateCache, infer
from fourierft.tuner.merging import Mergeable
from fourierft.tuner.mixing import RowPlan
from fourierft.tuner.product import base_product, checked_output
from fourierft.tuner.quantization import find_backend, linear_shape
from fourierft.tuner.reading import Usage, is_in_call
from fourierft.tuner.scaling import disk_scaling, layer_scaling
from fourierft.tuner.shared_inputs import SharedInputs, adapted, held_update
from fourierft.tuner.strength import SCALINGS
from fourierft.tuner.terms import Terms


class FourierFTLayer(nn.Module, Mergeable):
    """A linear layer y = x W^T + b with the updates of its adapters, y += x dW^T.

    Args:
        base_layer: `torch.nn.Linear` or a subclass, `Conv1D`, a quantised layer with in_features and out_features, or a
            tuner layer of one.
        adapter_name: of the first adapter.
        n_frequency: its number of coefficients.
        config: its settings, ours or stock PEFT's.
        quantization: what PEFT's `get_quantization_kwargs` finds in the model; needed to merge into torchao's weights.

    Attributes, each a dictionary by adapter name:
        fourierft_coefficients: modules whose `weight` is the adapter's coefficients, a parameter [n].
        fourierft_spectrum: the same parameters, as stock PEFT's layers have them.
        fourierft_basis: the frozen entries.
        fourierft_draw: how they were drawn.
        fourierft_scaling, own_scaling, disk_scaling: what the coefficients are multiplied with; see strength.py.

    Others, beside those of merging.py:
        path: where it stands in the model.
        is_read: whether the model reads the weight in its forward pass, and so must get W + dW (reading.py).
        usage: how the model used the layer.
        update_cache: what inference keeps (inference.py); one for all adapters.
        awaiting: adapters made from a checkpoint's config whose coefficients are yet to be loaded; see coefficients.py.
        shared_inputs: what the layers of one module hold while it runs (shared_inputs.py).
        row_names: the adapter of each row while a call with `adapter_names` runs; shared by the layers of a model.

    Raises: ConfigError, if the base layer is not linear; ShapeError, if n_frequency exceeds the entries of its weight.
    """

    adapter_layer_names: tuple[str, ...] = ("fourierft_coefficients",)
    other_param_names = ("fourierft_basis", "fourierft_draw", *SCALINGS, "merge_loss")

    def __init__(
        self,
        base_layer: nn.Module,
        adapter_name: str,
        n_frequency: int,
        config: StockConfig,
        quantization: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._hold(base_layer)
        self.in_features, self.out_features = self._matrix_size()
        self.quantization_backend = self._find_backend(quantization or {})
        self.path, self.is_tied, self.is_read, self.usage = "", False, False, Usage()
        self.kept_weight = None
        self.fourierft_coefficients = CoefficientsByAdapter()
        self.fourierft_basis: dict[str, SpectralBasis] = {}
        self.fourierft_draw: dict[str, Draw] = {}
        self.fourierft_scaling, self.own_scaling, self.disk_scaling = {}, {}, {}
        self.merged_terms, self.merge_loss = {}, {}
        self.awaiting: set[str] = set()
        self.update_cache = UpdateCache()
        self.shared_inputs, self.row_names = SharedInputs(), RowNames()
        self.merged_adapters: list[str] = []
        self._disable_adapters, self._active_adapter = False, adapter_name
        self.register_state_dict_post_hook(_show_awaited)
        self.update_layer(adapter_name, n_frequency, config)

    def update_layer(self, adapter_name: str, n_frequency: int, config: StockConfig) -> None:
        """Add an adapter, or replace the one of that name.

        Raises: ShapeError, if n_frequency exceeds the entries of the weight.
        """
        shape = (self.out_features, self.in_features)
        self.fourierft_draw[adapter_name] = Draw.of(config)
        self.fourierft_basis[adapter_name] = self.fourierft_draw[adapter_name].basis(*shape, n_frequency)
        scaling = layer_scaling(config, *shape, n_frequency)
        self.fourierft_scaling[adapter_name] = self.own_scaling[adapter_name] = scaling
        self.disk_scaling[adapter_name] = disk_scaling(config, scaling)
        # Stock PEFT draws before it decides for zeros; drawing too leaves the generator in the same state.
        start = torch.randn(self._start_shape(n_frequency))
        self.fourierft_coefficients[adapter_name] = Coefficients(start.zero_() if config.init_weights else start)
        if config.inference_mode or getattr(config, "from_disk", False):
            self.awaiting.add(adapter_name)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    @property
    def fourierft_spectrum(self) -> Spectrum:
        """The coefficients by adapter name, as stock PEFT's layers have them."""
        return Spectrum(self.fourierft_coefficients, self.from_disk, self.awaiting)

    @property
    def terms(self) -> Terms:
        """The updates of the layer's adapters, as they are now."""
        parts: Any = self._modules["fourierft_coefficients"]
        return Terms(parts, self.fourierft_basis, self.fourierft_draw, self.fourierft_scaling)

    def train(self, mode: bool = True) -> FourierFTLayer:
        """Set the training mode; coefficients that are trained are no longer those of a checkpoint to be loaded."""
        if mode:
            self.awaiting.clear()
        return super().train(mode)

    def forward(self, x: Tensor, *args: Any, adapter_names: Sequence[str] | None = None, **kwargs: Any) -> Tensor:
        """The base layer's output plus the updates of the active adapters, or of `adapter_names`, one a row of x.

        Args:
            x: [..., in], cast to the dtype of the coefficients for the updates, as PEFT's tuners do.
            adapter_names: of each row of x [batch, ..., in], "__base__" for none; if absent, those of the model's call,
                each for as many rows as `rows.RowNames` finds.

        Returns: [..., out], dtype of the base layer's output.

        Raises: ConfigError, if adapter_names do not fit x, or adapters are merged.
        """
        self.usage.called = True
        if adapter_names is None and self.row_names.are_handed:  # a nested tensor has no shape to ask for
            adapter_names = self.row_names.of(self.path, x.shape[:-1])
            if adapter_names is not None and len(adapter_names) != len(x):
                parts = x.reshape(len(adapter_names), -1, x.shape[-1])
                result = self.forward(parts, *args, adapter_names=adapter_names, **kwargs)
                return result.reshape(*x.shape[:-1], result.shape[-1])
        if adapter_names is not None:
            self._check_rows(x, adapter_names)
        if self._disable_adapters:
            if self.merged_adapters:
                self.unmerge()
            return self.base_layer(x, *args, **kwargs)
        if is_eager(x):
            alone = self._infer_alone(x) if adapter_names is None and not args and not kwargs else None
            return self._infer(x, adapter_names, *args, **kwargs) if alone is None else alone
        self.update_cache.drop()
        if adapter_names is not None:
            return self._mixed_forward(x, adapter_names, *args, **kwargs)
        terms = self.terms.summed(self.added_adapters)
        for term in terms:
            check_present(self.path, term.coefficients, x)
        product = base_product(self._modules["base_layer"], x) if len(terms) == 1 and not args and not kwargs else None
        if product is not None and product[0].dtype == terms[0].coefficients.dtype:
            return adapted(x, product, terms[0], self.shared_inputs)
        result = self._base_output(x, *args, **kwargs)
        dtype = result.dtype
        for term in terms:
            delta = held_update(x, term, self.shared_inputs)
            if delta is None:
                delta = spectral_linear(self._cast_input_dtype(x, term.coefficients.dtype), *term[1:])
            result = result + delta
        return result.to(dtype)

    @property
    def weight(self) -> Tensor:
        """What code outside reads: W, or W + dW, rounded once to the dtype of W, in a forward pass that reads it.

        Raises: ConfigError, if every row of a batch is to have an adapter of its own.
        """
        weight = self.stored_weight
        if not self.is_read:
            self.usage.read = not self.usage.called and (self.usage.read or is_in_call())
            return weight
        if self.disable_adapters or self.quantization_backend is not None:
            return weight
        if self.row_names.are_handed:
            raise ConfigError(
                f"the model reads the weights of {self.path} instead of calling the layer, "
                "so rows cannot have different adapters there; leave out adapter_names, "
                "or the layer with exclude_modules"
            )
        if not self.added_adapters:
            return weight
        updates = [self.base_update(self.terms.of(name), weight) for name in self.added_adapters]
        return sum(updates, weight.to(torch.promote_types(weight.dtype, torch.float32))).to(weight.dtype)

    def _infer_alone(self, x: Tensor) -> Tensor | None:
        """The same numbers without gradients, if one adapter is active, and all is one call each; None otherwise.

        What `infer` makes of the same layer, by fewer functions: when a large model calls its next layer, the weights
        of the last one have driven their code out of the cache, and each costs more than what it does.
        """
        names = self._active_adapter
        name = names if isinstance(names, str) else names[0] if len(names) == 1 else None
        if name is None or name not in self.fourierft_basis or name in self.merged_adapters:
            return None
        product = base_product(self._modules["base_layer"], x)
        if product is None:
            return None
        y = F.linear(x, *product)
        coefficients, basis, scaling = self.coefficients(name), self.fourierft_basis[name], self.fourierft_scaling[name]
        if not add_product(y, x, coefficients, basis, scaling):
            return infer(y, x, [Term(None, coefficients, basis, scaling)], True, self.update_cache, self.path)
        return y

    def _infer(self, x: Tensor, adapter_names: Sequence[str] | None, *args: Any, **kwargs: Any) -> Tensor:
        own = self.terms
        if adapter_names is None:
            terms = own.summed(self.added_adapters)
        else:
            terms = list(self.update_cache.plan(own, adapter_names).terms(own))
        product = None if args or kwargs else base_product(self._modules["base_layer"], x)
        result = self._base_output(x, *args, **kwargs) if product is None else F.linear(x, *product)
        return infer(result, x, terms, product is not None, self.update_cache, self.path)

    def coefficients(self, name: str) -> Tensor:
        """The coefficients [n] of an adapter."""
        parts: Any = self._modules["fourierft_coefficients"]  # a module's own look-up takes longer
        return parts.numbers(name)

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        """Whether `peft.convert_to_lora` takes this layer: it expects the update of a `Conv1D` transposed."""
        return not isinstance(self.get_base_layer(), Conv1D)

    def __repr__(self) -> str:
        return "fourierft." + super().__repr__()

    def _base_output(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        base = self.base_layer
        return checked_output(self.path, base, base(x, *args, **kwargs), x, self.out_features)

    def _hold(self, base_layer: nn.Module) -> None:
        self.base_layer = base_layer

    def _find_backend(self, quantization: Mapping[str, Any]) -> Any:
        return find_backend(self.get_base_layer(), quantization)

    def _start_shape(self, n_frequency: int) -> tuple[int, ...]:
        return (n_frequency,)

    def _matrix_size(self) -> tuple[int, int]:
        base = self.get_base_layer()
        shape = linear_shape(base)
        if shape is None:
            raise ConfigError(
                f"a layer of type {type(base).__name__} cannot be adapted; name linear layers, "
                "convolutions or embeddings in target_modules"
            )
        return shape[1], shape[0]

    def _check_rows(self, x: Tensor, adapter_names: Sequence[str]) -> None:
        if len(x) != len(adapter_names):
            raise ConfigError(
                f"got {len(adapter_names)} adapter_names for {len(x)} inputs; give one name for each input"
            )
        if self.merged:
            raise ConfigError(
                f"cannot pass adapter_names while {self.merged_adapters} are merged; call unmerge_adapter() first"
            )

    def _mixed_forward(self, x: Tensor, adapter_names: Sequence[str], *args: Any, **kwargs: Any) -> Tensor:
        """Row i of x with the update of adapter_names[i]: one call of the row view for each draw."""
        terms = RowPlan(self.terms, adapter_names).terms(self.terms)
        updates = [(term.rows, partial(self._row_update, term)) for term in terms]
        return add_updates(self._base_output(x, *args, **kwargs), x, updates)

    def _row_update(self, term: Term, x: Tensor) -> Tensor:
        cast = self._cast_input_dtype(x, term.coefficients.dtype)
        return spectral_linear(cast, term.spread(x.dim()), term.basis, term.scaling)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any) -> None:
        take(self.fourierft_coefficients, self.awaiting, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _show_awaited(layer: FourierFTLayer, state_dict: dict[str, Tensor], prefix: str, _: Any) -> None:
    show_awaited(layer.awaiting, state_dict, prefix)


class FourierFTLinear(FourierFTLayer):
    """An adapted linear layer. By the name of the class PEFT finds it for a further adapter of all linear layers."""
