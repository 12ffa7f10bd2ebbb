"""Adapted convolutions and embeddings: layers whose weight, read as a matrix, has an update like a linear layer's.

The weight of a convolution [out, in, ...] is read as [out, in * ...], that of an embedding [tokens, width] as it is.
Stock PEFT has no such layers and stops at an adapter that names one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from fourierft.errors import ConfigError
from fourierft.spectral import is_eager
from fourierft.tuner.calling import call_with, forward_with
from fourierft.tuner.coefficients import check_present
from fourierft.tuner.inference import kept_update
from fourierft.tuner.layer import FourierFTLayer
from fourierft.tuner.product import does_more

_WIDE = (torch.float32, torch.float64)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class ReshapedLayer(FourierFTLayer):
    """A convolution or embedding with the updates of its adapters; see `FourierFTLayer`.

    Subclasses of embeddings are taken if their output is linear in their weight, as that of scaled ones is. The row of
    an embedding's `padding_idx` stays as it is, as in any training by torch.

    Raises: ConfigError, if the base layer is not linear in a weight of floats that it holds as such.
    """

    def forward(self, x: Tensor, *args: Any, adapter_names: Sequence[str] | None = None, **kwargs: Any) -> Tensor:
        """What the base layer makes of x with the weight W + dW, dW the sum of the active adapters' updates.

        Returns: dtype of the base layer's output.

        Raises: ConfigError, if every row of x is to have an adapter of its own.
        """
        self.usage.called = True
        base: Any = self.base_layer
        if adapter_names is not None or self.row_names.are_handed:
            raise ConfigError(
                f"a layer of type {type(base).__name__} cannot have a different adapter "
                "in every row; leave out adapter_names, or adapt only linear layers"
            )
        if self.disable_adapters and self.merged:
            self.unmerge()
        names = self.added_adapters
        if self.disable_adapters or not names:
            return base(x, *args, **kwargs)
        for name in names:
            check_present(self.path, self.coefficients(name), x)
        if is_eager(x):
            update = kept_update(self.terms.summed(names), self.in_layout, self.update_cache)
        else:
            self.update_cache.drop()
            update = reduce(torch.add, [self.get_delta_weight(name) for name in names])
        is_cast = not x.is_meta and torch.is_autocast_enabled(x.device.type)
        if base.weight.dtype in _WIDE and not is_cast and not does_more(base):
            return call_with(base, {"weight": base.weight + update.to(base.weight.dtype)}, (x, *args), kwargs)
        # In lower precision, W + dW would lose dW. Hooks may keep W in another dtype than that of the product.
        update = update.to(x.dtype if x.is_floating_point() else base.weight.dtype)
        parts = {"weight": update}
        if getattr(base, "bias", None) is not None:
            parts["bias"] = update.new_zeros(len(base.bias))
        return base(x, *args, **kwargs) + forward_with(base, parts, (x, *args), kwargs)

    def get_delta_weight(self, adapter: str) -> Tensor:
        """The update of an adapter, in the shape of the weight and the dtype of its coefficients."""
        return self.in_layout(super().get_delta_weight(adapter))

    def in_layout(self, update: Tensor) -> Tensor:
        """An update [out, in] in the shape of the base weight, 0 at an embedding's padding."""
        base: Any = self.base_layer
        padding = getattr(base, "padding_idx", None)
        if padding is not None:
            update = update.index_fill(0, torch.tensor(padding, device=update.device), 0.0)
        return update.view(base.weight.shape)

    def _matrix_size(self) -> tuple[int, int]:
        base: Any = self.get_base_layer()
        if isinstance(self.base_layer, BaseTunerLayer):
            fault = "has an adapter of another kind"
        elif not isinstance(base._parameters.get("weight"), Tensor) or not base.weight.is_floating_point():
            fault = "does not hold its weight as floats"
        elif isinstance(base, CONVOLUTIONS) and type(base).forward not in [kind.forward for kind in CONVOLUTIONS]:
            fault = "may do more with its weight than a convolution does"
        elif isinstance(base, nn.Embedding) and (len(list(base.parameters())) > 1 or base.max_norm or base.sparse):
            fault = "does more with its weight than look rows of it up"
        else:
            return base.weight.numel() // len(base.weight), len(base.weight)
        raise ConfigError(
            f"a layer of type {type(base).__name__} cannot be adapted if it {fault}; name other target_modules"
        )

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        """No: `peft.convert_to_lora` expects the matrix of a linear layer."""
        return False
