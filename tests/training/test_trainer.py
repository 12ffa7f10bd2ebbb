"""Trainings that are killed or interrupted lose nothing: they go on to the same adapter, bit for bit."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer

from fourierft.cli.main import main
from fourierft.errors import CheckpointError, PlaceError
from fourierft.training.arguments import Arguments
from fourierft.training.output import list_checkpoints
from fourierft.training.run import train
from fourierft.training.trainer import count_steps

Build = Callable[..., Arguments]
PATIENCE = 1800  # seconds: nothing waits for ever, and a machine may be busy
HELD = 10  # the step of 24 in which a training waits for what a test does to it


@pytest.fixture(scope="module")
def flags(tiny_bert: Path, reviews: Path) -> list[str]:
    """A training of 4 epochs of 6 steps, with dropout and shuffled data, that saves every second step."""
    settings = {
        "model_name_or_path": tiny_bert,
        "train_file": reviews,
        "n_frequency": 50,
        "num_train_epochs": 4,
        "validation_fraction": 0.25,
        "learning_rate": 1e-2,
        "head_learning_rate": 1e-3,
        "lr_scheduler_type": "cosine",
        "save_steps": 2,
        "use_cpu": True,
    }
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


def start(flags: list[str], output: Path, go: Path) -> subprocess.Popen[str]:
    """The command line in a process of its own, which waits in the step HELD until a file is there."""
    code = (
        "import sys, time, fourierft.training.progress as progress\n"
        "from pathlib import Path\n"
        "steps = []\n"
        "def on_step_begin(self, *_, **__):\n"
        "    steps.append(1)\n"
        f"    while len(steps) == {HELD} and not Path({str(go)!r}).exists():\n"
        "        time.sleep(0.01)\n"
        "progress.StepTimer.on_step_begin = on_step_begin\n"
        "progress.StepTimer.on_step_end = lambda self, *_, **__: None\n"
        "from fourierft.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, "train", *flags, "--output_dir", str(output)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(flags: list[str], output: Path) -> None:
    """The same command line in this process."""
    assert main(["train", *flags, "--output_dir", str(output)]) == 0


@pytest.fixture(scope="module")
def whole(flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the training that nothing disturbed."""
    output = tmp_path_factory.mktemp("whole") / "out"
    finish(flags, output)
    return output


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_same_adapter(first: Path, second: Path) -> None:
    one, other = (load_file(directory / "adapter_model.safetensors") for directory in (first, second))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert any(tensor.abs().max() > 1e-3 for tensor in one.values())


def assert_same_history(first: Path, second: Path) -> None:
    """What was logged, but for times, and for the loss of the whole training that the card shows."""
    lines, others = (json.loads((directory / "history.json").read_text()) for directory in (first, second))
    timed = ("runtime", "per_second", "_flos")
    for line in (*lines, *others):
        for name in [name for name in line if name.endswith(timed)]:
            del line[name]
    assert lines == others
    assert lines[-1]["train_loss"] > 0
    losses = [json.loads((directory / "metrics.json").read_text())["train"]["loss"] for directory in (first, second)]
    assert losses == [lines[-1]["train_loss"]] * 2


def test_killed_and_resumed_training_reaches_the_same_adapter(flags: list[str], whole: Path, tmp_path: Path) -> None:
    process = start(flags, tmp_path / "killed", tmp_path / "never")
    wait_for(tmp_path / "killed" / "checkpoint-8" / "checkpoint.json", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "adapter_model.safetensors").exists()
    finish([*flags, "--resume_from_checkpoint", "true"], tmp_path / "killed")
    assert_same_adapter(whole, tmp_path / "killed")
    assert_same_history(whole, tmp_path / "killed")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_training_saves_its_step_and_says_how_to_go_on(
    flags: list[str], whole: Path, tmp_path: Path, number: signal.Signals
) -> None:
    flags = [*flags[:-4], "--save_strategy", "no", *flags[-2:]]
    process = start(flags, tmp_path / "out", tmp_path / "go")
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    next(line for line in lines if ": loss " in line)  # steps are being done
    process.send_signal(number)
    (tmp_path / "go").touch()
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, errors
    (checkpoint,) = (tmp_path / "out").glob("checkpoint-*")
    step = int(checkpoint.name.rpartition("-")[2])
    assert 1 <= step <= HELD
    said = errors.strip().splitlines()[-1]
    assert f"interrupted at step {step} of 24, which is saved in {checkpoint}; resume with: fourierft train" in said
    assert "Traceback" not in errors
    command = said.rpartition("resume with: fourierft train ")[2].split()
    assert command[-2:] == ["--resume_from_checkpoint", "true"]
    finish(command, tmp_path / "out")
    assert_same_adapter(whole, tmp_path / "out")
    assert_same_history(whole, tmp_path / "out")


def test_a_damaged_checkpoint_is_passed_over_to_the_same_adapter(build: Build, tmp_path: Path) -> None:
    settings = {"max_steps": 8, "save_steps": 2, "save_total_limit": 8}
    train(build(**settings, output_dir=str(tmp_path / "whole")))
    train(build(**settings))
    optimizer = tmp_path / "out" / "checkpoint-8" / "optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:50])
    (tmp_path / "out" / "checkpoint-6" / "trainer_state.json").unlink()
    metrics = train(build(**settings, resume_from_checkpoint="true"))
    assert metrics["train"]["steps"] == 8
    assert_same_adapter(tmp_path / "whole", tmp_path / "out")


