"""Teach a text-to-image model a subject from a few photos (DreamBooth), generate images of it, and score them.

The model is Stable Diffusion 1.x, 2.x or XL in diffusers' format. The command trains an adapter in the attention of the
UNet, by FourierFT or any other method of `fourierft train`. It writes the adapter in PEFT's format, metrics.json and a
card into --output_dir.

Examples:
  # five photos of a dog
  fourierft dreambooth --model_name_or_path stable-diffusion-v1-5/stable-diffusion-v1-5 --instance_data_dir photos \\
      --instance_prompt "a photo of sks dog" --output_dir dog

  # keep the meaning of the word dog: before training, the model generates images of the class
  fourierft dreambooth --model_name_or_path stable-diffusion-v1-5/stable-diffusion-v1-5 --instance_data_dir photos \\
      --class_data_dir dogs --instance_prompt "a photo of sks dog" --class_prompt "a photo of a dog" --output_dir dog

  # LoRA, for comparison
  fourierft dreambooth --model_name_or_path stable-diffusion-v1-5/stable-diffusion-v1-5 --instance_data_dir photos \\
      --instance_prompt "a photo of sks dog" --method lora --lora_r 8 --output_dir dog-lora

  # generate images, and score how similar to the photos they are
  fourierft dreambooth sample dog --prompt "a photo of sks dog on the moon" --images_dir moon
  fourierft dreambooth score moon --photos photos --prompt "a photo of sks dog on the moon" --features inception

  # try everything on a CPU: a small model of handwritten digits learns what a nine is
  fourierft dreambooth stand-in nines

Ctrl-C finishes the current step, saves a checkpoint and prints the command to resume. On several devices, run
`accelerate launch -m fourierft.cli.main dreambooth ...`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fourierft.cli.parser import count_from, resume_command, show_one_name

DTYPES = ("float32", "bfloat16", "float16")


def parents(asks_help: bool) -> list[argparse.ArgumentParser]:
    """All settings of the training, their defaults left out of the namespace."""
    from fourierft.training.diffusion.arguments import dreambooth_parser

    return [dreambooth_parser()]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --config, and the actions `sample` and `score`."""
    parser.usage = (
        "fourierft dreambooth [--config FILE] --model_name_or_path MODEL --instance_data_dir DIR "
        "--instance_prompt PROMPT --output_dir DIR [SETTINGS]\n"
        "       fourierft dreambooth sample DIR --prompt PROMPT --images_dir DIR\n"
        "       fourierft dreambooth score IMAGES --photos PHOTOS\n"
        "       fourierft dreambooth stand-in DIR"
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings; flags override it")
    for setting in parser._actions:
        show_one_name(setting)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", prog="fourierft dreambooth")

    def action(name: str, text: str, example: str) -> argparse.ArgumentParser:
        return actions.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.\n\n  fourierft dreambooth {name} {example}",
        )

    sample = action(
        "sample",
        "generate images with a trained adapter",
        'dog --prompt "a photo of sks dog on the moon" --images_dir moon --num_images 8',
    )
    sample.add_argument(
        "directory", metavar="DIR", help="folder that `fourierft dreambooth` wrote, or a pipeline without an adapter"
    )
    sample.add_argument("--prompt", required=True, help="prompt for the images")
    sample.add_argument(
        "--images_dir", required=True, metavar="DIR", help="folder for the images; images in it are kept"
    )
    sample.add_argument(
        "--num_images", type=count_from(1), default=4, metavar="N", help="images that the folder will have (default: 4)"
    )
    sample.add_argument(
        "--seed", type=int, default=42, metavar="N", help="random seed of the first image (default: 42)"
    )
    sample.add_argument(
        "--num_inference_steps",
        type=count_from(1),
        default=50,
        metavar="N",
        help="denoising steps for each image (default: 50)",
    )
    sample.add_argument(
        "--guidance_scale", type=float, default=7.5, metavar="X", help="guidance scale of the prompt (default: 7.5)"
    )
    sample.add_argument(
        "--image_size", type=int, metavar="PIXELS", help="side of the square images (default: the model's)"
    )
    sample.add_argument("--dtype", choices=DTYPES, default="float32", help="dtype of the weights (default: float32)")
    sample.add_argument(
        "--allow_other_base",
        action="store_true",
        help="accept a base model that the adapter was not made for (default: refuse)",
    )
    sample.add_argument("--use_cpu", action="store_true", help="use the CPU even if there is an accelerator")
    score = action(
        "score",
        "compare generated images with photos of the subject",
        'moon --photos photos --prompt "a photo of sks dog on the moon" --features inception',
    )
    score.add_argument("images", metavar="IMAGES", help="folder of generated images")
    score.add_argument("--photos", required=True, metavar="DIR", help="folder of photos of the subject")
    score.add_argument("--prompt", help="prompt of the images, for CLIP-T")
    score.add_argument(
        "--features",
        metavar="MODEL",
        help="vision model for FID: hub id or folder, or inception, which needs torch-fidelity (default: no FID)",
    )
    score.add_argument(
        "--dino", default="facebook/dino-vits16", metavar="MODEL", help="model for DINO, or none (default: %(default)s)"
    )
    score.add_argument(
        "--clip",
        default="openai/clip-vit-base-patch32",
        metavar="MODEL",
        help="model for CLIP, or none (default: %(default)s)",
    )
    score.add_argument("--use_cpu", action="store_true", help="use the CPU even if there is an accelerator")
    score.add_argument("--json", metavar="FILE", help="also write the scores into FILE, as JSON")
    small = action(
        "stand-in", "train and score a small model of handwritten digits, by LoRA and by FourierFT, on a CPU", "nines"
    )
    small.add_argument("directory", metavar="DIR", help="folder for the results; finished parts are not repeated")


