"""A module called with other tensors in the place of its parameters, while other threads call it too.

torch's `functional_call` puts the tensors into the module and takes them out afterwards: a thread that calls the module
meanwhile gets them as well. Here a shallow copy of the module has them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


def call_with(module: nn.Module, tensors: Mapping[str, Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a module gives for args and kwargs with these tensors in the place of its parameters of the same names.

    The module itself stays as it is. Its children are those of the module, its hooks run. The forward that accelerate
    gives to a module that it has offloaded does not: it would bring the parameters back.
    """
    is_traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    is_offloaded = any(getattr(module, name).is_meta and not tensors[name].is_meta for name in tensors)
    is_replaced = "forward" in module.__dict__ and not is_offloaded
    if is_traced or is_replaced or not all(_is_held(module, name) for name in tensors):
        return functional_call(module, dict(tensors), args, kwargs)
    stand_in = copy.copy(module)
    stand_in._parameters = {**module._parameters, **tensors}  # type: ignore[dict-item]
    for name in ("forward", *tensors):
        stand_in.__dict__.pop(name, None)
    return stand_in(*args, **kwargs)


def _is_held(module: nn.Module, name: str) -> bool:
    """Whether a parameter is where a module has it, or as an attribute, where a replica of DataParallel has it."""
    return name in module._parameters or name in module.__dict__
