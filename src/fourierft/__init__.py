"""FourierFT: fine-tuning foundation models with a few spectral coefficients a layer (arXiv 2405.03003).

Importing this package needs torch alone; names that stand on PEFT are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fourierft.spectral import (
    SpectralBasis,
    adapted_linear,
    bandpass_entries,
    delta_weight,
    spectral_linear,
    uniform_basis,
    uniform_entries,
)

if TYPE_CHECKING:
    from fourierft.adapters.fleet import AdapterBank, FleetModel
    from fourierft.adapters.store import AdapterStore
    from fourierft.tuner.config import FourierFTConfig
    from fourierft.tuner.recommended import recommended
    from fourierft.tuner.registration import disable, enable

__version__ = "0.1.0"

__all__ = [
    "AdapterBank",
    "AdapterStore",
    "FleetModel",
    "FourierFTConfig",
    "SpectralBasis",
    "adapted_linear",
    "bandpass_entries",
    "delta_weight",
    "disable",
    "enable",
    "recommended",
    "spectral_linear",
    "uniform_basis",
    "uniform_entries",
]

_LAZY = {
    "AdapterBank": "fourierft.adapters.fleet",
    "AdapterStore": "fourierft.adapters.store",
    "FleetModel": "fourierft.adapters.fleet",
    "FourierFTConfig": "fourierft.tuner.config",
    "disable": "fourierft.tuner.registration",
    "enable": "fourierft.tuner.registration",
    "recommended": "fourierft.tuner.recommended",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'fourierft' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
