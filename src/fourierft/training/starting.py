"""An adapter that is there already, put on its base model: to be used, or to be trained further."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from fourierft.adapters.attachment import attach
from fourierft.adapters.base import TRAINING_RECORD
from fourierft.errors import CheckpointError, FourierFTError
from fourierft.format.checkpoint import find_checkpoint, read_checkpoint
from fourierft.format.config import CONFIG_FILE, WEIGHTS_FILE
from fourierft.format.json_file import read_json
from fourierft.training.digests import digest_files
from fourierft.tuner.config import FourierFTConfig
from fourierft.tuner.record import find_made_for
from fourierft.tuner.registration import enable


def load_adapter(
    model: nn.Module, directory: Path, is_trainable: bool = False, allow_other_base: bool = False
) -> nn.Module:
    """A base model with an adapter of PEFT on it.

    Args:
        is_trainable: whether it is to be trained further.
        allow_other_base: take a model of the same shapes that a FourierFT adapter was not made for.

    Raises: CheckpointError or ShapeError, if files are missing or damaged, or belong to another model.
    """
    _check_is_adapter(directory)
    read_weights(directory / WEIGHTS_FILE)
    enable()
    content = read_json(directory / CONFIG_FILE)
    if isinstance(content, dict) and content.get("peft_type") == "FOURIERFT":
        with expected_warnings():
            return attach(model, read_checkpoint(directory), allow_other_base, is_trainable)
    try:
        with expected_warnings():
            return PeftModel.from_pretrained(model, directory, is_trainable=is_trainable)
    except FourierFTError:
        raise
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"the adapter in {directory} does not belong to this base model: {one_line(error)}"
        ) from error


def _check_is_adapter(directory: Path) -> None:
    """Raise CheckpointError if a folder is none of an adapter, nor of the training of one."""
    if (directory / CONFIG_FILE).exists():
        return
    record = directory / TRAINING_RECORD
    told = read_json(record) if record.exists() else None
    if not isinstance(told, dict) or not told.get("is_adapter"):
        raise CheckpointError(
            f"{directory} is not an adapter, because it has no {CONFIG_FILE}; give an "
            f"adapter's folder, with {CONFIG_FILE} and {WEIGHTS_FILE}"
        )


def load_beside(model: Any, directory: Path, name: str) -> None:
    """Put another adapter into a model of PEFT that has one, which stays the active one.

    Args:
        directory: of the other, made for the same base.
        name: of the other in the model.

    Raises: as `load_adapter`.
    """
    first = model.peft_config[model.active_adapter]
    if isinstance(first, FourierFTConfig):
        made_for, wanted = read_checkpoint(directory).config.made_for, find_made_for(first)
        if made_for.is_known and wanted.is_known and not made_for.is_same(wanted):
            raise CheckpointError(
                f"{directory} was made for the base {made_for.describe()}, but the other "
                f"adapter for {wanted.describe()}; give an adapter of the same base"
            )
    try:
        with expected_warnings(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="the adapter was made for the base")  # as is the first
            model.load_adapter(str(directory), name)
    except FourierFTError:
        raise
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"the adapter in {directory} does not belong to this base model: {one_line(error)}"
        ) from error


def locate_start(adapter: str | None) -> str | None:
    """Where an adapter to go on from is, wherever one stands: the whole path of a folder, or its id on the hub."""
    return str(Path(adapter).absolute()) if adapter and Path(adapter).is_dir() else adapter


def describe_start(adapter: str | None) -> str | None:
    """The adapter that a training goes on from, by the digest of its weights; None if it is new."""
    return adapter and digest_files([find_checkpoint(adapter) / WEIGHTS_FILE])


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, all finite.

    Raises: CheckpointError, if it is missing or damaged, or holds others.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist, because the training did not finish; resume the training")
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged ({one_line(error)}); train again, or copy it again") from error
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path} holds NaN or infinity in {name}; train again, with a lower learning rate")
    return weights


def one_line(error: Exception) -> str:
    """What an error says, or its name."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def expected_warnings() -> Iterator[None]:
    """Leave out what PEFT 0.21 warns of, or makes transformers 5.23 warn of, and no user can change."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The following rank_pattern keys did not", category=RuntimeWarning)
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        warnings.filterwarnings("ignore", message="for .*: copying from a non-meta parameter")  # of a dry run
        yield
