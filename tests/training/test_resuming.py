"""A run goes on with the data and settings that made it, and with no others."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import TrainingArguments

from fourierft.errors import CheckpointError, ConfigError
from fourierft.training.arguments import Arguments
from fourierft.training.digests import digest_all
from fourierft.training.resuming import TRAINING, check_same_run
from fourierft.training.run import train

Build = Callable[..., Arguments]
FREE = {  # where to, how often, how fast, and on what machine
    *("output_dir", "per_device_eval_batch_size"),
    *("bf16_full_eval", "fp16_full_eval", "tf32", "activation_checkpointing", "activation_checkpointing_kwargs"),
    *("gradient_checkpointing", "gradient_checkpointing_kwargs", "torch_compile", "torch_compile_backend"),
    *("torch_compile_mode", "use_liger_kernel", "liger_kernel_config", "use_cache", "torch_empty_cache_steps"),
    *("logging_strategy", "logging_steps", "logging_first_step", "log_on_each_node", "logging_nan_inf_filter"),
    *("include_num_input_tokens_seen", "log_level", "log_level_replica", "disable_tqdm", "report_to", "run_name"),
    *("project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id", "eval_strategy", "eval_steps"),
    *("eval_delay", "prediction_loss_only", "eval_on_start", "eval_do_concat_batches", "eval_use_gather_object"),
    *("eval_accumulation_steps", "include_for_metrics", "batch_eval_metrics", "save_only_model", "save_strategy"),
    *("save_steps", "save_on_each_node", "save_total_limit", "enable_jit_checkpoint", "push_to_hub", "hub_token"),
    *("hub_private_repo", "hub_model_id", "hub_strategy", "hub_always_push", "hub_revision", "ignore_data_skip"),
    *("restore_callback_states_from_checkpoint", "full_determinism", "use_cpu", "parallelism_config"),
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers", "dataloader_prefetch_factor"),
    *("dataloader_multiprocessing_context", "dataloader_in_order", "remove_unused_columns", "label_names"),
    *("ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_static_graph", "ddp_backend"),
    *("ddp_timeout", "fsdp", "fsdp_config", "deepspeed", "debug", "skip_memory_metrics", "do_train", "do_eval"),
    *("do_predict", "resume_from_checkpoint", "local_rank"),
}


def test_every_training_argument_is_compared_or_free() -> None:
    names = {item.name for item in fields(TrainingArguments) if item.init}
    assert names - FREE == set(TRAINING)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the checkpoints of the module's one training go."""
    return tmp_path_factory.mktemp("saved") / "out"


@pytest.fixture
def trained(build: Build, saved: Path, tmp_path: Path) -> Path:
    """An output folder with checkpoints of steps 2, 4 and 6, on a copy of the base."""
    if not saved.exists():
        train(build(output_dir=str(saved), save_steps=2, save_total_limit=3))
    shutil.copytree(saved, tmp_path / "out")
    return tmp_path / "out"


def rewrite(source: Path, target: Path, change: Callable[[list[str]], list[str]]) -> str:
    with source.open(newline="") as old, target.open("w", newline="") as new:
        rows = list(csv.reader(old))
        csv.writer(new).writerows([rows[0], *map(change, rows[1:])])
    return str(target)


def flip_label(row: list[str]) -> list[str]:
    return [row[0], {"yes": "no", "no": "yes"}[row[1]], *row[2:]]


