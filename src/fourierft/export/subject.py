"""The adapter that is exported, on its base in float32, and what it answers to inputs drawn by a seed."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from torch import Tensor, nn

from fourierft.adapters.attachment import attach
from fourierft.adapters.base import BaseSource, explained, quiet
from fourierft.adapters.merge import own_tuner
from fourierft.errors import ExportError
from fourierft.format.checkpoint import AdapterCheckpoint, read_checkpoint
from fourierft.tuner.layer import FourierFTLayer

SEED = 0
ROWS, TOKENS = 2, 12  # of an example


class Subject(NamedTuple):
    """An adapter that is exported.

    Fields:
        checkpoint: as it is on disk.
        place: where its base is.
        base: the base model, without the adapter.
        model: the same with the adapter on it, in our tuner.
    """

    checkpoint: AdapterCheckpoint
    place: BaseSource
    base: nn.Module
    model: PeftModel

    @property
    def layers(self) -> dict[str, FourierFTLayer]:
        """Name in the base -> adapted layer."""
        return {module.path: module for module in self.model.modules() if isinstance(module, FourierFTLayer)}


def load_subject(
    source: str | Path, base: str | None = None, trust_remote_code: bool = False, allow_other_base: bool = False
) -> Subject:
    """Read an adapter, and put it on its base in float32.

    Args:
        source: folder or hub id of the adapter.
        base: folder or hub id instead of the one the adapter names.
        trust_remote_code: run model code that comes with the base.
        allow_other_base: take a base of the same shapes that the adapter was not made for.

    Raises: CheckpointError or ShapeError, if one is missing or damaged, or they do not fit.
    """
    checkpoint = read_checkpoint(source)
    place = BaseSource(checkpoint, base, trust_remote_code, allow_other_base)
    model: nn.Module = place.load("float32").eval()
    return Subject(checkpoint, place, model, put_on(copy.deepcopy(model), checkpoint, allow_other_base))


def put_on(model: nn.Module, checkpoint: AdapterCheckpoint, allow_other_base: bool = False) -> PeftModel:
    """A base model with an adapter on it, in our tuner, whichever PEFT is set to."""
    with own_tuner(), explained(str(checkpoint.path)), quiet(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)  # PEFT's call
        return attach(model, checkpoint, allow_other_base).eval()


def draw_inputs(model: nn.Module, rows: int = ROWS, tokens: int = TOKENS) -> dict[str, Tensor]:
    """Inputs of a model of texts or images, drawn by a seed.

    Args:
        model: of transformers.
        rows: of the batch.
        tokens: of a text; all but the first text end two tokens earlier, if they are that long.

    Raises: ExportError, if the model takes something else.
    """
    config: Any = model.config
    generator = torch.Generator().manual_seed(SEED)
    name = getattr(model, "main_input_name", None)
    if name == "pixel_values":
        size = config.image_size
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        shape = (rows, getattr(config, "num_channels", 3), height, width)
        return {name: torch.randn(shape, generator=generator)}
    if name != "input_ids":
        raise ExportError(
            f"a {type(model).__name__} takes {name or 'other inputs'}; only models of texts and images can be exported"
        )
    size = config.get_text_config().vocab_size
    ids = torch.randint(0, size, (rows, tokens), generator=generator)
    mask = torch.ones_like(ids)
    if tokens > 4:
        mask[1:, -2:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if config.is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.randint(0, size, (rows, tokens), generator=generator)
    return inputs


@torch.inference_mode()
def answer(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """The logits of a model, or its last hidden states if it has no head; those of tokens that are masked are zeros."""
    outputs = model(**inputs)
    if outputs.get("start_logits") is not None:
        return hide_masked(torch.stack([outputs["start_logits"], outputs["end_logits"]], dim=-1), inputs)
    found = outputs.get("logits")
    found = outputs[0] if found is None else found
    return hide_masked(found, inputs)


def hide_masked(outputs: Tensor, inputs: dict[str, Tensor]) -> Tensor:
    """Outputs with zeros for tokens that are masked, whose outputs mean nothing."""
    mask = inputs.get("attention_mask")
    if mask is None or "decoder_input_ids" in inputs or outputs.dim() != 3 or outputs.shape[:2] != mask.shape:
        return outputs
    return torch.where(mask.bool()[..., None], outputs, 0.0)
