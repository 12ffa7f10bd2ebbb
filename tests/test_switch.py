"""`FOURIERFT_ENABLE=1` gives a program that knows nothing of this package its tuner; without it nothing happens."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import LlamaForCausalLM

import fourierft
from fourierft import disable, switch
from fourierft.errors import ConfigError

SOURCES = Path(fourierft.__file__).parents[1]
SCRIPT = Path(__file__).with_name("switch_script.py")


@pytest.fixture
def enabled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An interpreter that has yet to import PEFT, which is an empty module here; what was called of this package."""
    called: list[str] = []
    monkeypatch.setattr(fourierft, "enable", lambda: called.append("enable"))
    (tmp_path / "peft.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "peft", raising=False)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setenv(switch.VARIABLE, "1")
    switch.install()
    return called


def test_importing_peft_enables_and_looking_for_it_does_not(enabled: list[str]) -> None:
    assert importlib.util.find_spec("peft") is not None
    assert enabled == []
    importlib.import_module("peft")
    assert enabled == ["enable"]


def test_installing_twice_enables_once(enabled: list[str]) -> None:
    switch.install()
    importlib.import_module("peft")
    assert enabled == ["enable"]


def test_where_there_is_no_peft_nothing_is_found(enabled: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if isinstance(finder, switch.PeftFinder)])
    assert importlib.util.find_spec("peft") is None


@pytest.mark.parametrize("value", ["0", "false", "No", "OFF"])
def test_a_word_that_says_no_enables_nothing(enabled: list[str], monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(switch.VARIABLE, value)
    importlib.import_module("peft")
    assert enabled == []


def test_blanks_around_a_word_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(switch.VARIABLE, " 1 ")
    assert switch.is_on()


def test_a_word_that_says_neither_is_told(enabled: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(switch.VARIABLE, "fourier")
    with pytest.raises(ConfigError, match="FOURIERFT_ENABLE='fourier' is neither on nor off; set FOURIERFT_ENABLE=1"):
        importlib.import_module("peft")
    assert enabled == []


# Real interpreters


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment in which the package is installed, with all libraries of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    (site / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n{SOURCES}\n")
    (site / "fourierft.pth").write_text((SOURCES / "fourierft.pth").read_text())
    return folder / "bin" / "python"


def run(python: Path, *words: str, value: str | None = None) -> str:
    """What a command prints, with the variable set to a value or not at all."""
    kept = {name: text for name, text in os.environ.items() if name not in (switch.VARIABLE, "PYTHONPATH")}
    own = {} if value is None else {switch.VARIABLE: value}
    environment = {**kept, **own, "OMP_NUM_THREADS": "1"}
    result = subprocess.run([str(python), *words], capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


LOOK = "import json, sys; print(json.dumps([sorted(sys.modules), [str(type(one)) for one in sys.meta_path]]))"


def test_without_the_variable_an_interpreter_starts_as_without_the_package(python: Path) -> None:
    without = json.loads(run(python, "-S", "-c", LOOK))
    modules, finders = json.loads(run(python, "-c", LOOK))
    assert finders[-3:] == without[1]
    assert not [name for name in modules if name.partition(".")[0] in ("fourierft", "peft", "torch")]


def test_with_it_an_interpreter_loads_neither_peft_nor_torch(python: Path) -> None:
    modules, _ = json.loads(run(python, "-c", LOOK, value="1"))
    loaded = {name for name in modules if name.partition(".")[0] in ("fourierft", "peft", "torch")}
    assert loaded == {"fourierft", "fourierft.errors", "fourierft.switch"}


def test_a_script_of_others_trains_with_it_and_stock_peft_reads_what_it_saved(python: Path, tmp_path: Path) -> None:
    launch = ["-m", "accelerate.commands.accelerate_cli", "launch", "--cpu", "--num_processes", "1"]
    fixed = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    run(python, *launch, *fixed, str(SCRIPT), str(tmp_path), value="1")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["fourierft"]["scaling"] == "auto"  # which stock PEFT does not know
    disable()
    base = LlamaForCausalLM.from_pretrained(tmp_path / "base")
    with pytest.warns(UserWarning, match="fourierft"):  # the record
        model = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        logits = model(input_ids=torch.load(tmp_path / "ids.pt")).logits
    torch.testing.assert_close(logits, torch.load(tmp_path / "logits.pt"), rtol=1e-5, atol=1e-5)
