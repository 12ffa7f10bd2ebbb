"""Two processes train as one does: the same losses, one whole adapter, resumable. Replicated (DDP), sharded (FSDP2)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fourierft.training.arguments import Arguments
from fourierft.training.evaluation import evaluate
from fourierft.training.run import train
from fourierft.training.settings import build_arguments

Settings = dict[str, Any]
Build = Callable[..., Arguments]
PROGRAM = Path(__file__).with_name("two_processes.py")
CONFIG = Path(__file__).parents[2] / "recipes" / "accelerate" / "fsdp2.yaml"
ACCUMULATED = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "gradient_checkpointing": True}
LOW, MIXED = {"dtype": "bfloat16"}, {"bf16": True}


@pytest.fixture(scope="module")
def common(tiny_bert: Path, reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of 6 steps of 8 rows, without dropout, which every process would draw for itself."""
    model = shutil.copytree(tiny_bert, tmp_path_factory.mktemp("still") / "model")
    config = json.loads((model / "config.json").read_text())
    still = {**config, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (model / "config.json").write_text(json.dumps(still))
    return {
        "model_name_or_path": str(model),
        "train_file": str(reviews),
        "n_frequency": 50,
        "target_modules": ["query", "value"],
        "max_steps": 6,
        "validation_fraction": 0.25,
        "learning_rate": 1e-2,
        "head_learning_rate": 1e-3,
        "eval_strategy": "epoch",
        "save_steps": 3,
        "logging_steps": 1,
        "use_cpu": True,
        "disable_tqdm": True,
    }


@pytest.fixture(scope="module")
def answers(tiny_llama: Path) -> Settings:
    """Settings of a language model."""
    columns = {"text_column": ["text"], "label_column": "label", "head_learning_rate": None}
    columns |= {"target_modules": ["q_proj", "v_proj"]}
    return {"model_name_or_path": str(tiny_llama), "task": "answers", **columns}


@pytest.fixture(scope="module")
def alone(common: Settings, answers: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of trainings by one process."""
    folder = tmp_path_factory.mktemp("alone")
    for name, more in {"plain": {}, "low": LOW, "answers": answers}.items():
        train(build_arguments({**common, **more, "per_device_train_batch_size": 8, "output_dir": str(folder / name)}))
    return folder


def run_together(common: Settings, folder: Path, variants: Mapping[str, Settings], **environment: str) -> str:
    """Train each variant in two processes, into a folder of its name; what was printed."""
    folders = {name: {"output_dir": str(folder / name), "per_device_train_batch_size": 4} for name in variants}
    settings = [{**common, **folders[name], **more} for name, more in variants.items()]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    result = subprocess.run(
        [*command, str(PROGRAM), json.dumps(settings)],
        capture_output=True,
        text=True,
        timeout=1800,  # nothing waits for ever, and a machine may be busy
        check=False,
        env={**os.environ, **environment},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("together") == len(variants)  # one process speaks
    return result.stdout


@pytest.fixture(scope="module")
def replicated(common: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of trainings by two processes that each hold the whole model."""
    folder = tmp_path_factory.mktemp("replicated")
    resumed = {"resume_from_checkpoint": str(folder / "plain" / "checkpoint-3")}
    run_together(common, folder, {"plain": {}, "resumed": resumed, "accumulated": ACCUMULATED})
    return folder


@pytest.fixture(scope="module")
def sharded(common: Settings, answers: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of trainings by two processes that each hold half of the model, as the config file of recipes/ says."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    arguments = launch_command_parser().parse_args(["--config_file", str(CONFIG), str(PROGRAM)])
    environment = prepare_multi_gpu_env(_validate_launch_command(arguments)[0])
    told = {name: value for name, value in environment.items() if name.startswith(("FSDP_", "ACCELERATE_"))}
    assert (told["ACCELERATE_USE_FSDP"], told["FSDP_VERSION"]) == ("true", "2")
    folder = tmp_path_factory.mktemp("sharded")
    resumed = {"resume_from_checkpoint": str(folder / "plain" / "checkpoint-3")}
    variants: dict[str, Any] = {"plain": {}, "resumed": resumed, "accumulated": ACCUMULATED}
    others: dict[str, Any] = {"low": LOW, "mixed": MIXED, "answers": answers, "head": {"method": "head"}}
    run_together(common, folder, {**variants, **others}, **told)
    return folder


@pytest.fixture(params=["replicated", "sharded"])
def together(request: pytest.FixtureRequest) -> Path:
    return Path(request.getfixturevalue(request.param))


def losses(folder: Path) -> list[float]:
    history = json.loads((folder / "history.json").read_text())
    return [log["loss"] for log in history if "loss" in log]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.glob("*.safetensors")  # one file, whatever the number of processes
    return load_file(file)


def assert_close(first: Path, second: Path, tolerance: float) -> None:
    one, other = weights(first), weights(second)
    assert {name: tensor.shape for name, tensor in one.items()} == {name: t.shape for name, t in other.items()}
    assert all(one[name].dtype == other[name].dtype for name in one)
    for name, tensor in one.items():
        assert (tensor - other[name]).abs().max() <= tolerance * max(tensor.abs().max(), 1e-3)


def test_losses_and_adapter_are_those_of_one_process(together: Path, alone: Path) -> None:
    assert losses(together / "plain") == pytest.approx(losses(alone / "plain"), rel=1e-3)
    assert_close(alone / "plain", together / "plain", 1e-3)


def test_accumulation_and_gradient_checkpointing_change_nothing(together: Path, alone: Path) -> None:
    assert losses(together / "accumulated") == pytest.approx(losses(alone / "plain"), rel=1e-3)
    assert_close(alone / "plain", together / "accumulated", 1e-3)


def test_resumed_training_reaches_the_same_adapter(together: Path) -> None:
    assert_close(together / "plain", together / "resumed", 0.0)
    assert losses(together / "resumed") == losses(together / "plain")
    checkpoints = {path.name for path in (together / "resumed").glob("checkpoint-*")}
    assert checkpoints == {"checkpoint-6"}  # the first half was not done again


def test_adapter_reloads_in_one_process_with_the_metrics_reported(
    together: Path, alone: Path, common: Settings, build: Build
) -> None:
    metrics = json.loads((together / "plain" / "metrics.json").read_text())
    assert metrics["bytes"]["file"] == (together / "plain" / "adapter_model.safetensors").stat().st_size
    assert metrics["parameters"] == json.loads((alone / "plain" / "metrics.json").read_text())["parameters"]
    data = build(test_file=common["train_file"]).data
    found, expected = (evaluate(path / "plain", data, use_cpu=True).metrics["loss"] for path in (together, alone))
    assert found == pytest.approx(expected, rel=1e-3)


def test_float32_coefficients_train_over_a_sharded_bfloat16_base(sharded: Path, alone: Path) -> None:
    assert losses(sharded / "low") == pytest.approx(losses(alone / "low"), rel=2e-2)  # sums of bfloat16 differ in order
    saved = weights(sharded / "low")
    spectra = {name: tensor for name, tensor in saved.items() if "spectrum" in name}
    assert len(spectra) == 4
    assert all(tensor.dtype == torch.float32 and tensor.abs().max() > 1e-2 for tensor in spectra.values())


def test_mixed_precision_trains_a_sharded_model(sharded: Path, alone: Path) -> None:
    """FSDP computes in bfloat16, the loss too: 8 bits. Steps differ by that, their direction does not."""
    assert losses(sharded / "mixed")[0] == pytest.approx(losses(alone / "plain")[0], rel=2**-6)
    names = [name for name in weights(alone / "plain") if "spectrum" in name]
    mixed, plain = (torch.cat([weights(path)[name] for name in names]) for path in (sharded / "mixed", alone / "plain"))
    assert torch.cosine_similarity(mixed, plain, dim=0) > 0.95
    assert all(tensor.dtype == torch.float32 for tensor in weights(sharded / "mixed").values())


def test_a_language_model_trains_sharded_as_alone(sharded: Path, alone: Path) -> None:
    assert losses(sharded / "answers") == pytest.approx(losses(alone / "answers"), rel=1e-3)
    assert_close(alone / "answers", sharded / "answers", 1e-3)


def test_a_sharded_training_of_the_head_saves_the_head_alone(sharded: Path) -> None:
    assert {name: tuple(tensor.shape) for name, tensor in weights(sharded / "head").items()} == {
        "classifier.weight": (2, 32), "classifier.bias": (2,)
    }  # fmt: skip
