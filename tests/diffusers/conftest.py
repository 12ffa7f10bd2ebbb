"""Pipelines of three kinds, and adapters in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

import fourierft
from fourierft.training.diffusion.pipeline import silent

ATTENTION, TEXT = ["to_q", "to_k", "to_v", "to_out.0"], ["q_proj", "v_proj"]
COMPONENTS = {
    "sd": ("unet", "text_encoder"),
    "xl": ("unet", "text_encoder", "text_encoder_2"),
    "flux": ("transformer", "text_encoder"),
}


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    fourierft.enable()
    yield
    fourierft.disable()


@pytest.fixture(params=list(COMPONENTS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(tiny_sd: Path, tiny_sdxl: Path) -> Callable[[str], Any]:
    """Loads a pipeline of a kind: the same weights each time."""

    def make(kind: str) -> Any:
        with silent():
            import diffusers

            if kind == "flux":
                pipeline = flux(diffusers, diffusers.DiffusionPipeline.from_pretrained(tiny_sd))
            else:
                pipeline = diffusers.DiffusionPipeline.from_pretrained(tiny_sd if kind == "sd" else tiny_sdxl)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    return make


def flux(diffusers: Any, other: Any) -> Any:
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(1)
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=[4, 4, 8],
    )
    encoder = T5EncoderModel(T5Config(vocab_size=100, d_model=32, d_ff=37, d_kv=8, num_layers=1, num_heads=4))
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=other.vae,
        text_encoder=other.text_encoder,
        text_encoder_2=encoder.eval(),
        tokenizer=other.tokenizer,
        tokenizer_2=other.tokenizer,
        transformer=transformer.eval(),
    )


def add(pipeline: Any, kind: str, name: str, seed: int, deviation: float = 0.02, **fields: Any) -> None:
    """Give all models of a pipeline an adapter of random numbers, as a training would leave it."""
    generator = torch.Generator().manual_seed(seed)
    for component in COMPONENTS[kind]:
        model = getattr(pipeline, component)
        targets = TEXT if component.startswith("text") else ATTENTION
        config = fourierft.FourierFTConfig(**{"n_frequency": 20, "target_modules": targets, **fields})
        config.base_model_name_or_path = model.__dict__.get("name_or_path")
        peft.inject_adapter_in_model(config, model, name)  # all as `add_adapter`, which asks for a release of PEFT
        model._hf_peft_config_loaded = True
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if key.endswith(f".fourierft_coefficients.{name}.weight"):
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation)


@torch.no_grad()
def draw(pipeline: Any) -> torch.Tensor:
    """Two steps of an image, as latents."""
    generator = torch.Generator().manual_seed(3)
    options = {"height": 16, "width": 16, "num_inference_steps": 2, "guidance_scale": 2.0, "output_type": "latent"}
    return pipeline("a dog", generator=generator, **options).images.float()
