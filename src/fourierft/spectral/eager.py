"""Whether numbers may be computed past torch's dispatcher, or something watches it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

_PLAIN = (Tensor, nn.Parameter)


def is_eager(x: Tensor) -> bool:
    """Whether x holds numbers, and no one traces, records, batches or differentiates what becomes of them.

    Only then may a tensor be read by its address, and results be kept from one call to the next. Elsewhere, as in
    `torch.compile`, `torch.export`, `torch.jit.trace`, `torch.func` and under fake tensors, all goes through operators.
    """
    return not (
        torch.compiler.is_compiling()
        or torch.is_grad_enabled()
        or type(x) not in _PLAIN
        or x.is_meta
        or torch._C._len_torch_dispatch_stack()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._is_tracing()
        or forward_ad._current_level >= 0
    )
