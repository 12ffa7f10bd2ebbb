"""A PEFT FourierFT checkpoint as plain data: read, checked, and nothing executed.

A checkpoint is a folder with `adapter_config.json` and `adapter_model.safetensors`. Coefficients stand under
`base_model.model.<layer>.fourierft_spectrum`; everything else in the file is a module or bias saved whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fourierft.errors import CheckpointError
from fourierft.format.config import CONFIG_FILE, WEIGHTS_FILE, expected_frequencies, read_config
from fourierft.format.draw import Draw
from fourierft.format.weights import read_weights
from fourierft.spectral import SpectralBasis

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
PREFIX = "base_model.model."
SUFFIX = ".fourierft_spectrum"


@dataclass(frozen=True)
class AdapterCheckpoint:
    """What a checkpoint says, with stock PEFT's reading of its numbers.

    Attributes:
        path: folder it was read from.
        base_model: hub id or folder of the base model; None if the config names none.
        revision: of the base model on the hub.
        task_type: PEFT's task, such as SEQ_CLS; None if it has none.
        scaling: one for all layers; dimensionless.
        seed: of the entries.
        band: (center, width) if the entries are band-pass, None if they are uniform.
        coefficients: layer name in the base model -> [n], as on disk.
        saved_modules: parameter name in the base model -> tensor saved whole (`modules_to_save`, biases).
        matrices: weight name in the base model -> whole weight of an adapted head or embedding, which PEFT saves
            beside the coefficients if the vocabulary was resized, or if it is asked to.
        config: adapter_config.json as it stands.
    """

    path: Path
    base_model: str | None
    revision: str | None
    task_type: str | None
    scaling: float
    seed: int
    band: tuple[float, float] | None
    coefficients: dict[str, torch.Tensor]
    saved_modules: dict[str, torch.Tensor]
    matrices: dict[str, torch.Tensor]
    config: dict[str, Any]

    def basis(self, out_features: int, in_features: int, n_frequency: int) -> SpectralBasis:
        """The basis of a layer of this shape: dW is delta_weight(coefficients, basis, scaling)."""
        return Draw(self.seed, self.band).basis(out_features, in_features, n_frequency)


def find_checkpoint(source: str | Path) -> Path:
    """The folder of an adapter: `source` itself, or where the hub's cache holds the adapter of that id.

    Raises: CheckpointError, if it is neither a folder nor an id that can be fetched.
    """
    path = Path(source)
    if path.is_dir():
        return path
    if path.exists():
        raise CheckpointError(f"{source} is a file; give the folder that holds {CONFIG_FILE} and {WEIGHTS_FILE}")
    from fourierft.format.hub import find_near, offline_if_unreachable

    if HUB_ID.fullmatch(str(source)):
        from huggingface_hub import hf_hub_download

        try:
            with offline_if_unreachable(str(source)):
                hf_hub_download(str(source), WEIGHTS_FILE)
                return Path(hf_hub_download(str(source), CONFIG_FILE)).parent
        except Exception as error:
            raise CheckpointError(
                f"there is no folder {source}, and no adapter of that id could be fetched from the hub "
                f"({type(error).__name__}); {find_near(str(source)) or 'check the spelling and the network'}"
            ) from error
    hint = find_near(str(source)) or f"give a folder with {CONFIG_FILE}, or a hub id like user/adapter"
    raise CheckpointError(f"there is no folder {source}; {hint}")


def read_checkpoint(source: str | Path) -> AdapterCheckpoint:
    """Read an adapter and check it against its own config.

    Args:
        source: folder, or hub id.

    Returns: AdapterCheckpoint, tensors on the CPU in the dtype they have on disk.

    Raises: CheckpointError, naming the file, field or layer that is missing, damaged or contradictory.
    """
    path = find_checkpoint(source)
    config = read_config(path / CONFIG_FILE)
    tensors = read_weights(path)
    coefficients = {layer_name(key): value for key, value in tensors.items() if key.endswith(SUFFIX)}
    if not coefficients:
        raise CheckpointError(f"{path / WEIGHTS_FILE} holds no FourierFT coefficients; it belongs to another method")
    check_coefficients(path, coefficients, config)
    saved = {parameter_name(key): value for key, value in tensors.items() if is_saved_whole(key)}
    for name, tensor in saved.items():
        check_finite(path, name, tensor)
    matrices = [name for name in saved if name.endswith(".weight") and name.removesuffix(".weight") in coefficients]
    record = config.get("fourierft") or {}
    band = (float(record["center"]), float(record["width"])) if record.get("entries", "uniform") != "uniform" else None
    return AdapterCheckpoint(
        path=path,
        base_model=config.get("base_model_name_or_path"),
        revision=config.get("revision"),
        task_type=record["task_type"] if "task_type" in record else config.get("task_type"),
        scaling=float(config["scaling"]),
        seed=config["random_loc_seed"],
        band=band,
        coefficients=coefficients,
        saved_modules={name: tensor for name, tensor in saved.items() if name not in matrices},
        matrices={name: saved[name] for name in matrices},
        config=config,
    )


def check_coefficients(path: Path, coefficients: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> None:
    """Check that every layer has the finite [n] its config promises.

    Raises: CheckpointError, naming the first layer that has not.
    """
    for name, tensor in coefficients.items():
        n = expected_frequencies(name, config)
        if tuple(tensor.shape) != (n,):
            raise CheckpointError(
                f"{path / WEIGHTS_FILE} has coefficients of shape {list(tensor.shape)} for the layer {name}, "
                f"but {CONFIG_FILE} says n_frequency={n}; the two files belong to different adapters"
            )
        check_finite(path, name, tensor)


def check_finite(path: Path, name: str, tensor: torch.Tensor) -> None:
    """Raise CheckpointError if a tensor of the file holds NaN or infinity."""
    if not torch.isfinite(tensor).all():
        kind = "NaN" if torch.isnan(tensor).any() else "infinity"
        raise CheckpointError(f"{path / WEIGHTS_FILE} holds {kind} in {name}; the training that wrote it diverged")


def layer_name(key: str) -> str:
    """Name of the base model's layer whose coefficients stand under `key`."""
    return key.removeprefix(PREFIX).removesuffix(SUFFIX)


def is_saved_whole(key: str) -> bool:
    """Whether a parameter of the base stands under `key`; with bias="all", PEFT saves those of its wrappers too."""
    return not key.endswith(SUFFIX) and not any(f".{part}." in key for part in ("original_module", "modules_to_save"))


def parameter_name(key: str) -> str:
    """Name of the base model's parameter that stands under `key`, of an adapted layer too."""
    return key.removeprefix(PREFIX).replace(".base_layer.", ".")
