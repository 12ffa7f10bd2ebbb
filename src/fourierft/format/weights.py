"""adapter_model.safetensors: the tensors of an adapter, checked before they are read."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from fourierft.errors import CheckpointError
from fourierft.format.config import CONFIG_FILE, WEIGHTS_FILE
from fourierft.format.header import Header, read_header
from fourierft.format.json_file import open_ordinary, shown

PREFIX = "base_model.model."
SUFFIX = ".fourierft_spectrum"
PLACE = "adapted_parameters"  # in the names of coefficients of parameters, as LoRA's have "base_layer" in theirs
_LARGEST = 1 << 36  # bytes: more than any module that is saved beside an adapter
_COEFFICIENTS = ("F64", "F32", "F16", "BF16")
_SAVED = (*_COEFFICIENTS, "F8_E4M3", "F8_E5M2", "I64", "I32", "I16", "I8", "U8", "BOOL")


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Every tensor of the safetensors file in a folder, as it lies there.

    Raises: CheckpointError, if the file is missing, damaged, there only as a pickle, or has what no adapter has.
    """
    file = path / WEIGHTS_FILE
    if not os.path.lexists(file):
        pickles = sorted(path.glob("*.bin")) + sorted(path.glob("*.pt"))
        if pickles:
            raise CheckpointError(
                f"{pickles[0]} is a pickle, which can run code when it is opened, so it "
                "is refused; if you trust it, load it elsewhere and save it again as safetensors"
            )
        raise CheckpointError(f"{file} is missing; an adapter's folder needs {CONFIG_FILE} and {WEIGHTS_FILE}")
    return read_tensors(file)


def read_tensors(file: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a safetensors file of adapters, as it lies there.

    Raises: CheckpointError, if it is damaged, or has what no adapter has.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with os.fdopen(open_ordinary(file, _LARGEST), "rb") as stream:
        header = read_header(stream, os.fstat(stream.fileno()).st_size, file)
    _check_tensors(file, header)
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{file} is truncated or damaged ({error}); save or download the adapter again"
        ) from error


def layer_name(key: str) -> str:
    """Name of the base model's layer whose coefficients stand under `key`."""
    return base_path(key.removeprefix(PREFIX).removesuffix(SUFFIX))


def is_saved_whole(key: str) -> bool:
    """Whether a parameter of the base stands under `key`; with bias="all", PEFT saves those of its wrappers too."""
    return not key.endswith(SUFFIX) and not any(f".{part}." in key for part in ("original_module", "modules_to_save"))


def parameter_name(key: str) -> str:
    """Name of the base model's parameter that stands under `key`, of an adapted layer too."""
    return base_path(key.removeprefix(PREFIX))


def base_path(path: str) -> str:
    """The name in the base model of a layer or parameter, without what adapted modules around it put into its path."""
    return path.replace(f".{PLACE}.", ".").replace(".base_layer.", ".")


def check_finite(path: Path, name: str, tensor: torch.Tensor) -> None:
    """Raise CheckpointError if a tensor of the file holds NaN or infinity."""
    if tensor.is_floating_point() and tensor.dtype.itemsize == 1:
        tensor = tensor.float()  # torch does not ask 8-bit floats
    if not torch.isfinite(tensor).all():
        kind = "NaN" if torch.isnan(tensor).any() else "infinity"
        raise CheckpointError(
            f"{path / WEIGHTS_FILE} holds {kind} in {name}, because the training diverged; "
            "train again with a lower learning rate"
        )


def _check_tensors(file: Path, header: Header) -> None:
    for name, tensor in header.tensors.items():
        allowed = _COEFFICIENTS if name.endswith(SUFFIX) else _SAVED
        if tensor.dtype not in allowed:
            raise CheckpointError(
                f"{file} holds {name} as {shown(tensor.dtype)}; an adapter has it in one of {', '.join(allowed)}"
            )
        if 0 in tensor.shape:
            raise CheckpointError(
                f"{file} holds {name} of shape {list(tensor.shape)}, which is empty; it was saved before its parts "
                "were gathered from all processes: save the whole state"
            )
        if not layer_name(name):
            raise CheckpointError(
                f"{file} has the tensor {shown(name)}, which is not a layer's name; save the adapter with PEFT"
            )