def run(arguments: argparse.Namespace) -> int:
    """Train, sample or score; after an interruption, say how to go on."""
    if arguments.action == "stand-in":
        return _stand_in(arguments)
    if arguments.action == "sample":
        return _sample(arguments)
    if arguments.action == "score":
        return _score(arguments)
    return _train(arguments)


def _train(given: argparse.Namespace) -> int:
    from fourierft.tables import show_columns
    from fourierft.training.diffusion.arguments import build_arguments, known_settings, read_config
    from fourierft.training.diffusion.trainer import train_dreambooth
    from fourierft.training.trainer import TrainingInterrupted

    flags = {name: value for name, value in vars(given).items() if name in known_settings()}
    complete = build_arguments({**read_config(given.config), **flags} if given.config else flags)
    try:
        metrics = train_dreambooth(complete)
    except TrainingInterrupted as interruption:
        command = resume_command("dreambooth", given.config, flags)
        print(f"fourierft: {interruption}; resume with: {command}", file=sys.stderr)
        return 130
    if not complete.loop.dry_run:
        probe, train = metrics["probe"], metrics["train"]
        rows = [("loss before", f"{probe['before']:.4f}"), ("loss after", f"{probe['after']:.4f}")]
        rows += [
            ("seconds per step", f"{train['seconds_per_step']:.4f}"),
            ("written to", str(complete.loop.output_dir)),
        ]
        print(show_columns([tuple(row) for row in rows]))
    return 0


def _sample(given: argparse.Namespace) -> int:
    import torch

    from fourierft.training.devices import find_device
    from fourierft.training.diffusion.arguments import check_image_size
    from fourierft.training.diffusion.pipeline import load_pipeline, native_size
    from fourierft.training.diffusion.sampling import fill_folder, load_trained_pipeline, make_folder
    from fourierft.training.output import RECORD

    check_image_size(given.image_size)
    make_folder(given.images_dir)
    dtype = getattr(torch, given.dtype)
    is_trained = (Path(given.directory) / RECORD).exists()
    if is_trained:
        pipeline = load_trained_pipeline(given.directory, dtype, given.allow_other_base)
    else:
        pipeline = load_pipeline(given.directory, dtype=dtype)
    pipeline.to(find_device(given.use_cpu))
    side = given.image_size or native_size(pipeline)
    paths = fill_folder(
        pipeline,
        given.prompt,
        given.num_images,
        given.images_dir,
        seed=given.seed,
        steps=given.num_inference_steps,
        guidance_scale=given.guidance_scale,
        height=side,
        width=side,
    )
    print(f"{len(paths)} images in {given.images_dir}")
    return 0


def _score(given: argparse.Namespace) -> int:
    from fourierft.files import check_file
    from fourierft.tables import show_columns
    from fourierft.training.devices import find_device
    from fourierft.training.diffusion.data import find_images
    from fourierft.training.diffusion.scores import score_images
    from fourierft.training.output import write_json

    if given.json:
        check_file(given.json)
    made, photos = find_images(given.images, "IMAGES"), find_images(given.photos, "--photos")
    models = {name: None if getattr(given, name) == "none" else getattr(given, name) for name in ("dino", "clip")}
    scores = score_images(
        made, photos, features=given.features, prompt=given.prompt, device=find_device(given.use_cpu), **models
    )
    if given.json:
        write_json(Path(given.json), scores)
    print(show_columns([("images", str(len(made))), *((name, f"{value:.4f}") for name, value in scores.items())]))
    return 0


def _stand_in(given: argparse.Namespace) -> int:
    from fourierft.tables import show_columns
    from fourierft.training.diffusion.stand_in import run_stand_in

    rows: list[tuple[str, ...]] = [("method", "fid", "dino", "loss", "parameters")]
    for line in run_stand_in(Path(given.directory)):
        loss, parameters = line.get("probe", {}).get("after"), line.get("parameters", 0)
        scores = (f"{line['fid']:.2f}", f"{line['dino']:.4f}", "-" if loss is None else f"{loss:.4f}")
        rows.append((line["method"], *scores, f"{parameters:,}"))
    print(show_columns(rows))
    return 0
