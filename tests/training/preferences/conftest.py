"""Preferences in tiny_llama's words, and the settings of a training of seconds on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fourierft.training.arguments import Arguments
from fourierft.training.settings import build_arguments
from tests.training.conftest import with_template

WORDS = [("good", "bad"), ("great", "dull"), ("fine", "poor"), ("lovely", "awful"), ("very good", "bad")]
TEMPLATE = (
    "{% for m in messages %}[BOS] {{ m['content'] }} [EOS] {% endfor %}{% if add_generation_prompt %}[BOS] {% endif %}"
)
PAIRS = [
    {
        "prompt": [{"role": "user", "content": f"the {noun} is"}],
        "chosen": [{"role": "assistant", "content": f"{good} and so" if k % 3 else good}],
        "rejected": [{"role": "assistant", "content": f"very {bad}"}],
    }
    for k in range(20)
    for noun, (good, bad) in [(("film", "book")[k % 2], WORDS[k % 5])]
]
FEEDBACK = [
    {"prompt": row["prompt"], "completion": row[part], "label": part == "chosen"}
    for row in PAIRS
    for part in ("chosen", "rejected")
]


def write(rows: list[dict[str, Any]], file: Path) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def chat_llama(tiny_llama: Path, tmp_path: Path) -> Path:
    """tiny_llama with a chat template in its words."""
    return with_template(tiny_llama, tmp_path / "chat_llama", TEMPLATE)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write(PAIRS, tmp_path / "pairs.jsonl")


@pytest.fixture
def feedback(tmp_path: Path) -> Path:
    return write(FEEDBACK, tmp_path / "feedback.jsonl")


@pytest.fixture
def build(chat_llama: Path, tmp_path: Path) -> Callable[..., Arguments]:
    """Arguments of a training of 4 steps on a file, with any setting changed."""

    def build(file: Path, **settings: Any) -> Arguments:
        given: dict[str, Any] = {"model_name_or_path": str(chat_llama), "train_file": str(file), "task": "preferences"}
        given |= {"validation_file": str(file), "output_dir": str(tmp_path / "out"), "max_steps": 4, "use_cpu": True}
        return build_arguments({**given, "per_device_train_batch_size": 4, "disable_tqdm": True, **settings})

    return build


@pytest.fixture
def started(build: Callable[..., Arguments], pairs: Path, tmp_path: Path) -> Path:
    """The folder of an adapter that has learned to chat a little."""
    from fourierft.training.run import train

    rows = [{"messages": [*row["prompt"], *row["chosen"]]} for row in PAIRS]
    chats = write(rows, tmp_path / "chats.jsonl")
    train(build(chats, task="chat", output_dir=str(tmp_path / "started"), n_frequency=60, learning_rate=1e-2))
    return tmp_path / "started"
