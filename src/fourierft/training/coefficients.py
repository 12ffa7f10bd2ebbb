"""The coefficients of a training as they are in memory, beside those of a checkpoint.

An adapter's file has one scaling, so layers of other shapes are saved times a ratio, which rounds. A training that goes
on from them would not be the same to the bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from fourierft.files import share
from fourierft.tuner.coefficients import IN_MODEL
from fourierft.tuner.layer import FourierFTLayer

FILE = "coefficients.safetensors"


def save_exact(model: Any, folder: Path) -> None:
    """Write the coefficients of a model with a FourierFT adapter, by the names of its parameters; else nothing."""
    found = _parameters(model)
    if found:
        save_file({name: value.detach().cpu().contiguous() for name, value in found.items()}, folder / FILE)
        share(folder / FILE)


def load_exact(model: Any, folder: Path) -> None:
    """Bring back what `save_exact` wrote, if it wrote anything."""
    if not (folder / FILE).is_file():
        return
    saved, found = load_file(folder / FILE), _parameters(model)
    with torch.no_grad():
        for name, parameter in found.items():
            parameter.copy_(saved[name])


def _parameters(model: Any) -> dict[str, torch.nn.Parameter]:
    return {
        f"{path}.{name}": parameter
        for path, layer in model.named_modules()
        if isinstance(layer, FourierFTLayer)
        for name, parameter in layer.named_parameters()
        if f"{IN_MODEL}." in name
    }
