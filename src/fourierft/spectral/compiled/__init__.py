"""The compiled kernel: token and row views on a CPU in float32, built on first use where there is a C compiler.

The torch path beside it gives the same numbers everywhere, and serves every dtype, device and length.
"""

from fourierft.spectral.compiled.calls import CompiledUpdate, compiled_update, is_served, large_primes
from fourierft.spectral.compiled.held import HeldUpdate, fingerprint, held_input, held_update

__all__ = [
    "CompiledUpdate",
    "HeldUpdate",
    "compiled_update",
    "fingerprint",
    "held_input",
    "held_update",
    "is_served",
    "large_primes",
]
