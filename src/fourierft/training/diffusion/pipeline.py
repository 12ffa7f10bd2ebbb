"""A text-to-image pipeline of diffusers: loading it, and what its frozen parts make of a text."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fourierft.adapters.base import quiet
from fourierft.errors import ConfigError
from fourierft.extras import needs
from fourierft.shared import shared
from fourierft.training.models import explained


def load_pipeline(name: str, revision: str = "main", variant: str | None = None, dtype: Any = torch.float32) -> Any:
    """A Stable Diffusion pipeline, XL or not, its weights from safetensors.

    Raises: ConfigError, if it can't be had or is another kind of pipeline. MissingExtraError, without diffusers.
    """
    with silent():
        with needs("diffusion", "DreamBooth"):
            from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
        with explained(name):
            pipeline: Any = DiffusionPipeline.from_pretrained(
                name, revision=revision, variant=variant, dtype=dtype, use_safetensors=True
            )
    is_known = isinstance(pipeline, (StableDiffusionPipeline, StableDiffusionXLPipeline))
    if not is_known:
        raise ConfigError(
            f"{name} is a {type(pipeline).__name__}; use a StableDiffusionPipeline or StableDiffusionXLPipeline"
        )
    pipeline.set_progress_bar_config(disable=True)
    for module in (pipeline.unet, pipeline.vae, *text_encoders(pipeline)):
        module.requires_grad_(False)
    return pipeline


def build_unet(name: str, revision: str = "main") -> Any:
    """The UNet of a pipeline from its config alone: on the meta device, without weights.

    Raises: ConfigError, if it can't be had. MissingExtraError, without diffusers.
    """
    with silent():
        with needs("diffusion", "DreamBooth"):
            from diffusers import UNet2DConditionModel
        with explained(name), torch.device("meta"):
            config = UNet2DConditionModel.load_config(name, subfolder="unet", revision=revision)
            return UNet2DConditionModel.from_config(config).requires_grad_(False)


def text_encoders(pipeline: Any) -> list[Any]:
    """Its text encoders: one, or two of XL."""
    both = (pipeline.text_encoder, getattr(pipeline, "text_encoder_2", None))
    return [encoder for encoder in both if encoder is not None]


def is_xl(pipeline: Any) -> bool:
    """Whether its UNet also wants a pooled text and the sizes of the image."""
    return getattr(pipeline, "text_encoder_2", None) is not None


def native_size(pipeline: Any) -> int:
    """Side in pixels of the images it was made for."""
    return int(pipeline.unet.config.sample_size * pipeline.vae_scale_factor)


@torch.no_grad()
def encode_prompt(pipeline: Any, prompt: str, device: torch.device) -> dict[str, Tensor]:
    """What the UNet reads of a text: `hidden_states` [1, tokens, width], and of XL `pooled` [1, width]."""
    for encoder in text_encoders(pipeline):
        encoder.to(device)
    encoded = pipeline.encode_prompt(
        prompt=prompt, device=device, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    states = {"hidden_states": encoded[0], **({"pooled": encoded[2]} if is_xl(pipeline) else {})}
    return {name: state.float().cpu() for name, state in states.items()}


@shared
@contextlib.contextmanager
def silent() -> Iterator[None]:
    """No progress bars and no advice about other backends, while diffusers is imported and loads.

    Raises: MissingExtraError, without diffusers.
    """
    with quiet():
        with needs("diffusion", "DreamBooth"):
            from diffusers.utils import logging
        level = logging.get_verbosity()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(level)
            logging.enable_progress_bar()
