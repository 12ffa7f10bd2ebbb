"""Ground floor: the mathematics of FourierFT, on torch alone."""

from fourierft.spectral.basis import SpectralBasis
from fourierft.spectral.compiled import compiled_update, fingerprint
from fourierft.spectral.draw import Draw, bandpass_basis, uniform_basis
from fourierft.spectral.eager import is_eager
from fourierft.spectral.entries import bandpass_entries, uniform_entries
from fourierft.spectral.held import Held, can_hold, held_linear, hold
from fourierft.spectral.prepared import PreparedUpdate, add_product
from fourierft.spectral.stack import adapted_stack
from fourierft.spectral.views import adapted_linear, delta_weight, spectral_embedding, spectral_linear

__all__ = [
    "Draw",
    "Held",
    "PreparedUpdate",
    "SpectralBasis",
    "adapted_linear",
    "adapted_stack",
    "add_product",
    "bandpass_basis",
    "bandpass_entries",
    "can_hold",
    "compiled_update",
    "delta_weight",
    "fingerprint",
    "held_linear",
    "hold",
    "is_eager",
    "spectral_embedding",
    "spectral_linear",
    "uniform_basis",
    "uniform_entries",
]
