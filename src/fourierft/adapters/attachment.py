"""An adapter put on a base model in memory, after all that its files say was checked against it.

Files from elsewhere may hold patterns (`target_modules`, `n_frequency_pattern`, `layers_pattern`) that keep Python's
`re` busy for ever. The names and sizes of the coefficients say the same, so PEFT gets those instead.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import fields
from typing import Any

from peft import PeftConfig, PeftModel
from torch import nn

from fourierft.adapters.base import check_layers, check_saved_modules
from fourierft.errors import CheckpointError, FourierFTError
from fourierft.format.checkpoint import AdapterCheckpoint
from fourierft.format.identity import check_same_base
from fourierft.tuner.config import FourierFTConfig
from fourierft.tuner.record import find_identity

_PATTERNS = ("exclude_modules", "layers_to_transform", "layers_pattern", "n_frequency_pattern")


def attach(
    model: nn.Module, checkpoint: AdapterCheckpoint, allow_other_base: bool = False, is_trainable: bool = False
) -> PeftModel:
    """Put an adapter on its base model. The tuner of this package is to be enabled.

    Args:
        model: the base; its layers are replaced.
        checkpoint: the adapter.
        allow_other_base: take a model of the same shapes that the adapter was not made for.
        is_trainable: whether it is to be trained further.

    Raises: CheckpointError or ShapeError, if the model is not the base that the adapter was made for.
    """
    base = find_identity(model)
    name = base.name if base else type(model).__name__
    check_saved_modules(model, checkpoint, name)
    check_layers(model, checkpoint, name)
    if base is not None and not allow_other_base:
        check_same_base(checkpoint.config.made_for, base, checkpoint.path)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="the adapter was made for the base")  # it is allowed
            config = exact_config(model, checkpoint)
            adapted = PeftModel.from_pretrained(model, str(checkpoint.path), config=config, is_trainable=is_trainable)
    except FourierFTError:
        raise
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"the adapter in {checkpoint.path} does not belong to the base model {name}: {reason}"
        ) from error
    restore_names(adapted.peft_config["default"], checkpoint)
    return adapted


def restore_names(config: Any, checkpoint: AdapterCheckpoint) -> None:
    """Give the config of an adapter that is in its model the names and patterns it was read with, to be saved again."""
    for field in ("target_modules", *_PATTERNS):
        setattr(config, field, checkpoint.config.content.get(field))


def exact_config(model: nn.Module, checkpoint: AdapterCheckpoint) -> PeftConfig:
    """The adapter's config as PEFT takes it, with names of layers in place of patterns."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)} & set(checkpoint.coefficients)
    known = {item.name for item in fields(FourierFTConfig)} | {"fourierft"}
    content: dict[str, Any] = {key: value for key, value in checkpoint.config.content.items() if key in known}
    content |= dict.fromkeys(_PATTERNS)
    content["target_modules"] = "|".join(re.escape(name) for name in checkpoint.coefficients if name not in parameters)
    if parameters:
        content["target_parameters"] = sorted(parameters)
    config = FourierFTConfig(**content)
    config.layer_counts = {name: values.shape[-1] for name, values in checkpoint.coefficients.items()}
    return config
