"""One DreamBooth training from arguments to results: `train_dreambooth` is what `fourierft dreambooth` calls.

The text encoder and the autoencoder are frozen and run once; what is trained is an adapter of the UNet. On several
devices each takes its share of the samples of a step, and the losses are those of one device with all of them.
"""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from transformers import set_seed

from fourierft.errors import ConfigError, FourierFTError
from fourierft.tables import align_columns, format_bytes
from fourierft.training import output
from fourierft.training.checkpoints import find_checkpoint, read_run
from fourierft.training.diffusion.arguments import DreamBoothArguments
from fourierft.training.diffusion.card import write_card
from fourierft.training.diffusion.checkpoint import save_adapter, trained_names
from fourierft.training.diffusion.data import Concept, encode_concept, find_images, open_readable
from fourierft.training.diffusion.loop import PRECISIONS, Loop
from fourierft.training.diffusion.pipeline import build_unet, load_pipeline, native_size, text_encoders
from fourierft.training.diffusion.sampling import count_others, fill_folder, load_trained_pipeline
from fourierft.training.digests import digest_files
from fourierft.training.hub import find_license
from fourierft.training.lock import held
from fourierft.training.methods import adapter_config, adapter_settings, check_method
from fourierft.training.provenance import versions
from fourierft.training.report import without_nan
from fourierft.training.resuming import adapter_fields, as_json, check_same_run, describe_base
from fourierft.training.upload import list_results, make_repository, upload

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
VALIDATION = "validation"
PHOTOS = ("instance_prompt", "class_prompt", "prior_loss_weight", "image_size", "random_flip")
LOOP = (
    *("seed", "max_steps", "learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "max_grad_norm"),
    *("per_device_train_batch_size", "gradient_accumulation_steps"),
)


def train_dreambooth(arguments: DreamBoothArguments) -> dict[str, Any]:
    """Train, write the adapter into the output directory, and make images of the validation prompt there.

    Args:
        arguments: from `arguments.build_arguments`.

    Returns: the content of metrics.json: `probe` (mean loss on samples that stay the same, before and after), `train`,
        `parameters`, `bytes`, `seed`, `versions`. Of a dry run: parameters and bytes only.

    Raises: FourierFTError, if anything given is wrong, or another process trains into that directory.
        TrainingInterrupted, after SIGINT or SIGTERM.
    """
    options, named = arguments.loop, arguments.pipeline
    name, directory = str(named.model_name_or_path), Path(options.output_dir or "")
    if options.dry_run:
        unet = build_unet(name, named.model_revision)
        attach(unet, arguments)
        print(describe_training(unet, arguments))
        return sizes(unet)
    output.check_directory(directory)
    accelerator = _accelerator(arguments)
    with held(directory) if accelerator.is_main_process else nullcontext():
        return _train(arguments, name, directory, accelerator)


def _train(arguments: DreamBoothArguments, name: str, directory: Path, accelerator: Accelerator) -> dict[str, Any]:
    options, named = arguments.loop, arguments.pipeline
    output.check_output(directory, options.overwrite_output_dir, options.resume_from_checkpoint is not None)
    resume = options.resume_from_checkpoint
    checkpoint = find_checkpoint(resume, directory) if resume else None
    photos = find_images(str(arguments.photos.instance_data_dir), "instance_data_dir")
    pipeline = load_pipeline(name, named.model_revision, named.variant)
    concepts = _encode(pipeline, photos, arguments, accelerator)
    pipeline.vae.to("cpu")
    for encoder in text_encoders(pipeline):
        encoder.to("cpu")
    attach(pipeline.unet, arguments)
    record = _record(pipeline.unet, arguments, [len(concept) for concept in concepts], accelerator.num_processes)
    accelerator.print(describe_training(pipeline.unet, arguments, record["images"]))
    run = _describe_run(pipeline.unet, arguments, accelerator, photos)
    if checkpoint is not None:
        check_same_run(read_run(checkpoint), run, checkpoint)
    accelerator.wait_for_everyone()
    repository = None
    if accelerator.is_main_process:
        repository = make_repository(options)
        directory.mkdir(parents=True, exist_ok=True)
        if checkpoint is None:
            output.clear_output(directory)
            shutil.rmtree(directory / VALIDATION, ignore_errors=True)
        output.write_json(directory / output.RECORD, record)
    loop = Loop(accelerator, pipeline, concepts, arguments, run)
    metrics = {**loop.run(directory, checkpoint), **sizes(pipeline.unet), "seed": options.seed}
    metrics["versions"] = record["versions"]
    state = loop.state()
    if accelerator.is_main_process:
        staging = directory / output.STAGING
        staging.mkdir(exist_ok=True)
        save_adapter(pipeline.unet, state, name, staging)
        metrics["bytes"]["file"] = output.publish(directory, only_trained=False)
        output.write_json(directory / "metrics.json", without_nan(metrics))
        output.write_json(directory / output.HISTORY, [without_nan(line) for line in loop.history])
        write_card(metrics, record, directory, repository)
        if repository is not None:
            print(f"sent to {upload(directory, list_results(directory), repository, options)}", flush=True)
    accelerator.wait_for_everyone()
    if options.validation_prompt:
        del loop, pipeline, state
        trained = load_trained_pipeline(directory, PRECISIONS[accelerator.mixed_precision]).to(accelerator.device)
        count = options.num_validation_images
        _make_images(trained, options.validation_prompt, count, directory / VALIDATION, arguments, accelerator)
    return metrics


def attach(unet: Any, arguments: DreamBoothArguments) -> None:
    """Add the adapter of the method to a frozen UNet; its numbers are float32.

    Raises: ConfigError, if the method or its settings do not fit.
    """
    method = arguments.method.method
    check_method(method)
    if method in ("head", "bitfit", "full"):
        raise ConfigError(
            f"method={method} is not an adapter method; use fourierft, lora, or a PEFT adapter_config.json"
        )
    set_seed(arguments.loop.seed)
    config = adapter_config(arguments.method, unet, layers=list(TARGETS))
    if config.target_modules is None:
        config.target_modules = set(TARGETS)
    try:
        unet.add_adapter(config)
    except FourierFTError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the settings of the adapter do not fit this UNet: {' '.join(str(error).split())}"
        ) from error


