"""Save an adapter of a pipeline, all its components together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from peft import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from fourierft.diffusers.components import adapter_names, find_components
from fourierft.diffusers.packed import write_packed
from fourierft.errors import ConfigError
from fourierft.files import as_path, check_file, check_output, file_beside, written_beside, written_to
from fourierft.format.config import CONFIG_FILE, WEIGHTS_FILE
from fourierft.format.weights import PREFIX
from fourierft.tuner.checkpoint import find_layers

Saved = tuple[dict[str, Any], dict[str, Tensor]]  # settings, and tensors by the names that PEFT has in a model


def save_adapter(pipeline: Any, path: str | Path, adapter_name: str = "default") -> Path:
    """Write a FourierFT adapter of a pipeline, of all its components, as it was trained: strengths are not saved.

    Args:
        pipeline: of diffusers.
        path: of one file, if it ends in .safetensors, which is replaced if it is there; else of a folder that gets a
            folder of PEFT's for each component.

    Returns: the path.

    Raises: ConfigError, if the pipeline has no such adapter, or it is merged. OutputExistsError, if the folder is there
        and is not empty. PlaceError, if nothing can be written there.
    """
    path, parts = as_path(path, "path"), _collect(pipeline, adapter_name)
    if path.suffix == ".safetensors":
        check_file(path)
        with written_to(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with file_beside(path) as beside:
                write_packed(beside, parts)
        return path
    check_output(path)
    with written_beside(path) as work:
        for component, (settings, tensors) in parts.items():
            (work / component).mkdir()
            save_file({f"{PREFIX}{name}": value for name, value in tensors.items()}, work / component / WEIGHTS_FILE)
            text = json.dumps(settings, indent=2, sort_keys=True)
            (work / component / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
    return path


def _collect(pipeline: Any, adapter_name: str) -> dict[str, Saved]:
    models: dict[str, Any] = find_components(pipeline)
    parts: dict[str, Saved] = {}
    for component, model in models.items():
        layers = find_layers(model, adapter_name)
        if not layers:
            continue
        if any(adapter_name in layer.merged_adapters for layer in layers.values()):
            raise ConfigError(f"the adapter {adapter_name!r} is merged into {component}; call unfuse_lora() first")
        embeddings: Any = "auto" if isinstance(model, PreTrainedModel) else False  # a UNet has none to be resized
        weights = get_peft_model_state_dict(model, adapter_name=adapter_name, save_embedding_layers=embeddings)
        settings = {**model.peft_config[adapter_name].to_dict(), "inference_mode": True}
        if not settings["base_model_name_or_path"]:  # which diffusers leaves out
            settings["base_model_name_or_path"] = str(pipeline.name_or_path or "") or None
        parts[component] = settings, {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    if not parts:
        known = sorted({name for model in models.values() for name in adapter_names(model)})
        raise ConfigError(
            f"the pipeline has no FourierFT adapter {adapter_name!r}; its adapters are {', '.join(known) or 'none'}"
        )
    return parts
