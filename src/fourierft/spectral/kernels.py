"""Which kernel serves a basis: the compiled one on a CPU, the one in Triton on a GPU; None leaves it to torch."""

from __future__ import annotations

import torch
from torch import Tensor

from fourierft.spectral.basis import SpectralBasis
from fourierft.spectral.compiled import CompiledUpdate, compiled_update
from fourierft.spectral.triton import TritonUpdate, triton_update


def kernel_of(basis: SpectralBasis, dtype: torch.dtype, x: Tensor) -> CompiledUpdate | TritonUpdate | None:
    """The kernel for tokens x, computed in dtype.

    Raises: BackendError, if the compiled kernel is wrong here.
    """
    if x.device.type == "cuda":
        return triton_update(basis, dtype, x)
    return compiled_update(basis, dtype, x.device)
