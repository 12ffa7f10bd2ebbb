"""Every command that puts an adapter on a base refuses another base, unless it is told to take it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from fourierft.cli.main import main

Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command that has to end with a status, and gives what it wrote to stderr."""

    def run(*words: object, status: int = 0) -> str:
        capsys.readouterr()
        assert main([str(word) for word in words]) == status
        told = capsys.readouterr().err
        assert "Traceback" not in told
        return told

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    """A folder with `runs/out`, trained on `base`; `other` has the same shapes, `wide` others, `half` is a copy."""
    folder = tmp_path_factory.mktemp("bases")
    rows = [f"{'good' if i % 2 else 'bad'} film,{'pos' if i % 2 else 'neg'}" for i in range(16)]
    (folder / "data.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    config = BertConfig.from_pretrained(tiny_bert)
    torch.manual_seed(3)
    changes: dict[str, Any] = {"other": {}, "wide": {"hidden_size": 48}}
    for name, change in changes.items():
        shutil.copytree(tiny_bert, folder / name)
        BertModel(BertConfig.from_pretrained(tiny_bert, **change)).save_pretrained(folder / name)
    shutil.copytree(tiny_bert, folder / "base")
    shutil.copytree(tiny_bert, folder / "half")
    BertModel.from_pretrained(folder / "base", dtype=torch.float16).save_pretrained(folder / "half")
    assert config.hidden_size == 32
    arguments = ["--train_file", folder / "data.csv", "--output_dir", folder / "runs/out", "--max_steps", 3]
    command = ["train", "--model_name_or_path", folder / "base", *arguments, "--use_cpu", "--n_frequency", 20]
    assert main([str(word) for word in command]) == 0
    return folder


COMMANDS = {
    "merge": ["merge", "{run}", "{new}"],
    "inspect": ["inspect", "{run}"],
    "evaluate": ["evaluate", "{run}", "--test_file", "{data}", "--use_cpu"],
    "store add": ["store", "add", "{new}.db", "a", "{run}"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_base_of_the_same_shapes_is_taken_only_if_it_is_allowed(
    trained: Path, tmp_path: Path, run: Run, name: str
) -> None:
    places = {"run": trained / "runs/out", "new": tmp_path / "new", "data": trained / "data.csv"}
    command = [word.format(**places) for word in COMMANDS[name]]
    told = run(*command, "--model_name_or_path", trained / "other", status=2)
    assert "was made for the base" in told
    assert "is another model; give the right base, or, to use this one anyway, allow_other_base" in told
    run(*command, "--model_name_or_path", trained / "other", "--allow_other_base")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_base_of_other_shapes_is_never_taken(trained: Path, tmp_path: Path, run: Run, name: str) -> None:
    places = {"run": trained / "runs/out", "new": tmp_path / "new", "data": trained / "data.csv"}
    command = [word.format(**places) for word in COMMANDS[name]]
    told = run(*command, "--model_name_or_path", trained / "wide", "--allow_other_base", status=2)
    assert "48" in told
    assert "32" in told
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_copy_in_half_precision_is_the_base(trained: Path, tmp_path: Path, run: Run, name: str) -> None:
    places = {"run": trained / "runs/out", "new": tmp_path / "new", "data": trained / "data.csv"}
    run(*[word.format(**places) for word in COMMANDS[name]], "--model_name_or_path", trained / "half")


def test_an_import_lists_what_is_of_another_base_and_adds_the_rest(trained: Path, tmp_path: Path, run: Run) -> None:
    for name in ("good", "strange"):
        shutil.copytree(trained / "runs/out", tmp_path / "runs" / name)
    file = tmp_path / "runs/strange/adapter_config.json"
    content = json.loads(file.read_text())
    content["fourierft"]["base"] = {"digest": "sha256:00", "signs": "00:00"}
    file.write_text(json.dumps(content))
    told = run("store", "import", tmp_path / "fleet.db", tmp_path / "runs", status=1)
    assert "'strange' was not added: " in told
    assert "'good'" not in told
    run("store", "import", tmp_path / "fleet.db", tmp_path / "runs", "--allow_other_base")


def test_a_store_of_another_base_is_not_served_for_a_model(
    trained: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fourierft.errors import StoreError
    from fourierft.serving import launch

    run("store", "add", tmp_path / "fleet.db", "a", trained / "runs/out")
    monkeypatch.setattr(launch.vllm_internals, "vllm_version", lambda: "0.33.0")
    settings = launch.ServeSettings(str(trained / "other"), str(tmp_path / "fleet.db"))
    with pytest.raises(StoreError, match="allow_other_base"):
        launch.check(settings)
    launch.check(launch.ServeSettings(str(trained / "other"), str(tmp_path / "fleet.db"), allow_other_base=True))
    launch.check(launch.ServeSettings(str(trained / "half"), str(tmp_path / "fleet.db")))


def test_a_language_model_does_not_speak_with_another_base(tmp_path: Path, run: Run, tiny_llama: Path) -> None:
    import peft

    import fourierft

    torch.manual_seed(4)
    shutil.copytree(tiny_llama, tmp_path / "other")
    LlamaForCausalLM(LlamaConfig.from_pretrained(tiny_llama)).save_pretrained(tmp_path / "other")
    fourierft.enable()
    config = fourierft.FourierFTConfig(n_frequency=9, target_modules=["q_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(LlamaForCausalLM.from_pretrained(tiny_llama), config)
    model.save_pretrained(str(tmp_path / "adapter"))
    fourierft.disable()
    command = ["generate", "--adapter", tmp_path / "adapter", "--prompt", "film", "--use_cpu", "--max_new_tokens", 2]
    run(*command, tiny_llama)
    assert "is another model; give the right base" in run(*command, tmp_path / "other", status=2)
    run(*command, tmp_path / "other", "--allow_other_base")
