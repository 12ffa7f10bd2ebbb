"""A small Stable Diffusion trained in minutes on handwritten digits: what the commands are tried on without the hub.

It has all the parts of the real one: an autoencoder that halves images of 16 pixels, a UNet with attention to the text
at every level, and a text encoder, which stays as it was drawn, since words need only differ.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fourierft.bars import bar
from fourierft.extras import needs
from fourierft.files import written_beside
from fourierft.training.diffusion.pipeline import encode_prompt, silent

SIDE, BATCH = 16, 16
DROPPED = 0.1  # share of images trained without their text, so that guidance has something to lead away from


def build_small_pipeline(folder: Path) -> Any:
    """A pipeline of random weights; its tokenizer, of letters, is written to the folder first."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    with silent(), needs("diffusion", "DreamBooth"):
        from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=24)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=24,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_factor=5.0,  # random, yet words differ
    )
    unet = UNet2DConditionModel(
        sample_size=SIDE // 2,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=4,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 32),
        norm_num_groups=8,
        latent_channels=4,
        sample_size=SIDE,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def make_small_pipeline(
    images: Tensor, prompts: Sequence[str], folder: Path, *, autoencoder_steps: int, unet_steps: int, seed: int
) -> None:
    """Train a small pipeline and save it, whole or not at all.

    Args:
        images: [images, 3, 16, 16], from -1 to 1.
        prompts: what each of them shows.
    """
    torch.manual_seed(seed)
    with written_beside(folder) as work:
        (work / "words").mkdir()
        pipeline = build_small_pipeline(work / "words")
        latents = _train_autoencoder(pipeline, images, autoencoder_steps)
        _train_unet(pipeline, latents, prompts, unet_steps)
        with silent():
            pipeline.save_pretrained(work)


def read_images(rows: Sequence[Mapping[str, Any]]) -> Tensor:
    """The middle of images as [rows, 3, 16, 16] from -1 to 1; rows store theirs, 28 x 28 and grey, as bytes."""
    import numpy as np

    with needs("diffusion", "reading images"):
        from PIL import Image

    pixels = []
    for row in rows:
        middle = Image.open(io.BytesIO(row["image"]["bytes"])).crop((2, 2, 26, 26))
        pixels.append(np.array(middle.resize((SIDE, SIDE), Image.Resampling.BILINEAR), dtype=np.float32))
    return (torch.from_numpy(np.stack(pixels))[:, None] / 127.5 - 1).expand(-1, 3, -1, -1).contiguous()


def _train_autoencoder(pipeline: Any, images: Tensor, steps: int) -> Tensor:
    """Squared error and a little of the latents' divergence; returns the latents, scaled to a deviation of 1."""
    vae = pipeline.vae.train()
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for rows in _batches(len(images), steps, "autoencoder"):
        posterior = vae.encode(images[rows]).latent_dist
        error = (vae.decode(posterior.sample()).sample - images[rows]).square().mean()
        (error + 1e-5 * posterior.kl().mean()).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    vae.eval()
    with torch.no_grad():
        means = torch.cat([vae.encode(part).latent_dist.mean for part in images.split(BATCH)])
    vae.register_to_config(scaling_factor=float(1 / means.std()))
    return means / means.std()


def _train_unet(pipeline: Any, latents: Tensor, prompts: Sequence[str], steps: int) -> None:
    """The loss of DDPM, some images without their text."""
    texts = {text: encode_prompt(pipeline, text, torch.device("cpu"))["hidden_states"] for text in {*prompts, ""}}
    unet, scheduler = pipeline.unet.train(), pipeline.scheduler
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    for rows in _batches(len(latents), steps, "UNet"):
        noise, dropped = torch.randn(len(rows), *latents.shape[1:]), torch.rand(len(rows)) < DROPPED
        timesteps = torch.randint(scheduler.config.num_train_timesteps, (len(rows),))
        hidden = torch.cat(
            [texts["" if bare else prompts[row]] for row, bare in zip(rows.tolist(), dropped, strict=True)]
        )
        noisy = scheduler.add_noise(latents[rows], noise, timesteps)
        (unet(noisy, timesteps, hidden).sample - noise).square().mean().backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    unet.eval()


def _batches(count: int, steps: int, what: str) -> Iterator[Tensor]:
    """Numbers of rows drawn by chance, a batch a step."""
    for _ in bar(range(steps), f"training the {what}", "steps"):
        yield torch.randint(count, (min(BATCH, count),))
