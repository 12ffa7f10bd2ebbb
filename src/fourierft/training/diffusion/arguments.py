"""Everything `fourierft dreambooth` can be told; keys that transformers' TrainingArguments has too mean the same."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from fourierft.errors import ConfigError
from fourierft.training.arguments import MethodArguments, base_field
from fourierft.training.pictures import check_choice
from fourierft.training.settings import SettingsParser, as_flags, read_yaml

PRECISIONS = ("no", "fp16", "bf16")


def _setting(default: Any, metavar: str, text: str) -> Any:
    return field(default=default, metadata={"metavar": metavar, "help": text})


@dataclass
class PipelineArguments:
    """The text-to-image model."""

    _argument_group_name = "model"

    model_name_or_path: str | None = base_field("hub id or folder of a Stable Diffusion pipeline; required")
    model_revision: str = _setting("main", "REVISION", "branch, tag or commit of the model on the hub")
    variant: str | None = _setting(None, "NAME", "variant of the weight files, such as fp16")


@dataclass
class PhotoArguments:
    """The subject, and what it must not change."""

    _argument_group_name = "photos"

    instance_data_dir: str | None = _setting(None, "DIR", "folder of photos of the subject; required")
    instance_prompt: str | None = _setting(
        None, "PROMPT", "prompt that will mean the subject, such as 'a photo of sks dog'; required"
    )
    class_data_dir: str | None = _setting(
        None,
        "DIR",
        "folder of images of the class, so that its prompt keeps its meaning; the model makes missing images",
    )
    class_prompt: str | None = _setting(None, "PROMPT", "prompt of the class, such as 'a photo of a dog'")
    num_class_images: int = _setting(100, "N", "images of the class; the model makes missing ones")
    prior_loss_weight: float = _setting(1.0, "X", "weight of the loss on the class")
    image_size: int | None = _setting(
        None, "PIXELS", "side of the square that images are cut to (default: the model's)"
    )
    random_flip: bool = _setting(False, "BOOL", "mirror half of the images")
    unreadable_images: str = _setting("stop", "WHAT", "stop at an image that can't be read, or skip it")


@dataclass
class LoopArguments:
    """How to train, and where to."""

    _argument_group_name = "training"

    output_dir: str | None = _setting(None, "DIR", "folder for the results; required")
    overwrite_output_dir: bool = _setting(False, "BOOL", "write into an output folder that is not empty")
    resume_from_checkpoint: str | None = _setting(
        None, "CHECKPOINT", "continue from a checkpoint: its folder, or true for the last one in --output_dir"
    )
    dry_run: bool = _setting(False, "BOOL", "print what would be trained, and train nothing")
    max_steps: int = _setting(400, "N", "optimizer steps")
    per_device_train_batch_size: int = _setting(1, "N", "photos of the subject in a batch, and as many of the class")
    gradient_accumulation_steps: int = _setting(1, "N", "batches for each optimizer step")
    gradient_checkpointing: bool = _setting(False, "BOOL", "compute activations twice, to save memory")
    mixed_precision: str | None = _setting(
        None, "PRECISION", f"{', '.join(PRECISIONS)} (default: accelerate's configuration)"
    )
    learning_rate: float = _setting(1e-4, "LR", "peak learning rate, as for LoRA")
    lr_scheduler_type: str = _setting(
        "constant", "NAME", "schedule of the learning rate: constant, linear, cosine or another of transformers"
    )
    warmup_steps: int = _setting(0, "N", "steps in which the learning rate rises")
    weight_decay: float = _setting(0.0, "X", "weight decay of AdamW")
    max_grad_norm: float = _setting(1.0, "X", "norm to clip the gradient to; 0: no clipping")
    seed: int = _setting(42, "SEED", "random seed of weights, noise, timesteps and order")
    save_steps: int = _setting(100, "N", "steps between checkpoints; 0: only on Ctrl-C")
    save_total_limit: int = _setting(2, "N", "checkpoints to keep")
    push_to_hub: bool = _setting(False, "BOOL", "upload the adapter and its card to the hub at the end")
    hub_model_id: str | None = _setting(
        None, "NAME", "repository on the hub, created if missing (default: name of --output_dir)"
    )
    hub_private_repo: bool | None = _setting(None, "BOOL", "make the repository private")
    hub_token: str | None = _setting(None, "TOKEN", "token for the hub (default: that of `hf auth login`)")
    hub_revision: str | None = _setting(None, "BRANCH", "branch of the repository (default: main)")
    logging_steps: int = _setting(10, "N", "steps between lines of history.json")
    validation_prompt: str | None = _setting(None, "PROMPT", "prompt for images to make after training")
    num_validation_images: int = _setting(4, "N", "images to make for --validation_prompt")
    num_inference_steps: int = _setting(50, "N", "denoising steps for each image")
    use_cpu: bool = _setting(False, "BOOL", "train on the CPU even if there is an accelerator")


@dataclass
class DreamBoothArguments:
    """All settings of one run."""

    pipeline: PipelineArguments
    photos: PhotoArguments
    method: MethodArguments
    loop: LoopArguments


KINDS: tuple[Any, ...] = (PipelineArguments, PhotoArguments, MethodArguments, LoopArguments)
REQUIRED = ("model_name_or_path", "instance_data_dir", "instance_prompt", "output_dir")
LEFT_OUT = ("head_learning_rate",)  # a UNet has no head


def dreambooth_parser() -> SettingsParser:
    """A parser of every setting; its namespace holds what was given and nothing else."""
    parser = SettingsParser(KINDS, add_help=False)
    for action in parser._actions:
        default = action.default
        if action.help and default is not None:
            action.help = f"{action.help} (default: {default})".replace("%", "%%")
        action.default = argparse.SUPPRESS
        if action.const is True and action.metavar is None:
            action.metavar = "BOOL"
        if action.dest in LEFT_OUT or action.const is False:
            action.help = argparse.SUPPRESS
    return parser


def known_settings() -> set[str]:
    return {item.name for kind in KINDS for item in fields(kind)} - set(LEFT_OUT)


def read_config(path: str | Path) -> dict[str, Any]:
    """The settings of a YAML file, checked and converted as the flags of the same names would be.

    Raises: ConfigError, if the file can't be read, or holds an unknown key or a wrong value.
    """
    source = f"config file {path}"
    content = read_yaml(path, source)
    _check_names(content, source)
    try:
        return vars(dreambooth_parser().parse_args(as_flags(content)))
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def build_arguments(settings: Mapping[str, Any]) -> DreamBoothArguments:
    """The arguments of a run from what was given, defaults filled in.

    Raises: ConfigError, if a name is unknown, a required setting is missing, or a value is out of range.
    """
    _check_names(settings, "the call")
    for name in REQUIRED:
        if not settings.get(name) and not (name == "output_dir" and settings.get("dry_run")):
            raise ConfigError(f"{name} is missing; give --{name}")
    arguments = DreamBoothArguments(*(_fill(kind, settings) for kind in KINDS))
    _check_values(arguments)
    return arguments


def check_image_size(side: int | None) -> None:
    """Raise ConfigError if images of this side don't fit pipelines of diffusers; None is the pipeline's own."""
    if side is not None and (side < 1 or side % 8):
        raise ConfigError(f"image_size={side} is not a multiple of 8; use one, such as {max(8, side // 8 * 8)}")


def _fill(kind: Any, settings: Mapping[str, Any]) -> Any:
    return kind(**{item.name: settings[item.name] for item in fields(kind) if item.name in settings})


def _check_names(settings: Mapping[str, Any], source: str) -> None:
    known = known_settings()
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else "see `fourierft dreambooth --help`"
            raise ConfigError(f"{source} has the unknown key {name}; {hint}")


def _check_values(arguments: DreamBoothArguments) -> None:
    photos, loop = arguments.photos, arguments.loop
    for part, names in (
        (photos, ("num_class_images",)),
        (loop, ("max_steps", "per_device_train_batch_size", "gradient_accumulation_steps", "logging_steps")),
        (loop, ("save_total_limit", "num_inference_steps")),
    ):
        for name in names:
            value = getattr(part, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}={value} is not positive; use a whole number of at least 1")
    check_image_size(photos.image_size)
    if (photos.class_data_dir is None) != (photos.class_prompt is None):
        raise ConfigError("class_data_dir and class_prompt belong together; give both, or neither")
    check_choice(photos.unreadable_images)
    if loop.mixed_precision not in (None, *PRECISIONS):
        raise ConfigError(f"mixed_precision={loop.mixed_precision} is unknown; use one of {', '.join(PRECISIONS)}")
