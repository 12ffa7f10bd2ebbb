"""A PEFT FourierFT checkpoint as plain data: read, checked, and nothing executed.

A checkpoint is a folder with `adapter_config.json` and `adapter_model.safetensors`. Coefficients stand under
`base_model.model.<layer>.fourierft_spectrum`; everything else in the file is a module or bias saved whole.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fourierft.errors import CheckpointError
from fourierft.spectral import SpectralBasis, bandpass_entries, uniform_basis

CONFIG_FILE = "adapter_config.json"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
WEIGHTS_FILE = "adapter_model.safetensors"
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
    config: dict[str, Any]

    def basis(self, out_features: int, in_features: int, n_frequency: int) -> SpectralBasis:
        """The basis of a layer of this shape: dW is delta_weight(coefficients, basis, scaling)."""
        if self.band is None:
            return uniform_basis(out_features, in_features, n_frequency, self.seed)
        entries = bandpass_entries(out_features, in_features, n_frequency, self.seed, *self.band)
        return SpectralBasis(out_features, in_features, entries)


def find_checkpoint(source: str | Path) -> Path:
    """The folder of an adapter: `source` itself, or where the hub's cache holds the adapter of that id.

    Raises: CheckpointError, if it is neither a folder nor an id that can be fetched.
    """
    path = Path(source)
    if path.is_dir():
        return path
    if path.exists():
        raise CheckpointError(f"{source} is a file; give the folder that holds {CONFIG_FILE} and {WEIGHTS_FILE}")
    if HUB_ID.fullmatch(str(source)):
        from huggingface_hub import hf_hub_download

        try:
            hf_hub_download(str(source), WEIGHTS_FILE)
            return Path(hf_hub_download(str(source), CONFIG_FILE)).parent
        except Exception as error:
            raise CheckpointError(
                f"there is no folder {source}, and no adapter of that id could be fetched from the hub "
                f"({type(error).__name__}); check the spelling and the network"
            ) from error
    raise CheckpointError(
        f"there is no folder {source}; give a folder with {CONFIG_FILE}, or a hub id like user/adapter"
    )


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
    saved = {key.removeprefix(PREFIX): value for key, value in tensors.items() if not key.endswith(SUFFIX)}
    for name, tensor in saved.items():
        check_finite(path, name, tensor)
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
        saved_modules=saved,
        config=config,
    )


def read_config(file: Path) -> dict[str, Any]:
    """adapter_config.json, with the fields this package computes with checked and stock PEFT's defaults filled in.

    Raises: CheckpointError, if it is missing, not JSON, or `check_config` refuses it.
    """
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing; a checkpoint is {CONFIG_FILE} beside {WEIGHTS_FILE}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read as JSON ({error}); save or download the adapter again") from error
    return check_config(file, config)


def check_config(file: str | Path, config: object) -> dict[str, Any]:
    """The settings in a config, checked, with stock PEFT's defaults filled in.

    Args:
        file: where it comes from, for the messages.
        config: content of an adapter_config.json.

    Raises: CheckpointError, if it is of another method or has a field that makes no sense.
    """
    if not isinstance(config, dict):
        raise CheckpointError(f"{file} holds a JSON {type(config).__name__} instead of an object of settings")
    if config.get("peft_type") != "FOURIERFT":
        raise CheckpointError(
            f"{file} has peft_type={config.get('peft_type')!r}; only FOURIERFT adapters can be read here"
        )
    stock = {"n_frequency": 1000, "scaling": 150.0, "random_loc_seed": 777}
    config = {**stock, **config, "n_frequency_pattern": config.get("n_frequency_pattern") or {}}
    if not isinstance(config["n_frequency_pattern"], dict):
        raise CheckpointError(f"{file} has n_frequency_pattern={config['n_frequency_pattern']!r} instead of an object")
    counts = {"n_frequency": config["n_frequency"]}
    counts |= {f"n_frequency_pattern[{key!r}]": value for key, value in config["n_frequency_pattern"].items()}
    for name, value in counts.items():
        if type(value) is not int or value < 1:
            raise CheckpointError(f"{file} has {name}={value!r}; it must be a positive integer")
    for key in config["n_frequency_pattern"]:
        try:
            re.compile(key)
        except re.error as error:
            raise CheckpointError(
                f"{file} has the n_frequency_pattern {key!r}, which is no pattern ({error})"
            ) from error
    if type(config["scaling"]) not in (int, float) or not math.isfinite(config["scaling"]):
        raise CheckpointError(f"{file} has scaling={config['scaling']!r}; it must be a finite number")
    if type(config["random_loc_seed"]) is not int:
        raise CheckpointError(f"{file} has random_loc_seed={config['random_loc_seed']!r}; it must be an integer")
    check_record(file, config.get("fourierft"))
    return config


def check_record(file: str | Path, record: object) -> None:
    """Check this package's own record in the config: what stock PEFT cannot represent.

    Raises: CheckpointError, if it says something this version does not know.
    """
    if record is None:
        return
    if not isinstance(record, dict) or record.get("entries", "uniform") not in ("uniform", "bandpass"):
        raise CheckpointError(f"{file} has fourierft={record!r}, which this version does not know; upgrade fourierft")
    if record.get("entries") == "bandpass":
        for name in ("center", "width"):
            if type(record.get(name)) not in (int, float) or not math.isfinite(record[name]):
                raise CheckpointError(
                    f"{file} has band-pass entries with {name}={record.get(name)!r}; it must be a number"
                )


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


def expected_frequencies(name: str, config: Mapping[str, Any]) -> int:
    """n of a layer: the first key of n_frequency_pattern that matches the end of its name, or else n_frequency."""
    for key, n in config["n_frequency_pattern"].items():
        if re.match(rf".*\.{key}$", name):
            return int(n)
    return int(config["n_frequency_pattern"].get(name, config["n_frequency"]))


def check_finite(path: Path, name: str, tensor: torch.Tensor) -> None:
    """Raise CheckpointError if a tensor of the file holds NaN or infinity."""
    if not torch.isfinite(tensor).all():
        kind = "NaN" if torch.isnan(tensor).any() else "infinity"
        raise CheckpointError(f"{path / WEIGHTS_FILE} holds {kind} in {name}; the training that wrote it diverged")


def layer_name(key: str) -> str:
    """Name of the base model's layer whose coefficients stand under `key`."""
    return key.removeprefix(PREFIX).removesuffix(SUFFIX)