@pytest.mark.parametrize("step", [5, 6])
def test_resuming_inside_or_at_the_end_of_an_epoch_reaches_the_same_adapter_and_log(
    build: Build, tmp_path: Path, step: int
) -> None:
    settings = {"max_steps": 12, "eval_strategy": "epoch", "save_steps": step, "save_total_limit": 8}
    settings |= {"logging_steps": 4, "eval_on_start": True}
    train(build(**settings, output_dir=str(tmp_path / "whole")))
    train(build(**settings))
    train(build(**settings, resume_from_checkpoint=str(tmp_path / "out" / f"checkpoint-{step}")))
    assert_same_adapter(tmp_path / "whole", tmp_path / "out")
    assert_same_history(tmp_path / "whole", tmp_path / "out")
    lines = json.loads((tmp_path / "out" / "history.json").read_text())
    logged = [line["loss"] for line in lines if "loss" in line]
    assert lines[-1]["train_loss"] == pytest.approx(sum(logged) / 3, rel=1e-6)


@pytest.mark.parametrize("method", ["head", "bitfit", "full"])
def test_other_methods_resume_too(build: Build, tmp_path: Path, method: str) -> None:
    settings = {"method": method, "max_steps": 8, "save_steps": 4, "learning_rate": 1e-3}
    train(build(**settings, output_dir=str(tmp_path / "whole")))
    train(build(**settings))
    train(build(**settings, resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-4")))
    name = "model.safetensors" if method == "full" else "trained.safetensors"
    one, other = load_file(tmp_path / "whole" / name), load_file(tmp_path / "out" / name)
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_resuming_from_what_is_no_checkpoint_is_refused(build: Build, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a complete checkpoint: it was not written to its end"):
        train(build(resume_from_checkpoint=str(tmp_path)))


def test_accumulated_batches_train_as_one_batch_does(build: Build, tiny_bert: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_bert, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    still = {**config, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (model / "config.json").write_text(json.dumps(still))
    settings = {
        "model_name_or_path": str(model),
        "method": "full",
        "optim": "sgd",
        "learning_rate": 1e-2,
        "max_grad_norm": 0.0,
    }
    train(build(**settings, per_device_train_batch_size=8, output_dir=str(tmp_path / "one")))
    train(build(**settings, per_device_train_batch_size=4, gradient_accumulation_steps=2))
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "out"))
    start = load_file(model / "model.safetensors")
    key = "embeddings.word_embeddings.weight"
    moved = (one[f"bert.{key}"] - start[key]).abs().max()
    assert moved > 1e-4
    assert all((one[name] - two[name]).abs().max() < 1e-3 * moved for name in one)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"num_train_epochs": 3}, 18),
        ({"num_train_epochs": 1.5}, 9),
        ({"num_train_epochs": 2, "gradient_accumulation_steps": 4}, 4),
        ({"num_train_epochs": 2, "per_device_train_batch_size": 10, "dataloader_drop_last": True}, 8),
        ({"max_steps": 5}, 5),
    ],
)
def test_steps_are_counted_as_the_trainer_counts_them(build: Build, settings: dict[str, float], steps: int) -> None:
    arguments = build(**{"max_steps": -1, "method": "head", "eval_strategy": "no", "save_strategy": "no", **settings})
    assert count_steps(48, arguments.training) == steps
    assert train(arguments)["train"]["steps"] == steps


def test_a_checkpoint_that_has_no_room_is_told_and_those_before_it_stay(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Trainer._save_optimizer_and_scheduler

    def write_small(trainer: Trainer, folder: str) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        if trainer.state.global_step == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))  # bytes; for who writes, what a full disk is
        try:
            write(trainer, folder)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    arguments = build(save_steps=2)
    out = Path(arguments.training.output_dir or "")
    monkeypatch.setattr(Trainer, "_save_optimizer_and_scheduler", write_small)
    with pytest.raises(PlaceError, match=r"checkpoint-4 was not written: a file .* make room, then try again"):
        train(arguments)
    assert [path.name for path in list_checkpoints(out)] == ["checkpoint-2"]
    monkeypatch.undo()
    assert train(build(save_steps=2, resume_from_checkpoint="true"))["train"]["steps"] == 6


def test_weights_that_the_disk_has_no_room_for_are_told_before_the_first_step(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = build()
    free = shutil.disk_usage(Path(arguments.training.output_dir or "").parent)
    monkeypatch.setattr("shutil.disk_usage", lambda path: free._replace(free=1000))
    with pytest.raises(PlaceError, match=r"0\.0 MB left, but 0\.0 MB are needed"):
        train(arguments)
    assert not Path(arguments.training.output_dir or "").exists()


def test_a_finished_training_that_is_resumed_does_no_step_more(
    build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"max_steps": 4, "save_steps": 2}  # of 6 steps of an epoch
    metrics = train(build(**settings))
    out = tmp_path / "out"
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert train(build(**settings, resume_from_checkpoint="true")) == metrics
    assert "out has the results of all 4 steps; there is nothing left to do" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    for name in ("README.md", "adapter_model.safetensors"):  # it was killed before its results were whole
        (out / name).unlink()
    assert train(build(**settings, resume_from_checkpoint="true"))["train"]["steps"] == 4
    assert (out / "adapter_model.safetensors").read_bytes() == before[out / "adapter_model.safetensors"]
    assert [path.name for path in list_checkpoints(out)] == ["checkpoint-2", "checkpoint-4"]


def test_sharding_that_was_asked_for_and_is_not_done_is_said(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """`test_distributed.py` shards, and is not told so: there a warning is an error."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.warns(UserWarning, match="accelerate does not shard on cpu, so FSDP has no effect"):
        train(build(max_steps=1))
