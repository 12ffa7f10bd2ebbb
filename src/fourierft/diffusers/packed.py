"""An adapter of several components in one safetensors file, laid out as diffusers' `save_lora_weights` lays one out.

Tensors are named `<component>.<layer>.fourierft_spectrum`. The header has `lora_adapter_metadata`, an object in JSON
with the settings of all components, each field as `<component>.<field>`. `save_lora_adapter` of a single model writes
the same without the name of a component; it is read, too.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from fourierft.errors import CheckpointError
from fourierft.format.checkpoint import AdapterCheckpoint, check_adapter
from fourierft.format.config import AdapterConfig
from fourierft.format.json_file import parse_json
from fourierft.format.weights import PREFIX, read_tensors

WEIGHTS_NAME = "pytorch_lora_weights.safetensors"  # diffusers' own, whatever the method
METADATA = "lora_adapter_metadata"


class Part(NamedTuple):
    """The adapter of one component: checked, and its tensors by the names that PEFT has for them in the model."""

    checkpoint: AdapterCheckpoint
    tensors: dict[str, Tensor]

    @classmethod
    def of(cls, path: Path, config: AdapterConfig, tensors: Mapping[str, Tensor]) -> Part:
        """The adapter that settings and tensors are together, from a path.

        Raises: CheckpointError or ShapeError, if they are none.
        """
        checkpoint = check_adapter(path, config, tensors)
        return cls(checkpoint, {name.removeprefix(PREFIX): value for name, value in tensors.items()})


def read_packed(file: Path, components: Collection[str], otherwise: str) -> dict[str, Part]:
    """The adapters in a file, by component.

    Args:
        components: of the pipeline.
        otherwise: component that a file of a single model is for.

    Raises: CheckpointError or ShapeError, if it is damaged, has no settings, or a part that is of no component.
    """
    from safetensors import safe_open

    tensors = read_tensors(file)
    with safe_open(file, "pt") as opened:
        told = (opened.metadata() or {}).get(METADATA)
    content = parse_json(told, file) if told is not None else None
    if not isinstance(content, dict) or not any(field.rpartition(".")[2] == "peft_type" for field in content):
        raise CheckpointError(
            f"{file} has no settings of FourierFT adapters in its header; use a file "
            "that fourierft.diffusers wrote, or load LoRA files with the pipeline's "
            "load_lora_weights"
        )
    if "peft_type" in content:
        return {otherwise: Part.of(file, AdapterConfig.of(content, file), tensors)}
    found = {field.partition(".")[0] for field in content}
    strange = sorted((found ^ {name.partition(".")[0] for name in tensors}) | (found - set(components)))
    if strange:
        raise CheckpointError(
            f"{file} has a part {strange[0]!r} without settings, without numbers or "
            f"for an unknown component; the pipeline has {' and '.join(components)}: "
            "load the file into the pipeline that it was made for"
        )
    parts = {}
    for name in (name for name in components if name in found):
        config = AdapterConfig.of(_under(name, content), file / name)
        parts[name] = Part.of(file / name, config, _under(name, tensors))
    return parts


def write_packed(file: Path, parts: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Tensor]]]) -> None:
    """Write adapters by component, settings and tensors, into one file."""
    from safetensors.torch import save_file

    content: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    for component, (settings, weights) in parts.items():
        content |= {f"{component}.{field}": value for field, value in settings.items()}
        tensors |= {f"{component}.{name}": value for name, value in weights.items()}
    text = json.dumps(content, indent=2, sort_keys=True)
    save_file(tensors, file, metadata={METADATA: text})  # one entry: several would come in any order


def _under(component: str, entries: Mapping[str, Any]) -> dict[str, Any]:
    start = f"{component}."
    return {key.removeprefix(start): value for key, value in entries.items() if key.startswith(start)}
