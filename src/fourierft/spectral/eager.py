"""Whether numbers may be computed past torch's dispatcher, or something watches it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _disable_current_modes

_PLAIN = (Tensor, nn.Parameter)
# Asked at each call of a layer, when code is mostly not in the cache: so not by way of more functions.
_is_tracing, _count_modes = torch._C._is_tracing, torch._C._len_torch_dispatch_stack
_has_transforms = torch._C._are_functorch_transforms_active
_is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)  # torch 2.6 cannot tell


def is_exported() -> bool:
    """Whether what is computed becomes a graph for other inputs, and maybe another machine."""
    return _is_exporting() or torch.jit.is_tracing()


def is_transformed() -> bool:
    """Whether a transform of `torch.func` or a forward-mode gradient is at work, which our operators do not know."""
    return _has_transforms() or forward_ad._current_level >= 0


def is_plain(x: Tensor, *others: Tensor) -> bool:
    """Whether tensors hold numbers, and no one but autograd traces, records or batches what becomes of them."""
    if torch.compiler.is_compiling() or _count_modes() or _is_tracing():
        return False
    if _has_transforms() or forward_ad._current_level >= 0:
        return False
    if type(x) not in _PLAIN or x.is_meta:
        return False
    return not others or all(type(other) in _PLAIN and not other.is_meta for other in others)


def is_eager(x: Tensor) -> bool:
    """Whether tensors are plain (`is_plain`), and no one differentiates what becomes of them.

    Only then may a tensor be read by its address, and results be kept from one call to the next. Elsewhere, as in
    `torch.compile`, `torch.export`, `torch.jit.trace`, `torch.func` and under fake tensors, all goes through operators.
    """
    return not torch.is_grad_enabled() and is_plain(x)


def is_captured(device: torch.device) -> bool:
    """Whether work on a device becomes a CUDA graph: then no number may be read, and nothing kept for later calls."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


@contextmanager
def real_tensors() -> Iterator[None]:
    """Inside, tensors are made with numbers, on the CPU, for any later use: also while a model is built without any."""
    with torch.device("cpu"), torch.inference_mode(False), torch.no_grad(), _disable_current_modes():
        yield
