"""adapter_model.safetensors: the tensors of an adapter."""

from __future__ import annotations

from pathlib import Path

import torch

from fourierft.errors import CheckpointError
from fourierft.format.config import CONFIG_FILE, WEIGHTS_FILE


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the checkpoint's safetensors file.

    Raises: CheckpointError, if the file is missing, damaged, or there only as a pickle.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = path / WEIGHTS_FILE
    if not file.is_file():
        pickles = sorted(path.glob("*.bin")) + sorted(path.glob("*.pt"))
        if pickles:
            raise CheckpointError(
                f"{pickles[0]} is a pickle, which can run code when it is opened, and is refused; "
                "load it where you trust it and save it again as safetensors"
            )
        raise CheckpointError(f"{file} is missing; a checkpoint is {CONFIG_FILE} beside {WEIGHTS_FILE}")
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{file} is truncated or damaged ({error}); save or download the adapter again"
        ) from error
