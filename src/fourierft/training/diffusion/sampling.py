"""Images made by a pipeline: image k of a folder depends on the seed and k alone, so that a folder can be filled up."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import torch

from fourierft.bars import bar
from fourierft.errors import CheckpointError, ConfigError, OutputExistsError
from fourierft.extras import needs
from fourierft.files import file_beside
from fourierft.training import output
from fourierft.training.diffusion.checkpoint import load_unet_adapter
from fourierft.training.diffusion.data import SUFFIXES
from fourierft.training.diffusion.pipeline import load_pipeline

MARK = "fourierft"  # a text in each image that is made: its prompt


def load_trained_pipeline(folder: str | Path, dtype: Any = torch.float32, allow_other_base: bool = False) -> Any:
    """The pipeline that a `fourierft dreambooth` trained, its adapter in place.

    Args:
        folder: that it wrote.
        dtype: of the pipeline.
        allow_other_base: take what stands in the base's place now, though the adapter was not made for it.

    Raises: CheckpointError, if the folder holds none, or the base is another now. ConfigError, if it can't be had.
    """
    record = output.read_record(folder)
    if record.get("task") != "dreambooth":
        raise CheckpointError(
            f"{folder} holds another kind of training; name a folder that `fourierft dreambooth` wrote"
        )
    pipeline = load_pipeline(record["base_model"], record["revision"], record["variant"], dtype)
    load_unet_adapter(pipeline.unet, folder, allow_other_base)
    return pipeline


def fill_folder(
    pipeline: Any,
    prompt: str,
    count: int,
    folder: str | Path,
    *,
    seed: int,
    steps: int,
    part: tuple[int, int] = (0, 1),
    **options: Any,
) -> list[Path]:
    """Make the images `0000.png`, ... of a text that a folder lacks of `count`; numbers that a file of another origin
    has are left out.

    Args:
        steps: of denoising.
        part: (k, n) makes the k-th of n parts, for processes that share the work.
        options: of the pipeline's call, such as guidance_scale, height and width.

    Returns: the paths of all of them.

    Raises: OutputExistsError, if the folder holds images that were made of another prompt.
    """
    folder = make_folder(folder)
    named = ((number, folder / f"{number:04d}.png") for number in itertools.count())
    paths = dict(itertools.islice(((n, path) for n, path in named if not path.exists() or read_mark(path)), count))
    other = next((mark for path in paths.values() if path.exists() and (mark := read_mark(path)) != prompt), None)
    if other is not None:
        raise OutputExistsError(
            f"{folder} holds images of the prompt {other!r}, not of {prompt!r}; name another folder"
        )
    missing = [number for number in list(paths)[part[0] :: part[1]] if not paths[number].exists()]
    for number in bar(missing, f"images in {folder.name}", "images", bool(missing) and not part[0]):
        generator = torch.Generator().manual_seed(seed + number)
        image = pipeline(prompt, num_inference_steps=steps, generator=generator, **options).images[0]
        with file_beside(paths[number]) as beside:
            image.save(beside, format="PNG", pnginfo=_mark(prompt))
    return list(paths.values())


def _mark(prompt: str) -> Any:
    with needs("diffusion", "making images"):
        from PIL.PngImagePlugin import PngInfo

    mark = PngInfo()
    mark.add_itxt(MARK, prompt)
    return mark


def read_mark(path: Path) -> str | None:
    """The prompt of an image that `fill_folder` made; None of any other."""
    with needs("diffusion", "reading images"):
        from PIL import Image

    try:
        with Image.open(path) as image:
            return str(image.info[MARK])
    except (OSError, KeyError):
        return None


def make_folder(folder: str | Path) -> Path:
    """A folder for images, made if it is not there.

    Raises: ConfigError, if it can't be made, as when it is a file.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} can't be a folder for images ({error.strerror}); name another") from error
    return Path(folder)


def count_others(folder: Path) -> int:
    """The images of a folder that `fill_folder` did not make."""
    if not folder.is_dir():
        return 0
    return sum(path.suffix.lower() in SUFFIXES and read_mark(path) is None for path in folder.iterdir())
