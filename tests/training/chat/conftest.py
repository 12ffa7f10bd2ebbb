"""Conversations in tiny_llama's words, and the settings of a training of seconds on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fourierft.training.arguments import Arguments
from fourierft.training.settings import build_arguments
from tests.training.conftest import with_template

PAIRS = [("film", "good"), ("book", "bad"), ("film", "fine"), ("book", "dull")]
CHATS = [
    {
        "messages": [
            {"role": "system", "content": "quite"},
            {"role": "user", "content": f"the {noun} is"},
            {"role": "assistant", "content": f"{word} and {word}"},
            {"role": "user", "content": "but not"},
            {"role": "assistant", "content": f"very {word}" if k % 3 else word},
        ]
    }
    for k, (noun, word) in enumerate(PAIRS * 6)
]
TEMPLATE = (
    "{% for m in messages %}[BOS] {{ m['content'] }} [EOS]\n{% endfor %}{% if add_generation_prompt %}[BOS] {% endif %}"
)


@pytest.fixture
def chat_llama(tiny_llama: Path, tmp_path: Path) -> Path:
    """tiny_llama with a chat template in its words."""
    return with_template(tiny_llama, tmp_path / "chat_llama", TEMPLATE)


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """A file of 24 conversations of two questions."""
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in CHATS))
    return tmp_path / "chats.jsonl"


@pytest.fixture
def build(chat_llama: Path, chats: Path, tmp_path: Path) -> Callable[..., Arguments]:
    """Arguments of a chat training of 4 steps, with any setting changed."""

    def build(**settings: Any) -> Arguments:
        given: dict[str, Any] = {
            "model_name_or_path": str(chat_llama),
            "train_file": str(chats),
            "validation_file": str(chats),
        }
        given |= {"output_dir": str(tmp_path / "out"), "n_frequency": 50, "max_steps": 4, "task": "chat"}
        return build_arguments({**given, "use_cpu": True, "disable_tqdm": True, **settings})

    return build
