"""DreamBooth in small, from the first step to the scores: `fourierft dreambooth stand-in`.

A small Stable Diffusion learns all handwritten digits but the nine. Then eight nines teach it what `sks` is, by
FourierFT and by LoRA; images of `a photo of sks` made before and after are compared with sixty other nines, in the
eyes of DINOv2, and so are real nines, which is as good as it gets. What is there already is not made again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fourierft.extras import needs
from fourierft.training import output
from fourierft.training.comparison.sources import find_asset_model, read_digits
from fourierft.training.diffusion.arguments import build_arguments
from fourierft.training.diffusion.data import find_images
from fourierft.training.diffusion.pipeline import load_pipeline
from fourierft.training.diffusion.sampling import fill_folder, load_trained_pipeline
from fourierft.training.diffusion.scores import Eye, frechet_distance, likeness
from fourierft.training.diffusion.small import SIDE, make_small_pipeline, read_images
from fourierft.training.diffusion.trainer import train_dreambooth

with needs("diffusion", "reading images"):
    from PIL import Image

SUBJECT, PROMPT, SEED = "9", "a photo of sks", 0
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
METHODS: dict[str, dict[str, Any]] = {
    "LoRA r=4": {"method": "lora", "lora_r": 4, "lora_alpha": 8},
    "FourierFT n=500": {"method": "fourierft", "n_frequency": 500},
}
RESULTS, MARK = "results.jsonl", "stand-in.json"


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    autoencoder_steps: int = 400
    unet_steps: int = 1000
    photos: int = 8
    others: int = 60
    steps: int = 300
    learning_rate: float = 1e-2
    images: int = 32
    inference_steps: int = 20


def run_stand_in(folder: Path, sizes: Sizes | None = None) -> list[dict[str, Any]]:
    """Make what is missing of model, photos, adapters, images and scores.

    Returns: a line for the model as it was, for each method and for real photos: scores, and of a method loss on fixed
        samples, parameters and bytes.

    Raises: OutputExistsError, if the folder holds something else. DataError, if model or data can't be downloaded.
    """
    sizes = sizes or Sizes()
    output.open_results(folder, MARK)
    make_stand_in(folder, sizes)
    eye = Eye(str(find_asset_model("dinov2")))
    others = eye.look(find_images(folder / "others", "others"))
    lines: list[dict[str, Any]] = []
    for name, settings in {"before": None, **METHODS, "real photos": None}.items():
        place = folder / name.replace(" ", "-")
        line: dict[str, Any] = {"method": name, "seed": SEED}
        if settings:
            metrics = _train(folder, place, settings, sizes)
            line |= {"steps": sizes.steps, "learning_rate": sizes.learning_rate, "probe": metrics["probe"]}
            line |= {"parameters": metrics["parameters"]["adapter"], "bytes": metrics["bytes"]["file"]}
        if name == "real photos":
            images = find_images(place, name)
        else:
            pipeline = load_trained_pipeline(place) if settings else load_pipeline(str(folder / "model"))
            images = _sample(pipeline, folder / f"images-{place.name}", sizes)
        seen = eye.look(images)
        line |= {"images": len(images), "fid": frechet_distance(seen, others), "dino": likeness(seen, others)}
        lines.append(line)
    output.write_json_lines(folder / RESULTS, lines)
    return lines


def _sample(pipeline: Any, folder: Path, sizes: Sizes) -> list[Path]:
    return fill_folder(
        pipeline,
        PROMPT,
        sizes.images,
        folder,
        seed=SEED,
        steps=sizes.inference_steps,
        guidance_scale=2.0,
        height=SIDE,
        width=SIDE,
    )


def make_stand_in(folder: Path, sizes: Sizes) -> None:
    """Make what is not there: the model that knows all digits but the subject, photos of it, others to compare with."""
    if (folder / "model").is_dir():
        return
    rows = read_digits()
    subject = read_images([row for row in rows if row["label"] == SUBJECT])
    known = [row for row in rows if row["label"] != SUBJECT]
    parts = subject[: sizes.photos + sizes.others + sizes.images].split([sizes.photos, sizes.others, sizes.images])
    for name, part in zip(("photos", "others", "real-photos"), parts, strict=True):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(part):
            pixels = ((image.permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8)
            Image.fromarray(pixels.numpy()).save(folder / name / f"{number}.png")
    prompts = [f"a photo of {WORDS[int(row['label'])]}" for row in known]
    steps = {"autoencoder_steps": sizes.autoencoder_steps, "unet_steps": sizes.unet_steps}
    make_small_pipeline(read_images(known), prompts, folder / "model", **steps, seed=SEED)


def _train(folder: Path, place: Path, method: dict[str, Any], sizes: Sizes) -> dict[str, Any]:
    """Train an adapter, or read what the last call wrote of it."""
    if (place / "metrics.json").exists():
        metrics: dict[str, Any] = json.loads((place / "metrics.json").read_text(encoding="utf-8"))
        return metrics
    settings = {
        "model_name_or_path": str(folder / "model"),
        "instance_data_dir": str(folder / "photos"),
        "instance_prompt": PROMPT,
        "output_dir": str(place),
        "overwrite_output_dir": True,
        "max_steps": sizes.steps,
        "per_device_train_batch_size": sizes.photos,
        "learning_rate": sizes.learning_rate,
        "lr_scheduler_type": "linear",
        "seed": SEED,
        "save_steps": 0,
        "use_cpu": True,
    }
    return train_dreambooth(build_arguments({**settings, **method}))
