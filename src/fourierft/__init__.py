"""FourierFT: fine-tuning foundation models with a few spectral coefficients a layer (arXiv 2405.03003).

Importing this package loads no library; a name loads what it stands on, torch or PEFT, when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fourierft import errors as errors  # what users catch is there without an import of its own

if TYPE_CHECKING:
    from fourierft.fleet import AdapterBank, FleetModel
    from fourierft.spectral import (
        SpectralBasis,
        adapted_linear,
        bandpass_entries,
        delta_weight,
        spectral_linear,
        uniform_basis,
        uniform_entries,
    )
    from fourierft.store import AdapterStore
    from fourierft.tuner.config import FourierFTConfig
    from fourierft.tuner.hotswap import hotswap_adapter
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
    "hotswap_adapter",
    "recommended",
    "spectral_linear",
    "uniform_basis",
    "uniform_entries",
]

_LAZY = {
    "AdapterBank": "fourierft.fleet",
    "AdapterStore": "fourierft.store",
    "FleetModel": "fourierft.fleet",
    "FourierFTConfig": "fourierft.tuner.config",
    "SpectralBasis": "fourierft.spectral",
    "adapted_linear": "fourierft.spectral",
    "bandpass_entries": "fourierft.spectral",
    "delta_weight": "fourierft.spectral",
    "disable": "fourierft.tuner.registration",
    "enable": "fourierft.tuner.registration",
    "hotswap_adapter": "fourierft.tuner.hotswap",
    "recommended": "fourierft.tuner.recommended",
    "spectral_linear": "fourierft.spectral",
    "uniform_basis": "fourierft.spectral",
    "uniform_entries": "fourierft.spectral",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'fourierft' has no attribute {name!r}")
    return globals().setdefault(name, getattr(import_module(_LAZY[name]), name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
