"""The adapted layer: a frozen linear layer and, for each adapter, n coefficients in a basis that layers share."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from peft import FourierFTConfig as StockConfig
from peft.tuners.tuners_utils import check_adapters_to_merge
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from fourierft.errors import ConfigError
from fourierft.format.draw import Draw
from fourierft.spectral import SpectralBasis, delta_weight, is_eager, spectral_linear
from fourierft.tuner.coefficients import (
    Coefficients,
    CoefficientsByAdapter,
    Spectrum,
    check_present,
    show_awaited,
    take,
)
from fourierft.tuner.merging import merge_update, unmerge_update
from fourierft.tuner.mixing import RowPlan, Term, summed_terms
from fourierft.tuner.product import base_product
from fourierft.tuner.quantization import KeptWeight, find_backend
from fourierft.tuner.reading import Usage, read_weight
from fourierft.tuner.resting import RestingUpdates, add_updates, rest_alone
from fourierft.tuner.rows import RowNames
from fourierft.tuner.scaling import disk_scaling, layer_scaling
from fourierft.tuner.sharing import SharedInputs, adapted, update
from fourierft.tuner.strength import SCALINGS, Strength


class FourierFTLayer(nn.Module, Strength):
    """A linear layer y = x W^T + b with the updates of its adapters, y += x dW^T.

    Args:
        base_layer: `torch.nn.Linear` or a subclass (quantised ones too), `Conv1D`, or a tuner layer of one.
        adapter_name: of the first adapter.
        n_frequency: its number of coefficients.
        config: its settings, ours or stock PEFT's.
        quantization: what PEFT's `get_quantization_kwargs` finds in the model; needed to merge into torchao's weights.

    Attributes, each a dictionary by adapter name:
        fourierft_coefficients: modules whose `weight` is the adapter's coefficients, a parameter [n].
        fourierft_spectrum: the same parameters, as stock PEFT's layers have them.
        fourierft_basis: the frozen entries.
        fourierft_draw: how they were drawn.
        fourierft_scaling, own_scaling: what the coefficients are multiplied with; see strength.py.
        merged_terms: the updates that were merged, with the coefficients and the scaling that they had then.
        disk_scaling: the scaling of the adapter's checkpoints.
        merge_loss: the error of merging into a half precision or quantised weight, as a share of the update's norm.
        path: where it stands in the model.
        is_tied: whether other modules of the model have the same weight, as an embedding has that of a tied head.
        is_read: whether the model reads the weight in its forward pass, and so must get W + dW (reading.py).
        usage: how the model used the layer.
        kept_weight: the quantised or tied weight that a merged layer had; None for any other.
        resting: what inference keeps (resting.py); one for all adapters.
        awaiting: adapters made from a checkpoint's config whose coefficients are yet to be loaded; see coefficients.py.
        shared_inputs: what the layers of one module hold while it runs (sharing.py).
        row_names: the adapter of each row while a call with `adapter_names` runs; shared by the layers of a model.

    Raises: ConfigError, if the base layer is not linear; ShapeError, if n_frequency exceeds the entries of its weight.
    """

    adapter_layer_names: tuple[str, ...] = ("fourierft_coefficients",)
    other_param_names = ("fourierft_basis", "fourierft_draw", *SCALINGS, "disk_scaling", "merge_loss")

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
        self.kept_weight: KeptWeight | None = None
        self.fourierft_coefficients = CoefficientsByAdapter()
        self.fourierft_basis: dict[str, SpectralBasis] = {}
        self.fourierft_draw: dict[str, Draw] = {}
        self.fourierft_scaling, self.own_scaling = {}, {}
        self.merged_terms: dict[str, Term] = {}
        self.disk_scaling: dict[str, float] = {}
        self.awaiting: set[str] = set()
        self.merge_loss: dict[str, float] = {}
        self.resting = RestingUpdates()
        self.shared_inputs, self.row_names = SharedInputs(), RowNames()
        self.merged_adapters: list[str] = []
        self._disable_adapters = False
        self._active_adapter = adapter_name
        self.register_state_dict_post_hook(show_awaited)
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
        return Spectrum(self)

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
            alone = rest_alone(self, x) if adapter_names is None and not args and not kwargs else None
            return self._resting_forward(x, adapter_names, *args, **kwargs) if alone is None else alone
        self.resting.drop()
        if adapter_names is not None:
            return self._mixed_forward(x, adapter_names, *args, **kwargs)
        terms = self._active_terms()
        for term in terms:
            check_present(self, term.coefficients, x)
        product = base_product(self._modules["base_layer"], x) if len(terms) == 1 and not args and not kwargs else None
        if product is not None and product[0].dtype == terms[0].coefficients.dtype:
            return adapted(self, x, product, terms[0])
        result = self.base_layer(x, *args, **kwargs)
        dtype = result.dtype
        for term in terms:
            result = result + update(self, x, term)
        return result.to(dtype)

    @property
    def weight(self) -> Tensor:
        """What code outside of the layer reads: the base layer's weight, or W + dW in a forward pass that reads it."""
        return read_weight(self)

    @property
    def stored_weight(self) -> Tensor:
        """The base layer's weight, as PEFT finds it in layers of any kind."""
        return super().weight

    def _resting_forward(self, x: Tensor, adapter_names: Sequence[str] | None, *args: Any, **kwargs: Any) -> Tensor:
        """The same numbers without gradients."""
        if adapter_names is None:
            terms = self._active_terms()
        else:
            terms = list(self.resting.plan(self, adapter_names).terms(self))
        product = None if args or kwargs else base_product(self._modules["base_layer"], x)
        result = self.base_layer(x, *args, **kwargs) if product is None else F.linear(x, *product)
        return add_updates(self, result, x, terms, product is not None)

    def _active_terms(self) -> list[Term]:
        names = self.added_adapters
        return summed_terms(self, names) if names else []

    def coefficients(self, name: str) -> Tensor:
        """The coefficients [n] of an adapter."""
        part: Any = self._modules["fourierft_coefficients"]._modules[name]  # type: ignore[union-attr]
        found = part._parameters["weight"] if part._parameters else None  # a module's own look-up takes longer
        return part() if found is None or found.is_meta else found

    def get_delta_weight(self, adapter: str) -> Tensor:
        """The update dW of an adapter, [out, in] (for a `Conv1D` too, as in stock PEFT), dtype of its coefficients."""
        return delta_weight(self.coefficients(adapter), self.fourierft_basis[adapter], self.fourierft_scaling[adapter])

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add the updates of the active adapters to the base weight; what a layer keeps for it, see merging.py.

        Args:
            safe_merge: leave the weight as it is if the sum is not finite.
            adapter_names: what to merge in place of the active adapters.

        Raises:
            ValueError, if safe_merge finds the sum not finite.
            ConfigError, if the weight is not a matrix of floats, nor one that can be dequantised.
        """
        for name in check_adapters_to_merge(self, adapter_names):
            if name in self.fourierft_coefficients:
                merge_update(self, name, safe_merge)
                self.merged_adapters.append(name)

    def unmerge(self) -> None:
        """Take the updates out of the base weight as they were merged, the last one first.

        A quantised or tied weight comes back bit for bit, and tied, unless a tied one was written to while it was
        merged: then the updates are taken out of what was written. Another one of floats comes back to within the
        rounding of two sums: each element is off by at most one unit in the last place of the largest value it went
        through. Reload the base model where every bit matters.
        """
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
        while self.merged_adapters:
            name = self.merged_adapters.pop()
            self.merge_loss.pop(name, None)
            unmerge_update(self, name)

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        """Whether `peft.convert_to_lora` takes this layer: it expects the update of a `Conv1D` transposed."""
        return not isinstance(self.get_base_layer(), Conv1D)

    def __repr__(self) -> str:
        return "fourierft." + super().__repr__()

    def in_layout(self, update: Tensor) -> Tensor:
        """An update [out, in] as the base layer stores its weight."""
        return update.T if isinstance(self.get_base_layer(), Conv1D) else update

    def _hold(self, base_layer: nn.Module) -> None:
        self.base_layer = base_layer

    def _find_backend(self, quantization: Mapping[str, Any]) -> Any:
        return find_backend(self.get_base_layer(), quantization)

    def _start_shape(self, n_frequency: int) -> tuple[int, ...]:
        return (n_frequency,)

    def _matrix_size(self) -> tuple[int, int]:
        base: Any = self.get_base_layer()
        if isinstance(base, nn.Linear):
            return base.in_features, base.out_features
        if isinstance(base, Conv1D):
            return base.nx, base.nf
        raise ConfigError(
            f"a layer of type {type(base).__name__} cannot be adapted, only linear layers, convolutions and embeddings "
            "can; name other target_modules"
        )

    def _check_rows(self, x: Tensor, adapter_names: Sequence[str]) -> None:
        if len(x) != len(adapter_names):
            raise ConfigError(f"got {len(adapter_names)} adapter_names for {len(x)} inputs; give one name an input")
        if self.merged:
            raise ConfigError(
                f"cannot pass adapter_names while {self.merged_adapters} are merged; call unmerge_adapter() first"
            )

    def _mixed_forward(self, x: Tensor, adapter_names: Sequence[str], *args: Any, **kwargs: Any) -> Tensor:
        """Row i of x with the update of adapter_names[i]: one call of the row view for each draw."""
        result = self.base_layer(x, *args, **kwargs)
        dtype = result.dtype
        for rows, coefficients, basis, scaling in RowPlan(self, adapter_names).terms(self):
            part = self._cast_input_dtype(x if rows is None else x[rows], coefficients.dtype)
            if coefficients.dim() == 2:
                coefficients = coefficients.view(len(coefficients), *[1] * (x.dim() - 2), basis.n_frequency)
            delta = spectral_linear(part, coefficients, basis, scaling)
            wide = torch.promote_types(result.dtype, delta.dtype)
            result = result.to(wide) + delta if rows is None else result.to(wide).index_add(0, rows, delta.to(wide))
        return result.to(dtype)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any) -> None:
        take(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class FourierFTLinear(FourierFTLayer):
    """An adapted linear layer. By the name of the class PEFT finds it for a further adapter of all linear layers."""
