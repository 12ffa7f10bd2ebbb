"""The loss of a training step against the formulas of DDPM, written down once more."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from accelerate import Accelerator

from fourierft.training.diffusion.arguments import DreamBoothArguments
from fourierft.training.diffusion.data import encode_concept, find_images, open_photo
from fourierft.training.diffusion.loop import Loop
from fourierft.training.diffusion.pipeline import load_pipeline
from fourierft.training.diffusion.trainer import attach

Build = Callable[..., DreamBoothArguments]


def build_loop(arguments: DreamBoothArguments, target: str) -> Loop:
    pipeline = load_pipeline(str(arguments.pipeline.model_name_or_path))
    pipeline.scheduler.register_to_config(prediction_type=target)
    images = [open_photo(path) for path in find_images(str(arguments.photos.instance_data_dir), "")]
    prompts = ("a photo of sks dog", "a photo of a dog")
    concepts = [encode_concept(pipeline, images, text, 16, False, torch.device("cpu")) for text in prompts]
    attach(pipeline.unet, arguments)
    return Loop(Accelerator(cpu=True), pipeline, concepts, arguments)


@pytest.mark.parametrize("target", ["epsilon", "v_prediction"])
def test_loss_is_the_error_in_the_noise_or_the_velocity(target: str, build: Build) -> None:
    loop = build_loop(build(per_device_train_batch_size=2, prior_loss_weight=0.25), target)
    drawn = loop._draw(1)
    assert [weight for _, _, weight in drawn] == [1.0, 1.0, 0.25, 0.25]  # two of the subject, two of its class
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, 0)
    errors = []
    for concept, sample, weight in drawn:
        signal, noise = kept[sample.timestep].sqrt().float(), (1 - kept[sample.timestep]).sqrt().float()
        noisy = signal * sample.latents + noise * sample.noise
        with torch.no_grad():
            found = loop.unet(noisy[None], sample.timestep, concept.text["hidden_states"]).sample[0]
        velocity = signal * sample.noise - noise * sample.latents
        errors.append(weight * (found - (sample.noise if target == "epsilon" else velocity)).square().mean())
    torch.testing.assert_close(loop._loss(drawn), sum(errors) / 2, rtol=1e-5, atol=1e-6)


def test_probe_leaves_everything_as_it_is(build: Build) -> None:
    loop = build_loop(build(), "epsilon")
    before = torch.get_rng_state()
    assert loop.probe() == loop.probe()
    assert torch.equal(torch.get_rng_state(), before)
