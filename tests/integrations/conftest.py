"""Tests of trainers and tools of others, by their own commands: collected where the tool is installed.

Each has an environment of its own: `make test-integrations`. All that loads a model runs in a process of its own there,
as a user's does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

TOOLS = ("swift", "llamafactory", "axolotl", "lm_eval", "sentence_transformers", "trackers")
HOSTS = {tool: tool for tool in TOOLS} | {"trackers": "mlflow"}
collect_ignore = [f"test_{tool}.py" for tool, host in HOSTS.items() if find_spec(host) is None]

BIN = Path(sys.executable).parent
TEXT = "user is the film good bad book dull"
LOGITS = Path(__file__).with_name("logits.py")

Run = Callable[..., str]
Logits = Callable[..., torch.Tensor]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a command of this environment in an empty folder: (*words, **variables); what it prints."""

    def run(*words: object, **variables: str) -> str:
        kept = {name: text for name, text in os.environ.items() if name not in ("FOURIERFT_ENABLE", "PYTHONPATH")}
        fixed = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path / "home")}
        fixed["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"  # some look for `accelerate` there
        command = [str(BIN / str(words[0])), *map(str, words[1:])]
        result = subprocess.run(
            command, cwd=tmp_path, env={**kept, **fixed, **variables}, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
        return result.stdout + result.stderr

    return run


@pytest.fixture
def logits(run: Run, base: Path, tmp_path: Path) -> Logits:
    """Logits of a model, `base` if left out, with an adapter or None, by stock PEFT or by this package's tuner."""

    def logits(adapter: Path | None, enabled: bool = False, base: Path = base, text: str = TEXT) -> torch.Tensor:
        variables = {"FOURIERFT_ENABLE": "1"} if enabled else {}
        run("python", LOGITS, base, adapter or "", text, tmp_path / "logits.pt", **variables)
        return torch.load(tmp_path / "logits.pt")

    return logits


@pytest.fixture
def base(run: Run, tmp_path: Path) -> Path:
    """A tiny LLaMA with a tokenizer and a chat template."""
    run("python", Path(__file__).with_name("make_base.py"), tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """A file of 12 questions with their answers."""
    words = ("good", "bad", "dull")
    rows = [
        [{"role": "user", "content": f"is the {thing} {word}"}, {"role": "assistant", "content": f"it is {word}"}]
        for thing in ("film", "book", "a", "the")
        for word in words
    ]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    return tmp_path / "chats.jsonl"


def assert_stock_reads_it(logits: Logits, adapter: Path) -> None:
    """A trained adapter changes the model, and is the same one in stock PEFT and here."""
    stock = logits(adapter)
    torch.testing.assert_close(stock, logits(adapter, enabled=True), rtol=1e-5, atol=1e-5)
    assert (stock - logits(None)).abs().max() > 1e-3
