"""Base layers that are one matrix product, so that W + dW can take the place of W in it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from fourierft.errors import ConfigError

_KINDS = (nn.Linear, Conv1D)
_PLAIN = (nn.Parameter, Tensor, type(None))


def base_product(base: Any, x: Tensor) -> tuple[Tensor, Tensor | None] | None:
    """Weight [out, in] and bias, if a layer does nothing but x W^T + b and W + dW would keep dW; None otherwise."""
    kind, parameters = type(base), base._parameters
    if kind not in _KINDS or "weight" not in parameters or "bias" not in parameters or does_more(base):
        return None
    weight: Any = parameters["weight"]
    bias: Any = parameters["bias"]
    if type(weight) not in _PLAIN or type(bias) not in _PLAIN:
        return None
    dtype = weight.dtype
    if dtype not in (torch.float32, torch.float64) or dtype != x.dtype:
        return None
    if not x.is_meta and torch.is_autocast_enabled("cpu" if x.is_cpu else x.device.type):
        return None
    return weight.T if kind is Conv1D else weight, bias


def checked_output(path: str, base: nn.Module, result: Any, x: Tensor, out_features: int) -> Tensor:
    """What a base layer gave, if x dW^T can be added to it.

    Raises: ConfigError, if it is no [..., out], as of a layer that applies blocks of its weight to groups of inputs.
    """
    if isinstance(result, Tensor) and (result.is_nested or result.shape == (*x.shape[:-1], out_features)):
        return result
    got = list(result.shape) if isinstance(result, Tensor) else f"a {type(result).__name__}"
    raise ConfigError(
        f"{path or 'the layer'} is a {type(base).__name__} that makes {got} of {list(x.shape)} instead of x W^T, so "
        f"no update of its weight can be added; leave it out with exclude_modules=[{path.rpartition('.')[2]!r}]"
    )


def does_more(module: nn.Module) -> bool:
    """Whether calling a module does more than the forward of its class: hooks, or another forward in its place."""
    state = module.__dict__
    if state["_forward_hooks"] or state["_forward_pre_hooks"] or "forward" in state:
        return True
    return bool(state["_backward_hooks"] or state["_backward_pre_hooks"])
