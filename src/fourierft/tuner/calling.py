"""A module called with other tensors in the place of its parameters, while other threads call it too.

torch's `functional_call` puts the tensors into the module and takes them out afterwards: a thread that calls the module
meanwhile gets them as well. Here a shallow copy of the module has them.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fourierft.errors import ConfigError


def call_with(module: nn.Module, tensors: Mapping[str, Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a module gives for args and kwargs with these tensors in the place of its parameters of the same names.

    The module itself stays as it is. Its children are those of the module, its hooks run.

    Raises: ConfigError, if the parameters are partitioned: the hooks that bring them know the module itself alone.
    """
    if type(module._parameters) not in (dict, OrderedDict):  # but DeepSpeed's own
        raise ConfigError(
            f"the parameters of {type(module).__name__} are partitioned, as by DeepSpeed's "
            "ZeRO-3, so nothing can be added to them; leave such layers out of target_parameters, "
            "or use ZeRO-2 or FSDP2"
        )
    if _is_traced() or "forward" in module.__dict__ or not all(_is_held(module, name) for name in tensors):
        return functional_call(module, dict(tensors), args, kwargs)
    return _stand_in(module, tensors)(*args, **kwargs)


def forward_with(
    module: nn.Module, tensors: Mapping[str, Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """The same by the forward of the module's class alone: without hooks, nor a forward that was put in its place.

    So accelerate and DeepSpeed bring parameters that they keep elsewhere. `tensors` are all the parameters there are.
    """
    if _is_traced():
        return functional_call(module, dict(tensors), args, kwargs)
    return type(module).forward(_stand_in(module, tensors), *args, **kwargs)


def _stand_in(module: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    copied = copy.copy(module)
    copied._parameters = {**module._parameters, **tensors}  # type: ignore[dict-item]
    for name in tensors:
        copied.__dict__.pop(name, None)
    return copied


def _is_traced() -> bool:
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def _is_held(module: nn.Module, name: str) -> bool:
    """Whether a parameter is where a module has it, or as an attribute, where a replica of DataParallel has it."""
    return name in module._parameters or name in module.__dict__
