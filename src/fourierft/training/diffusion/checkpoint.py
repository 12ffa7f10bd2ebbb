"""An adapter of a UNet as files, in PEFT's format, and a training in the middle.

A UNet has layers of many shapes, and `scaling="auto"` brings all coefficients on disk to one scaling; so that a resumed
training is the same to the bit, a checkpoint has the numbers as they were in memory beside the adapter.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import cast_adapter_dtype
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fourierft.diffusers.loading import attach, check_fits, read_folder
from fourierft.errors import CheckpointError
from fourierft.files import share, written_beside
from fourierft.format.config import CONFIG_FILE
from fourierft.format.json_file import read_json
from fourierft.training.checkpoints import seal
from fourierft.tuner.coefficients import former_name
from fourierft.tuner.registration import enable

ADAPTER, PREFIX = "adapter_model.safetensors", "base_model.model."
STATE, TENSORS = "trainer_state.json", "training.safetensors"


def save_adapter(unet: Any, state: dict[str, Tensor], base: str, folder: Path) -> int:
    """Write the adapter of a UNet, adapter_model.safetensors and adapter_config.json, as `peft` reads them.

    Args:
        unet: with the adapter `default`.
        state: its whole state.
        base: name of the pipeline.

    Returns: bytes of the weights.
    """
    config = unet.peft_config["default"]
    weights = get_peft_model_state_dict(unet, state_dict=state)
    save_file(
        {f"{PREFIX}{name}": value.detach().cpu().contiguous() for name, value in weights.items()}, folder / ADAPTER
    )
    share(folder / ADAPTER)
    before = config.base_model_name_or_path, config.inference_mode
    config.base_model_name_or_path, config.inference_mode = base, True
    config.save_pretrained(folder)
    config.base_model_name_or_path, config.inference_mode = before
    return (folder / ADAPTER).stat().st_size


def load_unet_adapter(unet: Any, folder: str | Path, allow_other_base: bool = False) -> None:
    """Put an adapter that `save_adapter` or PEFT wrote into a UNet, ready to use.

    Args:
        unet: the base.
        folder: of the adapter.
        allow_other_base: take a UNet of the same shapes that a FourierFT adapter was not made for.

    Raises: CheckpointError, if it is missing, damaged or of another model. ShapeError, if that has other shapes.
    """
    enable()
    folder = Path(folder)
    content = read_json(folder / CONFIG_FILE)
    if isinstance(content, dict) and content.get("peft_type") == "FOURIERFT":
        part = read_folder(folder)
        check_fits(unet, part.checkpoint, type(unet).__name__, allow_other_base)
        attach(unet, part, "default")
        return
    try:
        weights = load_file(folder / ADAPTER)
        unet.add_adapter(PeftConfig.from_pretrained(str(folder)))
        cast_adapter_dtype(unet, "default")  # to float32, whatever the UNet's
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder} holds no adapter that fits the pipeline ({' '.join(str(error).split())}); name a folder that "
            "`fourierft dreambooth` wrote"
        ) from error
    weights = {name.removeprefix(PREFIX): value for name, value in weights.items()}
    expected = set(get_peft_model_state_dict(unet))
    if set(weights) != expected:
        raise CheckpointError(
            f"{folder / ADAPTER} does not fit this pipeline: it lacks {len(expected - set(weights))} "
            f"tensors and has {len(set(weights) - expected)} too many; load it with "
            "the model it was trained on"
        )
    set_peft_model_state_dict(unet, weights)


def save_checkpoint(
    path: Path,
    step: int,
    unet: Any,
    state: dict[str, Tensor],
    base: str,
    optimizer: torch.optim.Optimizer,
    rest: Any,
    run: Mapping[str, Any],
) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        path: of its folder; what is there is replaced.
        state: of the UNet.
        base: name of the pipeline.
        optimizer: AdamW over the trained parameters, in their order.
        rest: what else is to be kept, as JSON.
        run: what makes the run.
    """
    if path.exists():
        shutil.rmtree(path)
    names = trained_names(unet)
    moments = optimizer.state_dict()["state"]
    tensors = {f"parameter.{name}": state[name] for name in names}
    for place, name in enumerate(names):
        tensors |= {f"{key}.{name}": value for key, value in moments.get(place, {}).items()}
    with written_beside(path) as work:
        save_adapter(unet, state, base, work)
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, work / TENSORS)
        (work / STATE).write_text(json.dumps({"step": step, **rest}, indent=2) + "\n", encoding="utf-8")
        seal(work, run)


def load_checkpoint(path: Path, unet: Any, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Bring a UNet with a new adapter, and its optimizer, to where they were.

    Returns: what was kept beside them.

    Raises: CheckpointError, if it is damaged or of another model or method.
    """
    names = trained_names(unet)
    parameters = dict(unet.named_parameters())
    try:
        tensors = load_file(path / TENSORS)
        stored = [name if f"parameter.{name}" in tensors else former_name(name) for name in names]
        rest: dict[str, Any] = json.loads((path / STATE).read_text(encoding="utf-8"))
        with torch.no_grad():
            for name, key in zip(names, stored, strict=True):
                parameters[name].copy_(tensors[f"parameter.{key}"])
        state = optimizer.state_dict()
        for place, name in enumerate(stored):
            state["state"][place] = {key: tensors[f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")}
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} is damaged, or belongs to another method ({error}); name another, or start again"
        ) from error
    optimizer.load_state_dict(state)
    return rest


def trained_names(unet: nn.Module) -> list[str]:
    """The names of the parameters that are trained, in the order of the optimizer."""
    return [name for name, parameter in unet.named_parameters() if parameter.requires_grad]
