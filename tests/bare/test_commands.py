"""Every command without any extra: it works, or it names the extra that it needs in one sentence."""

from __future__ import annotations

import base64
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fourierft.cli.main import COMMANDS, main

PIXEL = base64.b64decode(  # a PNG of 1 x 1
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAIBofW2qwAAAABJRU5ErkJggg=="
)
TRAIN = "--model_name_or_path base --train_file train.csv"
PHOTOS = "--model_name_or_path base --instance_data_dir images --instance_prompt x --output_dir out"

WORKING = {
    "generate": "base --prompt good --max_new_tokens 2",
    "generate an adapter": "base --adapter adapter --prompt good --max_new_tokens 2",
    "generate a file": "base --prompts prompts.txt --output answers.jsonl --max_new_tokens 2",
    "merge": "adapter merged",
    "export lora": "adapter lora",
    "inspect": "adapter --base base",
    "inspect a store": "fleet.db",
    "store add": "fleet.db other adapter",
    "store import": "imported.db folder",
    "store list": "fleet.db",
    "store get": "fleet.db one got",
    "store export": "fleet.db all",
    "store verify": "fleet.db",
    "store stats": "fleet.db",
    "store rm": "fleet.db one",
    "blend": "fleet.db one:0.5 --as half",
}
MISSING = {
    "quickstart": ("", "train"),
    "train": (f"{TRAIN} --output_dir out", "train"),
    "train, a dry run": (f"{TRAIN} --dry_run true", "train"),
    "train images": ("--model_name_or_path base --dataset_name classes --output_dir out", "train"),
    "train chats": (f"{TRAIN} --output_dir out --task chat", "train"),
    "evaluate": ("trained --test_file train.csv", "train"),
    "evaluate texts": ("trained --test_file train.csv --generate texts", "generation"),
    "compare": ("task.yaml --output_dir out", "train"),
    "fleet demo": ("", "train"),
    "fleet train": (f"{TRAIN} --store new.db", "train"),
    "fleet dictionaries": ("", "compare"),
    "generate a file of data": ("base --prompts train.csv --output answers.jsonl", "train"),
    "generate quantised": ("base --quantization nf4 --prompt good", "quantized"),
    "answers": ("base --bench vicuna --questions q.jsonl --output answers.jsonl", "train"),
    "merge quantised": ("adapter merged --quantization torchao-int8", "quantized"),
    "export onnx": ("adapter graph", "export"),
    "export web": ("adapter site", "export"),
    "inspect a picture": ("adapter --picture picture.png", "train"),
    "store stats, a map": ("fleet.db --map map.png", "train"),
    "store list on a server": ("postgresql://nobody@localhost/fleet", "postgres"),
    "serve": ("base --store fleet.db", "serve"),
    "serve and ask": ("base --store fleet.db --ask good", "serve"),
    "dreambooth": (PHOTOS, "diffusion"),
    "dreambooth, a dry run": (f"{PHOTOS} --dry_run true", "diffusion"),
    "dreambooth sample": ("base --prompt x --images_dir made", "diffusion"),
    "dreambooth score": ("images --photos images", "diffusion"),
    "dreambooth stand-in": ("digits", "diffusion"),
}
ACTIONS = {"export": 3, "store": 8, "fleet": 3, "dreambooth": 3}  # that a command has


def words(name: str, arguments: str) -> list[str]:
    command, *more = name.partition(",")[0].split()
    action = more[:1] if command in ACTIONS and more else []
    return [command, *action, *shlex.split(arguments)]


@pytest.fixture
def run(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[list[str]], tuple[int, str]]:
    """Runs a command among the files that the commands above name; returns its status and what it says of errors."""
    import peft
    from transformers import AutoModelForCausalLM

    import fourierft

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FOURIERFT_CACHE", str(tmp_path / "cache"))
    Path("base").symlink_to(tiny_llama)
    (Path("base") / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }} {% endfor %}")
    fourierft.enable()
    model = AutoModelForCausalLM.from_pretrained("base")
    config = fourierft.FourierFTConfig(n_frequency=8, target_modules=["q_proj"], task_type="CAUSAL_LM")
    peft.get_peft_model(model, config).save_pretrained("adapter")
    shutil.copytree("adapter", "folder/one")
    store = fourierft.AdapterStore("fleet.db")
    store.add("one", "adapter")
    store.add("two", "adapter")
    Path("trained").mkdir()
    record = {"task": "answers", "labels": [], "base_model": "base", "text_columns": ["text"], "label_column": "label"}
    Path("trained/fourierft.json").write_text(json.dumps({"format": 1, **record}))
    Path("train.csv").write_text("text,label\ngood film,yes\nbad film,no\n")
    Path("prompts.txt").write_text("good film\n")
    Path("q.jsonl").write_text('{"question_id": 1, "category": "writing", "turns": ["good"]}\n')
    settings = {"model_asset": "smollm2", "data_asset": "movies", "train_rows": 8, "validation_rows": 8}
    lists = {"methods": ["lora"], "learning_rates": [1e-3]}
    Path("task.yaml").write_text(
        "\n".join(f"{key}: {json.dumps(value)}" for key, value in {**settings, **lists}.items())
    )
    for folder in ("images", "classes/a", "classes/b"):
        Path(folder).mkdir(parents=True)
        (Path(folder) / "one.png").write_bytes(PIXEL)

    def run(arguments: list[str]) -> tuple[int, str]:
        torch.manual_seed(0)
        capsys.readouterr()
        status = main(arguments)
        return status, capsys.readouterr().err

    return run


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize(("name", "arguments"), WORKING.items(), ids=str)
def test_a_command_works_without_extras(name: str, arguments: str, run: Callable[[list[str]], tuple[int, str]]) -> None:
    status, said = run(words(name, arguments))
    assert (status, "error" in said) == (0, False), said


@pytest.mark.parametrize(("name", "arguments", "extra"), [(name, *pair) for name, pair in MISSING.items()])
def test_a_command_names_the_extra_it_needs(
    name: str, arguments: str, extra: str, run: Callable[[list[str]], tuple[int, str]]
) -> None:
    status, said = run(words(name, arguments))
    assert status == 2
    assert f"'fourierft[{extra}]'" in said
    assert [line for line in said.splitlines() if line.startswith("fourierft: error: ")] == said.splitlines()[-1:]
    assert "Traceback" not in said


def test_all_commands_are_tried() -> None:
    tried = [words(name, "") for name in (*WORKING, *MISSING)]
    assert {one[0] for one in tried} == set(COMMANDS)
    for command, count in ACTIONS.items():
        assert len({one[1] for one in tried if one[0] == command and len(one) > 1}) == count


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_is_there(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*([name] if name else []), "--help"])
    assert stop.value.code == 0
    assert "usage: fourierft" in capsys.readouterr().out


def test_the_installed_command_ends_with_status_2_and_one_line(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("fourierft")), "quickstart"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr == "fourierft: error: drawing the curve needs matplotlib; pip install 'fourierft[train]'\n"