def sizes(unet: Any) -> dict[str, Any]:
    """Numbers trained and in the base, and bytes of those trained."""
    trained = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    count, total = (sum(p.numel() for p in some) for some in (trained, unet.parameters()))
    return {
        "parameters": {"adapter": count, "base": total - count},
        "bytes": {"adapter": sum(parameter.nbytes for parameter in trained)},
    }


def describe_training(unet: Any, arguments: DreamBoothArguments, images: tuple[int, ...] = ()) -> str:
    """A table of what will be trained, on how many images of the subject and of its class."""
    config, size, photos = unet.peft_config["default"], sizes(unet), arguments.photos
    layers = len({name.split(".fourierft_")[0].split(".lora_")[0] for name in trained_names(unet)})
    settings = ", ".join(f"{name}={value}" for name, value in adapter_settings(config).items())
    counts = [f" ({number} images)" for number in images] or ["", ""]
    count, base = size["parameters"]["adapter"], size["parameters"]["base"]
    rows: list[tuple[str, ...]] = [
        ("model", str(arguments.pipeline.model_name_or_path)),
        ("subject", f"{photos.instance_prompt}{counts[0]}"),
        *([("class", f"{photos.class_prompt}{counts[-1]}")] if photos.class_prompt else []),
        ("method", f"{config.peft_type.value.lower()} in {layers} layers: {settings}"),
        ("trained", f"{count:,} of the UNet's {base:,} numbers, {format_bytes(size['bytes']['adapter'])} on disk"),
    ]
    return align_columns(rows)


def _accelerator(arguments: DreamBoothArguments) -> Accelerator:
    try:
        accelerator = Accelerator(mixed_precision=arguments.loop.mixed_precision, cpu=arguments.loop.use_cpu)
    except ValueError as error:
        raise ConfigError(" ".join(str(error).split())) from error
    if accelerator.mixed_precision not in PRECISIONS:
        raise ConfigError(f"mixed_precision={accelerator.mixed_precision} is not supported; use no, fp16 or bf16")
    return accelerator


def _encode(
    pipeline: Any, photos: list[Path], arguments: DreamBoothArguments, accelerator: Accelerator
) -> list[Concept]:
    """The subject, and its class if there is one, whose missing images are made first."""
    given, device = arguments.photos, accelerator.device
    side = given.image_size or native_size(pipeline)
    parts = [(photos, str(given.instance_prompt))]
    if given.class_data_dir and given.class_prompt:
        folder = Path(given.class_data_dir)
        missing = given.num_class_images - count_others(folder)
        _make_images(pipeline.to(device), given.class_prompt, missing, folder, arguments, accelerator)
        parts.append((find_images(folder, "class_data_dir"), given.class_prompt))
    return [
        encode_concept(pipeline, open_readable(paths, given.unreadable_images), prompt, side, given.random_flip, device)
        for paths, prompt in parts
    ]


def _make_images(
    pipeline: Any, prompt: str, count: int, folder: Path, arguments: DreamBoothArguments, accelerator: Accelerator
) -> None:
    """Fill a folder, each process with its part of the images."""
    side = arguments.photos.image_size or native_size(pipeline)
    fill_folder(
        pipeline,
        prompt,
        count,
        folder,
        seed=arguments.loop.seed,
        steps=arguments.loop.num_inference_steps,
        part=(accelerator.process_index, accelerator.num_processes),
        height=side,
        width=side,
    )
    accelerator.wait_for_everyone()


def _describe_run(
    unet: Any, arguments: DreamBoothArguments, accelerator: Accelerator, photos: list[Path]
) -> dict[str, Any]:
    """What makes the run, by name: data and base by their digests."""
    given, options, named = arguments.photos, arguments.loop, arguments.pipeline
    name = str(named.model_name_or_path)
    others = find_images(given.class_data_dir, "class_data_dir") if given.class_data_dir else []
    return as_json(
        {
            "base_model": describe_base(f"{name}/unet" if Path(name).is_dir() else name, named.model_revision),
            "variant": named.variant,
            **{each: getattr(given, each) for each in PHOTOS},
            **{each: getattr(options, each) for each in LOOP},
            "processes": accelerator.num_processes,
            "mixed_precision": accelerator.mixed_precision,
            **adapter_fields(unet.peft_config["default"].to_dict()),
            "instance photos": digest_files(photos),
            "class images": digest_files(others),
        }
    )


def _record(unet: Any, arguments: DreamBoothArguments, images: list[int], processes: int) -> dict[str, Any]:
    """What a training writes of itself, so that it can be resumed and sampled from."""
    options, named, config = arguments.loop, arguments.pipeline, unet.peft_config["default"]
    return {
        "format": 1,
        "task": "dreambooth",
        "base_model": named.model_name_or_path,
        "revision": named.model_revision,
        "variant": named.variant,
        "license": find_license(str(named.model_name_or_path), named.model_revision),
        "method": config.peft_type.value.lower(),
        "settings": adapter_settings(config),
        **{name: getattr(arguments.photos, name) for name in PHOTOS},
        "images": images,
        **{name: getattr(options, name) for name in LOOP},
        "processes": processes,
        "versions": versions(),
    }
