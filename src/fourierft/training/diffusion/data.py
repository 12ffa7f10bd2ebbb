"""Photos and their text as a UNet is trained on them: encoded once, drawn by number.

Training sample k is a function of the seed and k alone: which photo, its noise and its timestep. So a training resumed
in the middle sees what it would have seen, and so do several processes that share the samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fourierft.bars import bar
from fourierft.errors import DataError
from fourierft.extras import needs
from fourierft.training.diffusion.pipeline import encode_prompt, is_xl
from fourierft.training.pixels import as_rgb

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True)
class Concept:
    """Photos that one text is to mean.

    Attributes:
        means, deviations: of the latents [photos, flips, channels, height, width]; flips is 2 if they are mirrored.
        text: from `encode_prompt`.
        sizes: of XL [photos, 6]: height and width of the photo, where the square begins, side of the square.
    """

    means: Tensor
    deviations: Tensor
    text: dict[str, Tensor]
    sizes: Tensor

    def __len__(self) -> int:
        return len(self.means)


@dataclass(frozen=True)
class Sample:
    """Latents [channels, height, width], the noise to find in them, the timestep, and the size [6] of the photo."""

    latents: Tensor
    noise: Tensor
    timestep: Tensor
    sizes: Tensor


def find_images(folder: str | Path, setting: str) -> list[Path]:
    """The images of a folder, by name.

    Raises: DataError, if it is missing or holds none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{setting}={folder} is not a folder; name a folder of images")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise DataError(f"{folder} holds no images ({', '.join(SUFFIXES)}); put some there, or name another folder")
    return found


def open_photo(path: Path) -> Any:
    """A photo as it is to be seen, in RGB.

    Raises: DataError, if it can't be read. MissingExtraError, without Pillow.
    """
    with needs("diffusion", "reading images"):
        from PIL import Image, ImageOps
    try:
        with Image.open(path) as image:
            return as_rgb(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} can't be read as an image; replace or remove it") from error


def open_readable(paths: Iterable[Path], unreadable: str) -> list[Any]:
    """The photos, without those that can't be read if `unreadable` is skip; they are named.

    Raises: DataError, if one can't be read and `unreadable` is stop, or none can.
    """
    photos = []
    for path in paths:
        try:
            photos.append(open_photo(path))
        except DataError as error:
            if unreadable == "stop":
                raise DataError(f"{error}, or leave it out with --unreadable_images skip") from error
            print(f"skipped {path}: it can't be read as an image", flush=True)
    if not photos:
        raise DataError("none of the images can be read; give at least one that can")
    return photos


def cut_square(photo: Any, side: int) -> tuple[Tensor, list[int]]:
    """The middle of a photo, resized so that its shorter side fits.

    Returns: pixels [3, side, side] from -1 to 1, and the six numbers of `Concept.sizes`.
    """
    with needs("diffusion", "reading images"):
        from PIL import Image

    scale = side / min(photo.size)
    width, height = (max(side, round(length * scale)) for length in photo.size)
    left, top = (width - side) // 2, (height - side) // 2
    cut = photo.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + side, top + side))
    pixels = torch.from_numpy(np.array(cut, dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1
    return pixels, [photo.size[1], photo.size[0], top, left, side, side]


@torch.no_grad()
def encode_concept(
    pipeline: Any, photos: list[Any], prompt: str, side: int, flip: bool, device: torch.device
) -> Concept:
    """Photos and their text, encoded by the frozen parts of a pipeline, on the CPU."""
    vae = pipeline.vae.to(device)
    means, deviations, sizes = [], [], []
    for photo in bar(photos, "encoding photos", "photos"):
        pixels, size = cut_square(photo, side)
        views = torch.stack([pixels, pixels.flip(-1)] if flip else [pixels])
        latents = vae.encode(views.to(device, vae.dtype)).latent_dist
        means.append(latents.mean.float().cpu())
        deviations.append(latents.std.float().cpu())
        sizes.append(size)
    factor = vae.config.scaling_factor
    return Concept(
        torch.stack(means) * factor,
        torch.stack(deviations) * factor,
        encode_prompt(pipeline, prompt, device),
        torch.tensor(sizes, dtype=torch.float32) if is_xl(pipeline) else torch.zeros(len(photos), 0),
    )


def draw_sample(concept: Concept, number: int, seed: int, stream: int, timesteps: int) -> Sample:
    """Training sample `number` of a concept: every photo once in each round, in an order of the round's own.

    Args:
        stream: samples of the same number and seed in two streams have nothing in common.
        timesteps: to draw one of.
    """
    generator = _generator(seed, stream, number)
    turn, place = divmod(number, len(concept))
    photo = int(torch.randperm(len(concept), generator=_generator(seed, stream, turn, 1))[place])
    flip = int(torch.randint(concept.means.shape[1], (), generator=generator))
    mean, deviation = concept.means[photo, flip], concept.deviations[photo, flip]
    return Sample(
        latents=mean + deviation * torch.randn(mean.shape, generator=generator),
        noise=torch.randn(mean.shape, generator=generator),
        timestep=torch.randint(timesteps, (), generator=generator),
        sizes=concept.sizes[photo],
    )


def _generator(*numbers: int) -> torch.Generator:
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state))
