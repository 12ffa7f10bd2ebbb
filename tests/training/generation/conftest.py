"""E2E in small: files in its layout, and a random GPT-2 that knows their words."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

NAMES, KINDS, PRICES = ("Aromi", "Strada", "Zizzi", "Vaults"), ("pub", "restaurant", "bar"), ("cheap", "high")
WORDS = (*NAMES, *KINDS, *PRICES, *("name", "eatType", "price", "is", "a", "has", "prices", "The", "the", "There"))
MARKS = ("[", "]", ",", ".")


def e2e_rows() -> list[tuple[str, str]]:
    """Two references of each of 24 meaning representations."""
    rows = []
    for name, kind, price in itertools.product(NAMES, KINDS, PRICES):
        mr = f"name [ {name} ] , eatType [ {kind} ] , price [ {price} ]"
        rows += [(mr, f"{name} is a {price} {kind} ."), (mr, f"The {kind} {name} has {price} prices .")]
    return rows


@pytest.fixture(scope="session")
def e2e(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with trainset.csv, devset.csv and testset_w_refs.csv: columns mr and ref."""
    folder = tmp_path_factory.mktemp("e2e")
    rows = e2e_rows()
    parts = {"trainset": rows[:36], "devset": rows[36:40], "testset_w_refs": rows[40:]}
    for name, part in parts.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_ALL)
            writer.writerow(["mr", "ref"])
            writer.writerows(part)
    return folder


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory: pytest.TempPathFactory, save_tokenizer: Callable[..., int]) -> Path:
    """Directory of a random GPT-2, 2 layers x 32, with a tokenizer of those words and GPT-2's one special token."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("tiny_gpt2")
    end = "<|endoftext|>"
    special = {"unk_token": end, "bos_token": end, "eos_token": end}
    size = save_tokenizer(folder, [end, *WORDS, *MARKS], **special, model_max_length=64)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=size,
        n_positions=64,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.2,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder
