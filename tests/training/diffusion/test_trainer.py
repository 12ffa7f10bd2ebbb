"""DreamBooth trainings on tiny pipelines: they learn, and come out the same by another way."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import debug_launcher
from accelerate.state import AcceleratorState
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

from fourierft.errors import BusyError, ConfigError, OutputExistsError, PlaceError
from fourierft.training.diffusion.arguments import DreamBoothArguments
from fourierft.training.diffusion.loop import Loop
from fourierft.training.diffusion.sampling import load_trained_pipeline
from fourierft.training.diffusion.trainer import train_dreambooth
from fourierft.training.lock import held
from fourierft.training.trainer import TrainingInterrupted

Build = Callable[..., DreamBoothArguments]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def assert_close(left: Path, right: Path) -> None:
    ours, theirs = weights(left), weights(right)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("method", ["fourierft", "lora"])
def test_loss_on_fixed_samples_goes_down(method: str, build: Build, tmp_path: Path, run_card: Any) -> None:
    metrics = train_dreambooth(build(method=method, max_steps=20, learning_rate=1e-2))
    assert metrics["probe"]["after"] < 0.97 * metrics["probe"]["before"]
    layers = len(weights(tmp_path / "out")) // (2 if method == "lora" else 1)
    assert layers == 4 * 2 * 4  # q, k, v, out; attention to itself and to the text; blocks
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    assert [line["step"] for line in history] == list(range(1, 21))
    noise, text = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 32)
    with torch.no_grad():
        expected = load_trained_pipeline(tmp_path / "out", torch.float32).unet(noise, 1, text).sample
        for how, names in run_card(tmp_path / "out").items():
            torch.testing.assert_close(names["pipeline"].unet(noise, 1, text).sample, expected, msg=how)
            assert (tmp_path / "out" / "image.png").is_file()


def test_an_adapter_is_sent_to_the_hub_with_its_card(hub: Any, build: Build, tmp_path: Path) -> None:
    given = {"push_to_hub": True, "hub_model_id": "me/dog", "validation_prompt": "a dog", "num_inference_steps": 1}
    with pytest.raises(PlaceError, match="me/dog of the hub can't be written to"):
        train_dreambooth(build(max_steps=1, num_validation_images=1, **given))
    assert not (tmp_path / "out").exists()
    train_dreambooth(build(max_steps=1, num_validation_images=1, hub_token="hf_of_a_test", **given))
    sent = hub.repositories["me/dog"]
    weights, card = {"adapter_model.safetensors", "adapter_config.json"}, sent["README.md"].decode()
    assert set(sent) == {*weights, "README.md", "fourierft.json", "metrics.json", "history.json"}
    assert all((tmp_path / "out" / name).read_bytes() == content for name, content in sent.items())
    assert 'PeftModel.from_pretrained(pipeline.unet, "me/dog")' in card
    assert "pipeline_tag: text-to-image" in card


def test_xl_learns_with_its_class_in_bfloat16(build: Build, tiny_sdxl: Path, tmp_path: Path) -> None:
    settings = {"class_data_dir": str(tmp_path / "dogs"), "class_prompt": "a photo of a dog", "num_class_images": 2}
    settings |= {"num_inference_steps": 2, "mixed_precision": "bf16", "validation_prompt": "a photo of sks dog"}
    metrics = train_dreambooth(
        build(model_name_or_path=str(tiny_sdxl), max_steps=10, learning_rate=1e-2, num_validation_images=1, **settings)
    )
    assert metrics["probe"]["after"] < metrics["probe"]["before"]
    assert sorted(path.name for path in (tmp_path / "dogs").iterdir()) == ["0000.png", "0001.png"]
    assert (tmp_path / "out" / "validation" / "0000.png").exists()
    assert {value.dtype for value in weights(tmp_path / "out").values()} == {torch.float32}


def test_interrupted_and_resumed_equals_uninterrupted(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"lr_scheduler_type": "linear", "warmup_steps": 2, "random_flip": True, "weight_decay": 0.1}
    train_dreambooth(build(output_dir=str(tmp_path / "whole"), **settings))
    step = Loop._step

    def interrupted(self: Loop, number: int) -> float:
        if number == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", interrupted)
        with pytest.raises(TrainingInterrupted, match="interrupted at step 2 of 4"):
            train_dreambooth(build(**settings))
    with pytest.raises(ConfigError, match=r"belongs to another run \(seed 42 before, 1 now\)"):
        train_dreambooth(build(**settings, seed=1, resume_from_checkpoint="true"))
    with pytest.raises(ConfigError, match=r"max_grad_norm 1\.0 before, 0.5 now"):
        train_dreambooth(build(**settings, max_grad_norm=0.5, resume_from_checkpoint="true"))
    train_dreambooth(build(**settings, resume_from_checkpoint="true"))
    for name in ("adapter_model.safetensors", "history.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_folder_that_another_training_has_is_refused(build: Build, tmp_path: Path) -> None:
    with held(tmp_path / "out"), pytest.raises(BusyError, match=r"has been writing into .*out since"):
        train_dreambooth(build())


def test_two_processes_see_the_samples_of_one(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # accelerate warns where it has to choose
    train_dreambooth(build(per_device_train_batch_size=2, output_dir=str(tmp_path / "one")))
    AcceleratorState._reset_state(reset_partial_state=True)
    debug_launcher(train_dreambooth, (build(per_device_train_batch_size=1),), num_processes=2)
    losses = [
        [line["loss"] for line in json.loads((tmp_path / name / "history.json").read_text())] for name in ("one", "out")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert_close(tmp_path / "one", tmp_path / "out")


def test_accumulated_and_recomputed_is_the_same_step(build: Build, tmp_path: Path) -> None:
    train_dreambooth(build(per_device_train_batch_size=2, output_dir=str(tmp_path / "one")))
    train_dreambooth(build(gradient_accumulation_steps=2, gradient_checkpointing=True))
    assert_close(tmp_path / "one", tmp_path / "out")


def test_output_that_is_there_is_kept(build: Build, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="is not empty"):
        train_dreambooth(build())
    train_dreambooth(build(overwrite_output_dir=True, max_steps=1))
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_layers_that_are_not_there_are_named(build: Build) -> None:
    with pytest.raises(ConfigError, match="to_z"):
        train_dreambooth(build(target_modules=["to_z"]))


SD15 = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}


def test_dry_run_needs_no_weights_and_counts_the_layers_of_stable_diffusion(
    build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel(**SD15)
    unet.save_config(tmp_path / "sd15" / "unet")
    settings: dict[str, Any] = {"model_name_or_path": str(tmp_path / "sd15"), "dry_run": True}
    sizes = train_dreambooth(build(**settings, target_modules=["to_q", "to_v"], n_frequency=3000))
    assert sizes["parameters"] == {"adapter": 16 * 2 * 2 * 3000, "base": 859_520_964}
    assert "192,000 of the UNet's 859,520,964 numbers, 768.0 kB on disk" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