def test_rows_with_other_labels_or_texts_are_refused(
    build: Build, reviews: Path, trained: Path, tmp_path: Path
) -> None:
    for change in (flip_label, lambda row: [f"{row[0]} fine", *row[1:]]):
        other = rewrite(reviews, tmp_path / "other.csv", change)
        with pytest.raises(
            ConfigError, match=r"checkpoint-6 belongs to another run \(train rows 48, digest \w{16} before, 48"
        ):
            train(build(resume_from_checkpoint="true", train_file=other))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"learning_rate": 0.5}, "learning_rate 0.001 before, 0.5 now"),
        ({"head_learning_rate": 0.5}, "head_learning_rate None before, 0.5 now"),
        ({"per_device_train_batch_size": 4}, "per_device_train_batch_size 8 before, 4 now"),
        ({"seed": 1}, "seed 42 before, 1 now"),
        ({"max_steps": 12}, "max_steps 6 before, 12 now"),
        ({"weight_decay": 0.1}, "weight_decay 0.0 before, 0.1 now"),
        ({"n_frequency": 60}, "n_frequency 50 before, 60 now"),
        ({"random_loc_seed": 1}, "random_loc_seed 777 before, 1 now"),
        ({"max_length": 5}, "max_length 32 before, 5 now"),
        ({"dtype": "bfloat16"}, "dtype float32 before, bfloat16 now"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor 0.0 before, 0.1 now"),
        ({"validation_fraction": 0.5}, "train rows 48, digest"),
    ],
)
def test_other_settings_are_refused_by_name_with_both_values(
    build: Build, trained: Path, changed: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        train(build(resume_from_checkpoint="true", **changed))
    assert "resume with the settings and data of its start, or start again in another folder" in str(caught.value)


def test_another_base_under_the_same_name_is_refused(
    build: Build, trained: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    base = tmp_path / "bert"
    shutil.copytree(tiny_bert, base)
    weights = load_file(base / "model.safetensors")
    name = next(iter(weights))
    save_file({**weights, name: weights[name] + 1}, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"base_model sha256:.* before, sha256:"):
        train(build(resume_from_checkpoint="true", model_name_or_path=str(base)))


def test_paths_names_and_how_often_may_change(
    build: Build, trained: Path, reviews: Path, saved: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_bert, tmp_path / "moved base")
    shutil.copy(reviews, tmp_path / "renamed.csv")
    trained.rename(tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "elsewhere" / "checkpoint-6")
    metrics = train(
        build(
            model_name_or_path=str(tmp_path / "moved base"),
            train_file=str(tmp_path / "renamed.csv"),
            output_dir=str(tmp_path / "elsewhere"),
            resume_from_checkpoint="true",
            save_steps=1,
            logging_steps=1,
            dataloader_num_workers=1,
        )
    )
    assert metrics["train"]["steps"] == 6
    one, other = (load_file(path / "adapter_model.safetensors") for path in (saved, tmp_path / "elsewhere"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_best_model_is_found_in_a_folder_that_moved_and_its_damage_is_told(build: Build, tmp_path: Path) -> None:
    best = {"load_best_model_at_end": True, "eval_steps": 2, "save_steps": 2, "save_total_limit": 8, "max_steps": 8}
    whole = train(build(**best, learning_rate=0.5))
    (tmp_path / "out").rename(tmp_path / "moved")
    again = {**best, "learning_rate": 0.5, "output_dir": str(tmp_path / "moved"), "resume_from_checkpoint": "true"}
    (tmp_path / "moved" / "README.md").unlink()  # the last of its results: it was killed before
    metrics = train(build(**again))
    assert (metrics["saved"], metrics["eval"]) == ("best", whole["eval"])
    (tmp_path / "moved" / "README.md").unlink()
    path = tmp_path / "moved" / f"checkpoint-{whole['best']['step']}"
    (path / "adapter_model.safetensors").write_bytes(b"damaged")
    if whole["best"]["step"] < 8:
        with pytest.raises(CheckpointError, match=f"the best model, .*{path.name}, is damaged"):
            train(build(**again))
        shutil.rmtree(path)
        with pytest.raises(CheckpointError, match=f"the best model so far, .*{path.name}, is missing; restore it"):
            train(build(**again))


def test_digests_of_images_tell_pixels_labels_and_sizes_apart(tiny_dinov2: Path) -> None:
    import datasets
    from transformers import AutoImageProcessor

    from fourierft.training.families.images import EncodedImages, ImageClasses

    def digest(shade: int, label: int, side: int) -> str:
        rows = datasets.Dataset.from_dict({"image": [Image.new("RGB", (8, 8), (shade, 0, 0))]})
        processor = AutoImageProcessor.from_pretrained(tiny_dinov2, backend="pil")
        processor.size = type(processor.size)(height=side, width=side)
        encoded = EncodedImages(rows.cast_column("image", datasets.Image()), "image", [label], processor)
        return digest_all(ImageClasses().row_digests(encoded))

    assert digest(1, 0, 28) == digest(1, 0, 28)
    assert len({digest(1, 0, 28), digest(2, 0, 28), digest(1, 1, 28), digest(1, 0, 14)}) == 4


def test_long_values_are_shortened_and_names_of_one_side_are_left_alone(tmp_path: Path) -> None:
    before = {"labels": [f"class {k}" for k in range(99)], "gone": 1}
    check_same_run(before, {"labels": before["labels"], "new": 2}, tmp_path)
    with pytest.raises(ConfigError) as caught:
        check_same_run(before, {"labels": ["a"]}, tmp_path)
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


def test_coefficients_of_layers_of_several_shapes_come_back_to_the_bit(tiny_bert: Path, tmp_path: Path) -> None:
    from peft import get_peft_model
    from transformers import AutoModel

    import fourierft
    from fourierft.training.coefficients import load_exact, save_exact

    fourierft.enable()
    config = fourierft.FourierFTConfig(n_frequency=50, target_modules=["query", "intermediate.dense"])
    first, second = (get_peft_model(AutoModel.from_pretrained(tiny_bert), config) for _ in range(2))
    kept = {name: value for name, value in first.named_parameters() if value.requires_grad}
    with torch.no_grad():
        for value in kept.values():
            value.normal_()
    save_exact(first, tmp_path)
    load_exact(second, tmp_path)
    found = dict(second.named_parameters())
    assert len(kept) == 4
    assert all(torch.equal(found[name], value) for name, value in kept.items())
    load_exact(second, tmp_path / "elsewhere")
