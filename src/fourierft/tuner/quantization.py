"""Base layers whose weight is quantised: bitsandbytes in 4 and 8 bits and torchao, by PEFT's backends, and others.

They run as base(x) + delta(x). Merging dequantises the weight, adds the update and quantises the sum again. Layers that
PEFT has no backend for (of HQQ, quanto, GPTQ and so on) are trained and run, but nothing can be merged into them.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from fourierft.errors import ConfigError
from fourierft.format.shapes import Shape
from fourierft.tuner.versions import resolve_quantization_backend

if TYPE_CHECKING:
    from peft.utils.quantization_utils import QuantizationBackend


class KeptWeight(NamedTuple):
    """A quantised or tied weight before a merge.

    Fields:
        weight: the parameter itself.
        scales: those of bitsandbytes' 8-bit layers, which keep them apart.
        merged: `checksum` of what merging made of it; None if it is quantised.
    """

    weight: Tensor
    scales: Tensor | None
    merged: int | None = None


def linear_shape(layer: Any) -> Shape | None:
    """(out_features, in_features) of a linear layer, quantisers' own classes included; None if it is none."""
    if isinstance(layer, Conv1D):
        return layer.nf, layer.nx
    sizes = getattr(layer, "out_features", None), getattr(layer, "in_features", None)
    try:
        return operator.index(sizes[0]), operator.index(sizes[1])  # type: ignore[arg-type]  # numpy's, torch's too
    except TypeError:
        return None


def find_backend(base_layer: nn.Module, settings: Mapping[str, Any]) -> QuantizationBackend | Sealed | None:
    """How the weight of a layer is dequantised and set; None if it is not quantised.

    Args:
        settings: what PEFT's `get_quantization_kwargs` finds in the model.
    """
    weight: Any = getattr(base_layer, "weight", None)
    holds_plain = type(weight) in (nn.Parameter, Tensor) and weight.itemsize > 1  # floats of 8 bits have a scale apart
    if holds_plain and type(base_layer) in (nn.Linear, Conv1D):  # spares the libraries of quantisation being imported
        return None
    backend = resolve_quantization_backend(base_layer, **{"get_apply_tensor_subclass": _unknown_settings, **settings})
    is_unknown = hasattr(base_layer, "in_features") and not isinstance(base_layer, nn.Linear)
    if backend is None and (is_unknown or not (holds_plain or _is_sharded(weight))):
        return Sealed(base_layer)
    return backend


class Sealed:
    """What stands for a weight of an unknown form: it may be no matrix, or ignore what is written to it."""

    supports_merge = True  # so that it is asked

    def __init__(self, base_layer: nn.Module) -> None:
        self.backend_name = type(base_layer).__name__

    def get_base_weight(self, base_layer: nn.Module) -> NoReturn:
        """Raise ConfigError."""
        raise ConfigError(
            f"a {self.backend_name} does not keep its weights as a matrix that can be changed, "
            "so nothing can be merged into it; load the base model without quantisation to merge"
        )


def keep_layout(model: nn.Module) -> None:
    """Have bitsandbytes' 4-bit layers leave their weights as they are when they run without gradients on a CPU.

    On a CPU with AVX512-BF16 a forward pass in evaluation mode would pack them for good into a layout of lower
    precision, which passes no gradients on and which PEFT cannot dequantise.

    Raises: ConfigError, if one is packed already.
    """
    for name, module in model.named_modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
            if getattr(getattr(module.weight, "quant_state", None), "packing_format_for_cpu", False):
                raise ConfigError(
                    f"bitsandbytes has packed the 4-bit weights of {name} for inference on this "
                    "CPU, which blocks gradients; load the model again, and add the adapter "
                    "before you run it"
                )


def keep_weight(base_layer: Any) -> KeptWeight:
    """The quantised weight of a layer, to be put back by `restore_weight`."""
    state = getattr(base_layer, "state", None)  # of bitsandbytes' 8-bit layers, which move the scales there
    if state is None:
        return KeptWeight(base_layer.weight, None)
    return KeptWeight(base_layer.weight, base_layer.weight.SCB if state.SCB is None else state.SCB)


def checksum(weight: Tensor) -> int:
    """A number that changes when the numbers of a weight do."""
    bits = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[weight.element_size()]
    return int(weight.detach().contiguous().view(bits).sum(dtype=torch.int64))


def restore_weight(base_layer: Any, kept: KeptWeight) -> None:
    """Put a quantised weight back, bit for bit."""
    base_layer.weight = kept.weight
    if kept.scales is not None:
        base_layer.weight.CB, base_layer.weight.SCB = base_layer.weight.data, kept.scales
        base_layer.state.reset_grads()


def _is_sharded(weight: Any) -> bool:
    from torch.distributed.tensor import DTensor

    return isinstance(weight, DTensor)


def _unknown_settings() -> NoReturn:
    raise ConfigError(
        "the model does not record how torchao quantised it, which merging needs; "
        "load it with transformers' TorchAoConfig"
    )
