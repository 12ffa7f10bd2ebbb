"""Preferences in tiny_llama's words, and their tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoTokenizer

from fourierft.training.arguments import DataArguments
from fourierft.training.reading import read_rows

ASK, GOOD, BAD = "the film is", "good and so", "very bad"


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.fixture
def chat_tokenizer(tiny_llama: Path) -> Any:
    made = AutoTokenizer.from_pretrained(tiny_llama)
    made.chat_template = (
        "{% for m in messages %}[BOS] {{ m['content'] }} [EOS] {% endfor %}"
        "{% if add_generation_prompt %}[BOS] {% endif %}"
    )
    return made


def encode(rows: list[dict[str, Any]], tokenizer: Any, limit: int | None = None, **data: Any) -> list[dict[str, Any]]:
    reading = read_rows({"train": Dataset.from_list(rows)}, DataArguments(task="preferences", **data))
    columns, labels = reading.columns, reading.labels["train"]
    return reading.family.encode_rows(reading.rows["train"], columns, labels, tokenizer, limit).to_list()
