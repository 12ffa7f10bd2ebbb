"""The kernel for GPUs: token and row views in float32 arithmetic, written in Triton, compiled on first use.

It stands behind the same operators as the compiled kernel of the CPU. Importing this folder needs no triton.
"""

from fourierft.spectral.triton.choice import triton_update
from fourierft.spectral.triton.update import TritonUpdate

__all__ = ["TritonUpdate", "triton_update"]
