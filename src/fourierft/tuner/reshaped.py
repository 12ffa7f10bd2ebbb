"""Adapted convolutions and embeddings: layers whose weight, read as a matrix, has an update like a linear layer's.

The weight of a convolution [out, in, ...] is read as [out, in * ...], that of an embedding [tokens, width] as it is.
Stock PEFT has no such layers and stops at an adapter that names one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fourierft.errors import ConfigError
from fourierft.tuner.layer import FourierFTLayer
from fourierft.tuner.resting import adapted_weight, rests

RESHAPED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding)


class ReshapedLayer(FourierFTLayer):
    """A convolution or embedding, or a subclass of one, with the updates of its adapters; see `FourierFTLayer`."""

    def forward(self, x: Tensor, *args: Any, adapter_names: Sequence[str] | None = None, **kwargs: Any) -> Tensor:
        """What the base layer makes of x with the weight W + dW, dW the sum of the active adapters' updates.

        Returns: dtype of the base layer's output.

        Raises: ConfigError, if every row of x is to have an adapter of its own.
        """
        base: Any = self.base_layer
        if adapter_names is not None or self.row_names.of(len(x)) is not None:
            raise ConfigError(
                f"a {type(self.get_base_layer()).__name__} cannot have a different adapter in every row; "
                "leave adapter_names out, or adapt linear layers alone"
            )
        if self.disable_adapters and self.merged:
            self.unmerge()
        names = [name for name in self.active_adapters if name in self.fourierft_spectrum]
        if self.disable_adapters or self.merged or not names:
            return base(x, *args, **kwargs)
        if isinstance(base, RESHAPED) and self._keeps_updates(base.weight, x):
            weight = adapted_weight(self, base.weight, names) if rests(x) else None
            if weight is None:
                self.resting.drop()
                weight = base.weight + sum(self.get_delta_weight(name).to(base.weight.dtype) for name in names)
            return functional_call(base, {"weight": weight}, (x, *args), kwargs)
        result = base(x, *args, **kwargs)
        inner: Any = self.get_base_layer()
        weight = inner.weight
        update = sum(self.get_delta_weight(name) for name in names).to(weight.dtype)  # type: ignore[union-attr]
        parts = {"weight": update}
        if getattr(inner, "bias", None) is not None:
            parts["bias"] = torch.zeros_like(inner.bias)
        return (result + functional_call(inner, parts, (x, *args), kwargs)).to(result.dtype)

    def get_delta_weight(self, adapter: str) -> Tensor:
        """The update of an adapter, in the shape of the weight and the dtype of its coefficients."""
        base: Any = self.get_base_layer()
        return super().get_delta_weight(adapter).view(base.weight.shape)

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        """No: `peft.convert_to_lora` expects the matrix of a linear layer."""
        return False

    def _matrix_size(self, base_layer: Any) -> tuple[int, int]:
        rows = base_layer.weight.shape[0]
        return base_layer.weight.numel() // rows, rows

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """The shape of the base weight."""
        base: Any = self.get_base_layer()
        return tuple(base.weight.shape)

    @staticmethod
    def _keeps_updates(weight: Tensor, x: Tensor) -> bool:
        """Whether the sum W + dW is taken and used in a precision that keeps dW."""
        return weight.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled(x.device.type)
